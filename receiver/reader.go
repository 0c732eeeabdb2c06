package receiver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/receiver/fair"
)

// readMessages reads until the session is over and says why that is.
func (s *session) readMessages() *closeReason {
	answerPing := s.conn.PingHandler()
	s.conn.SetPingHandler(func(data string) error { s.alive(); return answerPing(data) })
	s.conn.SetPongHandler(func(string) error { s.alive(); return nil })

	saidBye := false // the sender said bye
	for {
		s.alive()
		kind, r, err := s.conn.NextReader()
		if err != nil {
			return readError(err)
		}
		r = aliveReader{s, r}
		var e *closeReason
		switch {
		case saidBye || s.ctx.Err() != nil:
			_, err = io.Copy(io.Discard, r)
		case kind == websocket.BinaryMessage:
			header := headers.Get().(*bufio.Reader)
			header.Reset(r)
			e, err = s.readData(header)
			header.Reset(nil)
			headers.Put(header)
		default:
			saidBye, e, err = s.readControl(r)
		}
		switch {
		case err != nil:
			return readError(err)
		case e != nil:
			return e
		}
	}
}

// headers are readers that hold the longest header of a data message. A session
// has one while it reads such a message: most sessions are idle.
var headers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, handshake.MaxHeader+1) }}

// aliveReader takes every byte as a sign of life: a long message over a slow
// line is no dead peer.
type aliveReader struct {
	s *session
	r io.Reader
}

func (a aliveReader) Read(b []byte) (int, error) {
	a.s.alive()
	return a.r.Read(b)
}

func (s *session) readControl(r io.Reader) (saidBye bool, e *closeReason, err error) {
	msg, err := io.ReadAll(io.LimitReader(r, handshake.MaxControl+1))
	if err != nil {
		return false, nil, err
	}
	frame, err := handshake.Decode(msg)
	if err != nil {
		return false, badFrame(err), nil
	}
	switch f := frame.(type) {
	case *handshake.Gap:
		epoch, ok := s.inOrder(f.Seq, f.B)
		if ok && s.admitDay(time.UnixMilli(f.At)) {
			batch := Batch{SID: s.hello.SID, Host: s.hello.Host, Seq: f.Seq, At: time.UnixMilli(f.At).UTC(), Gap: f}
			s.enqueue(&item{Batch: batch, b: f.B, epoch: epoch})
			s.log.Warn("gap in the stream", "seq", f.Seq, "n", f.N, "why", f.Why,
				"effect", fmt.Sprintf("%d lines of this host will never come; the sender dropped or lost them", f.N),
				"hint", "the sender's log says what happened")
		}
		return false, nil, nil
	case *handshake.Bye:
		s.back = time.Duration(f.AfterMS) * time.Millisecond
		close(s.queue)
		return true, nil, nil
	}
	return false, badFrame(fmt.Errorf("%T is not for a receiver in a session", frame)), nil
}

func badFrame(err error) *closeReason {
	return &closeReason{code: handshake.CloseBadFrame, msg: err.Error()}
}

// readData takes one data message: header, order, price, payload. An error is
// one of the connection.
func (s *session) readData(r *bufio.Reader) (*closeReason, error) {
	d, err := readHeader(r)
	if errors.Is(err, handshake.ErrFrame) {
		return badFrame(err), nil
	}
	if err != nil {
		return nil, err
	}
	epoch, ok := s.inOrder(d.Seq, d.B)
	if !ok {
		_, err := io.Copy(io.Discard, r)
		return nil, err
	}
	price := cost(d)
	if d.Raw > maxRaw || price > maxCost {
		s.refuse(&handshake.Nak{B: d.B, Code: handshake.NakTooBig, Expect: d.Seq, Max: maxRaw})
		_, err := io.Copy(io.Discard, r)
		return nil, err
	}
	if !s.admitDay(d.Time()) {
		return nil, nil // the session has ended
	}
	body, held, err := s.unpack(d, r)
	switch code := nakFor(err); {
	case errors.Is(err, errEnded):
		return nil, nil
	case code != "":
		s.refuse(&handshake.Nak{B: d.B, Code: code, Expect: d.Seq})
		_, err := io.Copy(io.Discard, r)
		return nil, err
	case err != nil:
		return nil, err
	}
	batch := Batch{SID: s.hello.SID, Host: s.hello.Host, Seq: d.Seq, At: d.Time(), Lines: body.lines, text: body.text}
	s.enqueue(&item{Batch: batch, b: d.B, epoch: epoch, body: body, held: held})
	return nil, nil
}

// unpack reads the payload of d and takes it apart. It pays for memory before it
// takes it. After an error nothing is held.
func (s *session) unpack(d handshake.Data, r io.Reader) (b *body, held share, err error) {
	defer s.arrivingSince.Store(0)
	mem, price := &s.r.memory, cost(d)
	move := func(of *fair.Budget, n int64) bool {
		s.arrivingSince.Store(0) // it is not the sender that is slow
		next, ok := s.pay(of, n)
		held.release()
		held = next
		s.arrivingSince.Store(time.Now().UnixNano())
		return ok
	}
	grow := func(size int) bool {
		switch {
		case size <= arriveSize:
			return move(mem.arriving, int64(size))
		case size <= growSize:
			return move(mem.growing, int64(size))
		}
		return move(mem.large, min(int64(size)+price, maxCost))
	}
	wire, err := readWire(d, r, grow)
	if err == nil && !check(d, wire.text) {
		wire.recycle()
		err = errDecode
	}
	if err == nil && held.of != mem.large && !move(mem.decoded(price), price) {
		wire.recycle()
		err = errEnded
	}
	if err == nil {
		b, err = decode(d, wire)
	}
	if err != nil {
		held.release()
		return nil, share{}, err
	}
	return b, held, nil
}

// readHeader reads the header line of a data message. Errors that wrap
// handshake.ErrFrame are the peer's fault, others the connection's.
func readHeader(r *bufio.Reader) (handshake.Data, error) {
	head, err := r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return handshake.Data{}, err
	}
	d, _, err := handshake.DecodeData(head) // says itself what a line without an end is
	return d, err
}

// inOrder says whether the batch b, which starts at seq, is the next one. If
// not, it has been answered or is to be ignored.
func (s *session) inOrder(seq, b uint64) (epoch int, ok bool) {
	epoch, expect, result := s.order.check(seq)
	if result == outOfOrder {
		s.refuse(&handshake.Nak{B: b, Code: handshake.NakOrder, Expect: expect})
	}
	return epoch, result == next
}

// refuse answers a batch with nak; all data is ignored until nak.Expect comes.
func (s *session) refuse(nak *handshake.Nak) {
	s.order.refuse()
	s.r.counters.refusedBatches.Add(1)
	if s.refused++; s.refused == 1 {
		s.log.Warn("batch refused", "code", nak.Code, "seq", nak.Expect,
			"effect", "nothing is lost: the sender sends it again",
			"hint", "if it continues, something between sender and receiver changes the data, or one of them is faulty; the end of the session says how often")
	}
	s.send(nak)
}

// enqueue hands a batch to the committer.
func (s *session) enqueue(it *item) {
	if !s.order.advance(it.epoch, it.End()) { // the store diverged in the meantime: it will come again
		s.release(it)
		return
	}
	select {
	case s.queue <- it:
	case <-s.ctx.Done():
		s.release(it)
	}
}
