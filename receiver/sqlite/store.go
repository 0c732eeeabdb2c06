package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// ErrClosed is returned by Commit after Close.
var ErrClosed = errors.New("the store is closed")

// groupBytes bounds the lines of one transaction. One Commit may bring more.
const groupBytes = 8 << 20

// Options of a Store; the zero value is the default.
type Options struct {
	Retain Retain
	Log    *slog.Logger // nil: nothing is logged
}

// Store is a receiver.Store in an SQLite file. Its methods may be called
// concurrently.
type Store struct {
	*Reader
	path     string
	retain   Retain
	log      *slog.Logger
	writer   *writer // used by run alone until done is closed
	requests chan *request
	quit     chan struct{}
	done     chan struct{}
	close    func() error
}

var _ receiver.Store = (*Store)(nil)

// request is one Commit, or one SetOwner, on its way to the writing goroutine and
// back.
type request struct {
	batches []receiver.Batch
	owner   *setOwner // nil: a Commit
	results []receiver.Result
	err     error
	done    chan struct{} // closed when results and err are set
}

func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

func (r *request) bytes() int {
	n := 0
	for i := range r.batches {
		for _, line := range r.batches[i].Lines {
			n += len(line)
		}
	}
	return n
}

// Open opens the store at path and creates it if there is no such file; its
// directory must exist. The caller must Close the store.
func Open(path string, o Options) (*Store, error) {
	s, err := openStore(path, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	go s.run()
	return s, nil
}

func openStore(path string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w, err := openWriter(path)
	if err != nil {
		return nil, err
	}
	r, err := openReader(path)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	s := &Store{
		Reader:   r,
		path:     path,
		retain:   o.Retain,
		log:      o.Log,
		writer:   w,
		requests: make(chan *request),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.close = sync.OnceValue(func() error {
		close(s.quit)
		<-s.done
		return errors.Join(s.Reader.Close(), s.writer.close())
	})
	return s, nil
}

// Begin implements receiver.Store.
func (s *Store) Begin(*handshake.Hello) {}

// Describe implements receiver.Store.
func (s *Store) Describe() (name, guarantee string) { return "sqlite", handshake.ExactlyOnce }

// Close waits for the transaction under way and closes the file. What is not
// in the full-text index yet will be indexed after the next Open.
func (s *Store) Close() error { return s.close() }

// Commit implements receiver.Store. It gives up when ctx ends before a
// transaction has taken the batches up; from then on it waits for the outcome,
// so the lines are the caller's again when it returns. Another error than a
// *receiver.DivergedError, such as a full disk, leaves the store as it was and
// ready for the next try.
func (s *Store) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	if err := checkRange(batches); err != nil {
		return nil, fmt.Errorf("store %s: %w", s.path, err)
	}
	if len(batches) == 0 {
		return nil, nil
	}
	r := &request{batches: batches, done: make(chan struct{})}
	if err := s.do(ctx, r); err != nil {
		return nil, fmt.Errorf("store %s: %w", s.path, err)
	}
	return r.results, nil
}

func (s *Store) do(ctx context.Context, r *request) error {
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return ErrClosed
	}
	<-r.done
	return r.err
}

// run is the goroutine that writes: Commits first, chores in between, when no
// Commit has come for a moment, and after one if the chore is due.
func (s *Store) run() {
	defer close(s.done)
	chores := s.chores()
	for committed := (time.Time{}); ; {
		free := time.Now()
		wait := time.Duration(-1)
		for _, c := range chores {
			if in := c.in(committed); in >= 0 && (wait < 0 || in < wait) {
				wait = in
			}
		}
		var idle <-chan time.Time
		if wait >= 0 {
			idle = time.After(wait)
		}
		select {
		case <-s.quit:
			return
		case <-idle:
			for _, c := range chores {
				if c.in(committed) == 0 {
					c.do()
				}
			}
		case r := <-s.requests:
			start := time.Now()
			s.writer.commit(s.gather(r))
			committed = time.Now()
			for _, c := range chores {
				c.after(committed.Sub(start), start.Sub(free))
			}
		}
	}
}

// gather adds to r the Commits that wait, up to groupBytes.
func (s *Store) gather(r *request) []*request {
	group := []*request{r}
	for n := r.bytes(); n < groupBytes; {
		select {
		case r := <-s.requests:
			group = append(group, r)
			n += r.bytes()
		default:
			return group
		}
	}
	return group
}
