package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// session is one WebSocket life. One goroutine, serve, owns everything below
// and does all the writing; a second one reads and hands over what it read. run
// ends both.
type session struct {
	r    *Relay
	conn *websocket.Conn
	wire *wire
	url  *url.URL
	sid  string
	key  *handshake.Secret // nil: neither end proves anything in the handshake
	log  *slog.Logger

	claim func() *Fault // called before anything of the relay's is used beside the queue's Stats; nil: nobody else does

	transcript handshake.Transcript // of the handshake
	granted    *handshake.Welcome   // how it came out; nil: it has not yet

	in   chan inbound
	done chan struct{} // closed when nobody takes from in any more
	gone chan struct{} // closed when nobody puts into in any more

	pack  packer
	win   window
	ready *batch // packed, and waiting for space
	b     uint64 // number of the last batch
	buf   []byte // header of a data message

	interval time.Duration // between pings
	ackTo    time.Duration

	draining   bool           // send nothing more, take the last receipts, close
	fault      *Fault         // why; nil: there were no more lines
	peerBye    *handshake.Bye // the receiver's bye
	peerErr    *handshake.Err // the receiver's word on why it is about to close
	receipts   int
	naks       refusals
	busy       time.Time     // when the receiver first said so since its last receipt; zero: it has not
	busyLogged string        // the reason that was logged last
	busyAgain  time.Duration // how long after busy another one may be logged
	rejects    throttle

	receipt, idle, drain *time.Timer
}

// inbound is one message of the receiver, or the end of the connection.
type inbound struct {
	frame handshake.Frame
	raw   []byte    // as it came
	at    time.Time // when it came: serve may be busy writing
	err   error
}

func newSession(r *Relay, conn *websocket.Conn, w *wire, u *url.URL, sid string, key *handshake.Secret) *session {
	s := &session{
		r: r, conn: conn, wire: w, url: u, sid: sid, key: key, log: r.log.With("url", logURL(u)),
		in: make(chan inbound, windowMost), done: make(chan struct{}), gone: make(chan struct{}),
		rejects: throttle{every: r.pace.quiet},
		receipt: stopped(), idle: stopped(), drain: stopped(),
	}
	s.pack = packer{q: r.q, sid: s.sid, recompressor: r.recompressor}
	return s
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// run opens the session, does what it is for, and closes the connection. The
// fault is nil if the end was our own wish; the queue then waits to be rewound,
// as always.
func (s *session) run(ctx context.Context, do func(context.Context) *Fault) *Fault {
	go s.read()
	stop := s.wire.closeAfter(ctx, s.r.pace.goodbye)
	fault := s.open(ctx)
	if fault == nil && ctx.Err() == nil {
		fault = do(ctx)
	}
	s.close(fault)
	stop()
	<-s.gone
	return fault
}

// read hands the receiver's messages to the loop until the connection ends.
func (s *session) read() {
	defer close(s.gone)
	for {
		kind, msg, err := s.conn.ReadMessage()
		m := inbound{err: err}
		if err == nil {
			m = decode(kind, msg)
		}
		m.at = time.Now()
		select {
		case s.in <- m:
		case <-s.done:
			return
		}
		if m.err != nil {
			return
		}
	}
}

// decode reads one message; a receiver sends text only.
func decode(kind int, msg []byte) inbound {
	if kind != websocket.TextMessage {
		return inbound{err: protocolError(websocket.CloseUnsupportedData, errors.New("a binary message"))}
	}
	f, err := handshake.Decode(msg)
	if err != nil {
		return inbound{err: protocolError(handshake.CloseBadFrame, err)}
	}
	return inbound{frame: f, raw: msg}
}

func (s *session) welcome(w *handshake.Welcome, cursor uint64) {
	s.granted = w
	s.r.recompressor.begin()
	s.pack.limit(w, s.r.ceiling)
	s.win = newWindow(cursor, w.Win)
	s.setPing(min(max(millis(w.HB), minPing), s.r.o.Ping))
	s.ackTo = millis(w.AckTo)
	s.r.status.set(StateConnected, logURL(s.url))
	s.r.report.welcomed(s.url, w)
}

// minPing bounds how often a receiver can make us ping.
const minPing = 100 * time.Millisecond

func (s *session) setPing(d time.Duration) {
	s.interval = d
	s.wire.guard(d * 5 / 2)
}

// always is ready whenever a select asks.
var always = make(chan struct{})

func init() { close(always) }

// serve sends what waits and takes receipts until something ends the session.
func (s *session) serve(ctx context.Context) *Fault {
	ping := time.NewTicker(s.interval)
	defer ping.Stop()
	s.idle.Reset(s.r.o.IdleClose)
	for {
		now, more, fault := s.fill()
		if fault != nil {
			return fault
		}
		if s.draining && s.win.empty() && s.peerErr == nil {
			return s.drainResult()
		}
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.in:
			fault = s.handle(m)
		case <-more:
		case <-now:
			fault = s.send()
		case <-ping.C:
			fault = s.writeFault(s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(s.interval)))
		case <-s.receipt.C:
			fault = s.overdue()
		case <-s.idle.C:
			if s.win.empty() && s.ready == nil {
				fault = s.beginDrain("idle", nil)
			}
		case <-s.drain.C:
			return s.drainResult()
		}
		if fault != nil {
			return fault
		}
	}
}

// fill packs the next batch. The first channel is ready if that may leave, the second
// one when the queue may have more; both are nil if neither is waited for.
func (s *session) fill() (now, more <-chan struct{}, fault *Fault) {
	if s.draining {
		return nil, nil, nil
	}
	if s.ready == nil {
		b, err := s.pack.next()
		fault, known := errors.AsType[*Fault](err)
		switch {
		case errors.Is(err, errOtherStream):
			return nil, nil, s.beginDrain("drain", nil)
		case known:
			return nil, nil, s.beginDrain("drain", fault)
		case err != nil:
			return nil, nil, s.beginDrain("drain", QueueFault(err))
		case b == nil:
			return nil, s.r.q.Ready(), nil
		}
		if b.lost != nil {
			if fault := s.quarantine(b); fault != nil {
				return nil, nil, s.beginDrain("drain", fault)
			}
		}
		s.ready = b
	}
	if s.win.canSend(s.ready.size()) {
		now = always
	}
	return now, nil, nil
}

// send writes the batch that is ready.
func (s *session) send() *Fault {
	b := s.ready
	s.ready = nil
	s.b++
	var n int
	var err error
	if b.gap != nil {
		n, err = 0, s.text(&handshake.Gap{
			B: s.b, Seq: b.seq, N: b.end - b.seq, Why: b.gap.Why, Maybe: b.gap.Maybe,
			At: b.at.UnixMilli(), From: b.gap.From, To: b.gap.To,
		})
	} else {
		s.buf = handshake.AppendData(s.buf[:0], handshake.Data{
			B: s.b, Seq: b.seq, N: int(b.end - b.seq), At: b.at.UnixMilli(), Enc: b.enc.String(), Raw: b.raw, C: b.crc,
		}, nil)
		n, err = len(s.buf)+len(b.payload), s.binary(s.buf, b.payload)
	}
	// It counts as sent even if only a part of it left.
	s.r.status.sent(b, n)
	if s.win.empty() {
		s.receipt.Reset(s.ackTo)
	}
	s.win.add(flight{
		seq: b.seq, end: b.end, size: b.size(), raw: b.raw, enc: b.enc, recompressed: b.recompressed,
	})
	s.idle.Reset(s.r.o.IdleClose)
	s.log.Debug("batch sent", "b", s.b, "seq", b.seq, "end", b.end, "bytes", n)
	return s.writeFault(err)
}

func (s *session) text(f handshake.Frame) error {
	return s.conn.WriteMessage(websocket.TextMessage, handshake.Encode(f))
}

// binary writes one message of the parts without joining them first.
func (s *session) binary(parts ...[]byte) error {
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

// beginDrain ends the session because we have no more for it, or because of a
// fault on our side; what is on its way still gets its receipts.
func (s *session) beginDrain(why string, f *Fault) *Fault {
	s.fault = f
	s.sendNoMore()
	return s.writeFault(s.text(&handshake.Bye{Why: why}))
}

// sendNoMore begins the wait for the last receipts.
func (s *session) sendNoMore() {
	s.draining = true
	s.drain.Reset(s.r.pace.drain)
}
