package receiver

import (
	"context"
	"sync"
)

// budget is a number of bytes that many take from and give back to. Who waits
// is served in turn, so that small requests do not starve a large one.
type budget struct {
	turn chan struct{} // held by the one that waits for free

	mu    sync.Mutex // guards the fields below
	free  int64
	freed chan struct{} // closed when free grows
}

func newBudget(n int64) *budget {
	return &budget{turn: make(chan struct{}, 1), free: n, freed: make(chan struct{})}
}

// tryAcquire takes n if nobody waits and n is free.
func (b *budget) tryAcquire(n int64) bool {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
		return b.take(n) == nil
	default:
		return false
	}
}

// acquire takes n, which must not exceed the whole, as soon as it is free.
func (b *budget) acquire(ctx context.Context, n int64) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		freed := b.take(n)
		if freed == nil {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take takes n, or says what to wait for.
func (b *budget) take(n int64) (freed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n {
		return b.freed
	}
	b.free -= n
	return nil
}

func (b *budget) release(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	close(b.freed)
	b.freed = make(chan struct{})
}
