package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Readier is a Store that knows, without storing anything, whether it could store
// lines now.
type Readier interface {
	// Ready says why it could not; nil: nothing is known that would stop it.
	Ready(ctx context.Context) error
}

const (
	readyTime  = 3 * time.Second // that a store has for its answer
	readyFresh = time.Second     // how long an answer is used again: anybody may ask
	readyFails = time.Minute     // how long a failed commit counts, if the store says that it is ready
)

var errShuttingDown = errors.New("the receiver is shutting down")

// readiness is the newest answer of the store.
type readiness struct {
	mu  sync.Mutex // held while the store is asked; guards the fields below
	at  time.Time
	err error
}

// Ready says why lines would not be stored now; nil: they would be. The store is
// asked once a second at most.
func (r *Receiver) Ready() error {
	r.mu.Lock()
	closing := r.closing
	r.mu.Unlock()
	if closing {
		return errShuttingDown
	}
	r.ready.mu.Lock()
	defer r.ready.mu.Unlock()
	if time.Since(r.ready.at) >= readyFresh {
		r.ready.err = r.askStore()
		r.ready.at = time.Now()
	}
	return r.ready.err
}

func (r *Receiver) askStore() error {
	since, last, err := r.health.state()
	store, ok := storeAs[Readier](r.store)
	if ok {
		ctx, cancel := context.WithTimeout(context.Background(), readyTime)
		defer cancel()
		if err := store.Ready(ctx); err != nil {
			return err
		}
	}
	// A store that says it is ready may be so again since senders last tried.
	if err != nil && (!ok || time.Since(last) < readyFails) {
		return fmt.Errorf("the store has failed since %s: %w", since.Format(time.RFC3339), err)
	}
	return nil
}

// storeAs gives the store as a T, or the one that it stands for.
func storeAs[T any](s Store) (found T, ok bool) {
	for {
		if found, ok = s.(T); ok {
			return found, true
		}
		u, unwraps := s.(interface{ Unwrap() Store })
		if !unwraps {
			return found, false
		}
		s = u.Unwrap()
	}
}
