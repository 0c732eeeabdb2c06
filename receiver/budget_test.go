package receiver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/s2"

	"wsrelay/handshake"
)

// What the store has not answered for stays as it came, while later batches
// come into memory that earlier ones had.
func TestSession_UsesMemoryAgainOnlyWhenTheStoreIsDone(t *testing.T) {
	const lines, early, all = 100, 3, 24
	block, entered := newGate(t), newGate(t)
	store := &memStore{hook: func(_ context.Context, batches []Batch) error {
		if batches[0].Seq > early*lines {
			entered.open()
			block.wait()
		}
		return nil
	}}
	line := func(seq uint64) string { return fmt.Sprint(seq, strings.Repeat(string(rune('a'+seq/lines)), 1000)) }
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	for b := range uint64(all) {
		text := make([]string, lines)
		for i := range text {
			text[i] = line(1 + b*lines + uint64(i))
		}
		s.lines(1+b*lines, text...)
		switch b {
		case early - 1:
			s.wantAck(1 + early*lines)
		case early:
			entered.wait()
		case early + 8:
			waitQueued(t, r, 8)
			block.open()
		}
	}
	s.wantAck(1 + all*lines)
	for seq := uint64(1); seq <= all*lines; seq++ {
		if got, want := store.get(seq), line(seq); got != want {
			t.Fatalf("line %d is %.20q…, want %.20q…", seq, got, want)
		}
	}
	waitFree(t, r)
}

// open begins a session of a stream, with a buffer that sends at once what is
// written.
func open(t *testing.T, url, sid, token string) *sender {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, WriteBufferSize: 4 << 10}
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, _, err := d.DialContext(t.Context(), url, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	s, h := &sender{t: t, conn: conn}, hello(1)
	h.SID = sid
	s.control(h)
	want[*handshake.Welcome](s)
	return s
}

// begin sends the first bytes of a message that announces a line of raw bytes.
func (s *sender) begin(raw, sent int) io.WriteCloser {
	s.t.Helper()
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err == nil {
		d := handshake.Data{B: 1, Seq: 1, N: 1, Enc: handshake.EncRaw, Raw: raw, C: "00000000"}
		_, err = w.Write(handshake.AppendData(nil, d, make([]byte, sent)))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

// wantAckUnhindered is that no busy comes before the receipt.
func (s *sender) wantAckUnhindered(seq uint64) {
	s.t.Helper()
	if ack := want[*handshake.Ack](s); ack.Seq != seq {
		s.t.Fatalf("ack of %d, want %d", ack.Seq, seq)
	}
}

// wantAckAfterBusy takes busy for an answer that is to come.
func (s *sender) wantAckAfterBusy(seq uint64) (why map[string]bool) {
	s.t.Helper()
	why = map[string]bool{}
	for {
		f, err := s.read()
		if err != nil {
			s.t.Fatal(err)
		}
		switch f := f.(type) {
		case *handshake.Busy:
			why[f.Why] = true
		case *handshake.Ack:
			if f.Seq != seq {
				s.t.Fatalf("ack of %d, want %d", f.Seq, seq)
			}
			return why
		}
	}
}

func sidOf(i int) string { return fmt.Sprintf("%016d", i) }

var twoTokens = Access{Unbound: true, Tokens: handshake.Secrets{
	{Name: "hog", Value: []byte("the token of the hog")}, {Name: "honest", Value: []byte("the token of the honest")},
}}

// Invariant 4. Two of the largest messages fit, and no sender has both.
func TestSession_WaitsForMemory(t *testing.T) {
	block := newGate(t)
	store := &memStore{hook: func(context.Context, []Batch) error { block.wait(); return nil }}
	r, url := serve(t, store, Options{Budget: 1, AckTimeout: 3 * time.Second})
	long := strings.Repeat("x", maxRaw-1000)
	var wg sync.WaitGroup
	senders := make([]*sender, 3)
	waiting := make([]bool, 3)
	for i := range senders {
		s := open(t, url, sidOf(i), "")
		senders[i] = s
		wg.Go(func() { s.lines(1, long) }) // nobody may read it yet
	}
	for i, s := range senders {
		waiting[i] = want[*handshake.Busy](s).Why == "quota"
	}
	if n := len(slices.DeleteFunc(waiting, func(w bool) bool { return !w })); n != 2 {
		t.Errorf("%d of three wait for memory, want two", n)
	}
	block.open()
	for _, s := range senders {
		s.wantAckAfterBusy(2)
	}
	wg.Wait()
	waitFree(t, r)
}

// Invariant 4: what comes takes memory, too, as it comes; what it is decoded to
// only when all of it is there.
func TestSession_PaysForWhatComes(t *testing.T) {
	block := newGate(t)
	store := &memStore{hook: func(context.Context, []Batch) error { block.wait(); return nil }}
	r, url := serve(t, store, Options{})
	d, payload := batch(1, strings.Repeat("x", 3_000_000))
	d.B, d.Enc = 1, "s2"
	payload = s2.EncodeSnappy(nil, payload)
	d.C = handshake.CRC(payload)
	s := open(t, url, sid, "")
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(handshake.AppendData(nil, d, payload[:5000])); err != nil {
		t.Fatal(err)
	}
	all := newMemory(r.opts.Budget)
	waitFor(t, func() bool { return r.memory.arriving.Free() == all.arriving.Free()-arriveSize },
		"what comes is not paid for")
	_, _ = w.Write(payload[5000:])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		return r.memory.arriving.Free() == all.arriving.Free() &&
			r.memory.decoded(cost(d)).Free() == all.decoded(cost(d)).Free()-cost(d)
	}, "what is decoded is not paid for")
	block.open()
	s.wantAck(2)
	waitFree(t, r)
}

// A hundred sessions of one sender announce 16 MiB each, and nearly nothing comes.
func TestSession_WhatIsAnnouncedTakesNoMemory(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{AckTimeout: 2 * time.Second, Access: twoTokens})
	for i := range 100 {
		open(t, url, sidOf(i), string(twoTokens.Tokens[0].Value)).begin(16<<20, 8<<10)
	}
	all := newMemory(r.opts.Budget)
	waitFor(t, func() bool { return all.arriving.Free()-r.memory.arriving.Free() >= 20*arriveSize },
		"the hog takes nothing")
	for name, token := range map[string]int{"of another name": 1, "of the same name": 0} {
		honest := open(t, url, sidOf(1000+token), string(twoTokens.Tokens[token].Value))
		honest.lines(1, "a line "+name)
		if token == 1 {
			honest.wantAckUnhindered(2)
		} else {
			honest.wantAckAfterBusy(2) // when the slow messages have been ended, all at once
		}
	}
}

// Messages that have been coming for long give way together to those that wait.
func TestSession_SlowMessagesEndTogether(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{Budget: 1, AckTimeout: time.Second})
	var slow []*sender
	sent := make(chan io.Writer, 2)
	for i := range 2 { // each has the memory of the first MiB, and waits for the rest, or has it
		s := open(t, url, sidOf(i), "")
		slow = append(slow, s)
		go func() { sent <- s.begin(maxRaw-1, growSize+100_000) }()
	}
	waitFor(t, func() bool { return r.memory.large.Free() < 2*maxCost }, "none has come so far")
	honest := open(t, url, sid, "")
	go honest.lines(1, strings.Repeat("x", maxRaw-1000))
	for _, s := range slow {
		s.wantClose(websocket.CloseMessageTooBig)
	}
	honest.wantAckAfterBusy(2)
	<-sent
	<-sent
	waitFree(t, r)
}

func waitFor(t *testing.T, is func() bool, otherwise string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// waitFree waits until nobody holds any memory.
func waitFree(t *testing.T, r *Receiver) {
	t.Helper()
	all := newMemory(r.opts.Budget)
	waitFor(t, func() bool {
		return r.memory.arriving.Free() == all.arriving.Free() && r.memory.growing.Free() == all.growing.Free() &&
			r.memory.large.Free() == all.large.Free() && r.memory.small.Free() == all.small.Free()
	}, "not all memory has been returned")
}
