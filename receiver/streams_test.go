package receiver

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/handshake"
)

// Invariant 5.
func TestSession_NewerWaitsForTheOldersLastCommit(t *testing.T) {
	var order []string
	var mu sync.Mutex
	entered, finish := newGate(t), newGate(t)
	store := &memStore{hook: func(_ context.Context, batches []Batch) error {
		name := string(batches[0].Lines[0])
		mu.Lock()
		order = append(order, name+" begins")
		mu.Unlock()
		if name == "old" {
			entered.open()
			finish.wait() // as a store does that cannot be interrupted
		}
		mu.Lock()
		order = append(order, name+" ends")
		mu.Unlock()
		return nil
	}}
	_, url := serve(t, store, Options{})
	older := connect(t, url)
	older.lines(1, "old")
	entered.wait()
	newer := connect(t, url)
	older.wantClose(handshake.CloseSuperseded)
	newer.lines(2, "new")
	third := connect(t, url) // does not find the way free because the second has left
	newer.wantClose(handshake.CloseSuperseded)
	third.lines(3, "third")
	finish.open()
	third.wantAck(4)

	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order, ", "); got != "old begins, old ends, third begins, third ends" {
		t.Errorf("got %s", got)
	}
}

// Invariant 1.
// A copied queue runs twice: each session of one ends that of the other.
func TestSession_TwoSendersOfOneStreamTakeTurns(t *testing.T) {
	log := new(lockedBuffer)
	_, url := serve(t, &memStore{}, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	open := func(boot string) *sender {
		s := dial(t, url)
		h := hello(1)
		h.Boot = boot
		s.control(h)
		want[*handshake.Welcome](s)
		return s
	}
	owner := open("a")
	owner.lines(1, "one") // welcome comes before the stream is taken, the receipt does not
	owner.wantAck(2)
	for k := range contestTimes {
		next := open([]string{"b", "a"}[k%2])
		owner.wantClose(handshake.CloseSuperseded)
		next.lines(1, "one")
		next.wantAck(2)
		owner = next
	}
	other := open("a")
	refusal := want[*handshake.Err](other)
	if refusal.Code != handshake.CloseSuperseded || refusal.AfterMS != contestRetry.Milliseconds() {
		t.Errorf("got %+v, want 4409 and a minute", refusal)
	}
	owner.lines(2, "two")
	owner.wantAck(3)
	if got := log.String(); !strings.Contains(got, "two senders have one stream") {
		t.Errorf("log:\n%s", got)
	}
	owner.conn.Close() // the other may have it now
	for other = nil; other == nil; {
		s := open("a")
		s.lines(1, "one")
		if f, err := s.read(); err == nil {
			if _, ok := f.(*handshake.Ack); ok {
				other = s
			}
		}
	}
}

func TestStream_IsContestedForTenMinutes(t *testing.T) {
	owner := &session{hello: &handshake.Hello{Boot: "a"}}
	st := &stream{owner: owner}
	start := time.Now()
	for k := range contestTimes {
		if st.contested("b", start.Add(time.Duration(k)*time.Second)) {
			t.Fatalf("contested after %d takeovers", k)
		}
	}
	for after, want := range map[time.Duration]bool{time.Minute: true, contestTime - time.Nanosecond: true} {
		if got := st.contested("b", start.Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
	if st.contested("a", start.Add(time.Minute)) {
		t.Error("a process contests its own stream")
	}
	if st.contested("b", start.Add(contestTime)) {
		t.Error("still contested after ten minutes")
	}
}
