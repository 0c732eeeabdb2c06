package receiver

import (
	"context"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// Invariant 6.
func TestShutdown_ReceiptsWhatWasSent(t *testing.T) {
	store, entered, block := standing(t)
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "one")
	entered.wait()
	s.lines(2, "two")
	done := make(chan struct{})
	go func() { defer close(done); r.Shutdown() }()
	if bye := want[*handshake.Bye](s); bye.Why != "shutdown" || bye.AfterMS != 5000 {
		t.Errorf("got bye %+v", bye)
	}
	status, _ := get(t, url, http.Header{"Sec-Websocket-Protocol": {handshake.Subprotocol}})
	if status != http.StatusServiceUnavailable {
		t.Errorf("a new session got %d, want 503", status)
	}
	block.open()
	s.wantAck(3)
	s.control(&handshake.Bye{Why: "drain"})
	s.wantClose(websocket.CloseNormalClosure)
	<-done
}

func TestShutdown_ClosesWhoDoesNotLeave(t *testing.T) {
	hang := func(ctx context.Context, _ []Batch) error { <-ctx.Done(); return ctx.Err() }
	r, url := serve(t, &memStore{hook: hang}, Options{DrainTimeout: 20 * time.Millisecond})
	busy, idle, mute := connect(t, url), dial(t, url), dial(t, url)
	h := hello(1)
	h.SID = "vvvvvvvvvvvvvvvv"
	idle.control(h)
	want[*handshake.Welcome](idle)
	busy.lines(1, "one")
	done := make(chan struct{})
	go func() { defer close(done); r.Shutdown() }()
	for _, s := range []*sender{busy, idle, mute} {
		s.wantClose(websocket.CloseServiceRestart)
	}
	<-done
}

func TestSession_EndsWithoutASignOfLife(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{Heartbeat: 20 * time.Millisecond})
	connect(t, url) // and read nothing, so that no ping is answered
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		r.mu.Lock()
		n := len(r.sessions)
		r.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the session of a dead sender lives on")
		}
	}
}

func TestSession_StaysWithASilentSenderThatAnswersPings(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{Heartbeat: 200 * time.Millisecond})
	s := connect(t, url)
	pings := make(chan struct{}, 100)
	answer := s.conn.PingHandler()
	s.conn.SetPingHandler(func(data string) error { pings <- struct{}{}; return answer(data) })
	acked := make(chan error, 1)
	go func() { // reading answers pings
		_, err := s.read()
		acked <- err
	}()
	for range 5 { // twice what a dead sender would get
		select {
		case <-pings:
		case err := <-acked:
			t.Fatal(err)
		}
	}
	s.lines(1, "still here")
	if err := <-acked; err != nil {
		t.Error(err)
	}
}

func TestSession_LetsACommitFinishWhenTheSenderIsGone(t *testing.T) {
	entered, finish := newGate(t), newGate(t)
	store := &memStore{hook: func(ctx context.Context, _ []Batch) error {
		entered.open()
		finish.wait()
		return ctx.Err()
	}}
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "one")
	entered.wait()
	r.mu.Lock()
	var session *session
	for session = range r.sessions {
	}
	r.mu.Unlock()
	s.conn.Close()
	<-session.ctx.Done()
	finish.open()
	r.running.Wait()
	if got := store.get(1); got != "one" {
		t.Errorf("stored %q, want what was under way", got)
	}
}
