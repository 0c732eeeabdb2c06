package receiver

import (
	"context"
	"fmt"
	"strings"
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
	waitFree(t, r.budget, r.opts.Budget)
}

// Invariant 4.
func TestSession_WaitsForTheBudget(t *testing.T) {
	block := newGate(t)
	store := &memStore{hook: func(context.Context, []Batch) error { block.wait(); return nil }}
	r, url := serve(t, store, Options{Budget: 1, AckTimeout: 60 * time.Millisecond}) // raised to maxCost
	s := connect(t, url)
	half := strings.Repeat("x", maxCost/2-1000)
	s.lines(1, half)
	other := dial(t, url)
	h := hello(1)
	h.SID = "vvvvvvvvvvvvvvvv"
	other.control(h)
	want[*handshake.Welcome](other)
	other.lines(1, half)
	third := dial(t, url)
	h.SID = "uuuuuuuuuuuuuuuu"
	third.control(h)
	want[*handshake.Welcome](third)
	sent := make(chan struct{})
	go func() { defer close(sent); third.lines(1, half) }() // nobody reads it yet
	waiting := map[string]bool{}
	for _, s := range []*sender{s, other, third} {
		busy := want[*handshake.Busy](s)
		waiting[busy.Why] = true
	}
	if !waiting["quota"] {
		t.Error("three halves fit into the budget")
	}
	block.open()
	<-sent
	for _, s := range []*sender{s, other, third} {
		for {
			f, err := s.read()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := f.(*handshake.Ack); ok {
				break
			}
		}
	}
	waitFree(t, r.budget, maxCost)
}

// Invariant 4, for a message that has to be decoded: what comes takes memory, too.
func TestSession_PaysForWhatIsYetToBeDecoded(t *testing.T) {
	block := newGate(t)
	store := &memStore{hook: func(context.Context, []Batch) error { block.wait(); return nil }}
	r, url := serve(t, store, Options{Budget: 1}) // raised to maxCost
	d, payload := batch(1, strings.Repeat("x", 300_000))
	d.B, d.Enc = 1, handshake.EncS2
	payload = s2.EncodeSnappy(nil, payload)
	d.C = handshake.CRC(payload)
	s := dialBuffered(t, url, 1<<10)
	s.control(hello(1))
	want[*handshake.Welcome](s)
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(handshake.AppendData(nil, d, payload[:5000])); err != nil { // of about 14,000
		t.Fatal(err)
	}
	waitTaken(t, r.budget, cost(d)+int64(s2.MaxEncodedLen(d.Raw)))
	_, _ = w.Write(payload[5000:])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	waitFree(t, r.budget, maxCost-cost(d))
	block.open()
	s.wantAck(2)
	waitFree(t, r.budget, maxCost)
}

// Whoever keeps the budget for messages that do not come gives way to whoever
// waits for it: the one whose message has been coming longest.
func TestSession_GivesTheBudgetOfWhoDribbles(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{Budget: 1, AckTimeout: 100 * time.Millisecond}) // raised to maxCost
	begin := func(sid string, raw int) *sender {                                            // a message of so many bytes, of which none comes
		s, h := dialBuffered(t, url, 4<<10), hello(1)
		h.SID = sid
		s.control(h)
		want[*handshake.Welcome](s)
		w, err := s.conn.NextWriter(websocket.BinaryMessage)
		if err == nil {
			_, err = w.Write(handshake.AppendData(nil, handshake.Data{B: 1, Seq: 1, N: 1, Enc: handshake.EncRaw, Raw: raw, C: "00000000"}, make([]byte, 8<<10)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := begin("vvvvvvvvvvvvvvvv", maxRaw-1)
	waitTaken(t, r.budget, maxRaw-1)
	second := begin("uuuuuuuuuuuuuuuu", maxRaw/4)
	waitTaken(t, r.budget, maxRaw+maxRaw/4-1)
	honest := connect(t, url)
	honest.lines(1, strings.Repeat("x", maxRaw-1000))
	first.wantClose(websocket.CloseMessageTooBig)
	for {
		f, err := honest.read()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(*handshake.Ack); ok { // else it says busy
			break
		}
	}
	second.conn.Close()
	waitFree(t, r.budget, maxCost)
}

func waitTaken(t *testing.T, b *budget, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); b.take(maxCost-n+1) == nil; time.Sleep(time.Millisecond) {
		b.release(maxCost - n + 1)
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of the budget are not taken", n)
		}
	}
}

func waitFree(t *testing.T, b *budget, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.acquire(ctx, n); err != nil {
		t.Fatalf("the budget has not got back all: %v", err)
	}
	if b.take(1) == nil {
		t.Error("the budget has grown")
	}
	b.release(n)
}
