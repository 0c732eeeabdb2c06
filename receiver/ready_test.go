package receiver

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// readyStore is a memStore that knows whether it can store lines.
type readyStore struct {
	memStore
	err   atomic.Pointer[error]
	asked atomic.Int64
}

func (s *readyStore) Ready(context.Context) error {
	s.asked.Add(1)
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// wrapped hides what the store behind it can do.
type wrapped struct{ Store }

func (w wrapped) Unwrap() Store { return w.Store }

func TestReady_SaysWhatTheStoreSays(t *testing.T) {
	store := &readyStore{}
	r := New(wrapped{store}, Options{})
	if err := r.Ready(); err != nil {
		t.Fatal(err)
	}
	full := errors.New("the disk is full")
	store.err.Store(&full)
	for range 100 {
		_ = r.Ready()
	}
	if n := store.asked.Load(); n > 2 {
		t.Errorf("the store was asked %d times within a second", n)
	}
	r.ready.at = time.Time{}
	if err := r.Ready(); !errors.Is(err, full) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	store.err.Store(nil)
	r.ready.at = time.Time{}
	if err := r.Ready(); err != nil {
		t.Error(err)
	}
	r.Shutdown()
	if err := r.Ready(); err == nil {
		t.Error("it is ready while it shuts down")
	}
}

// newFailingStore takes nothing while fails is set, as it is at first.
func newFailingStore() (store *memStore, fails *atomic.Bool) {
	fails = new(atomic.Bool)
	fails.Store(true)
	return &memStore{hook: func(context.Context, []Batch) error {
		if fails.Load() {
			return errors.New("no disk")
		}
		return nil
	}}, fails
}

// A store that cannot be asked is known by what it did with the last lines.
func TestReady_CountsFailedCommits(t *testing.T) {
	store, fails := newFailingStore()
	r, url := serve(t, store, Options{})
	p := connect(t, url)
	p.lines(1, "a")
	for r.Ready() == nil {
		time.Sleep(10 * time.Millisecond)
		r.ready.at = time.Time{}
	}
	if err := r.Ready(); !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
	fails.Store(false)
	p.wantAck(2)
	r.ready.at = time.Time{}
	if err := r.Ready(); err != nil {
		t.Error(err)
	}
}
