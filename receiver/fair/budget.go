// Package fair shares a number of bytes between names, so that one of them cannot
// take it all from the others: with a semaphore, who comes first is served first,
// and a name with a hundred sessions gets a hundred times as much.
package fair

import (
	"container/list"
	"context"
	"sync"
)

// Budget is a number of bytes that is acquired, and released, under a
// name. A name may hold as much as is then left for the others: one name can
// hold half, two a third each, and so on. A name that holds nothing gets what it
// asks for if it is there. Where several names wait, they are served in turn, and
// within a name the one that came first.
type Budget struct {
	mu      sync.Mutex // guards the fields below
	total   int64
	free    int64
	names   map[string]*account // that hold something, or wait
	waiting list.List           // of *account that has waiters, the next to be served in front
}

// account is what one name holds and waits for.
type account struct {
	held  int64
	queue []*waiter // who came first in front
	turn  *list.Element
}

type waiter struct {
	n     int64
	given chan struct{} // closed when it has n
}

// New makes a budget of n bytes.
func New(n int64) *Budget { return &Budget{total: n, free: n, names: map[string]*account{}} }

// Free gives the number of bytes that nobody holds.
func (b *Budget) Free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free
}

// TryAcquire takes n bytes for name if that need not wait.
func (b *Budget) TryAcquire(name string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.account(name)
	ok := len(a.queue) == 0 && b.grant(a, n)
	b.forgetIdle(name, a)
	return ok
}

// Acquire takes n bytes for name as soon as it may have them. What exceeds the
// whole is as good as the whole: it waits until nobody holds anything.
func (b *Budget) Acquire(ctx context.Context, name string, n int64) error {
	b.mu.Lock()
	a := b.account(name)
	if len(a.queue) == 0 && b.grant(a, n) {
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	if a.queue = append(a.queue, w); a.turn == nil {
		a.turn = b.waiting.PushBack(a)
	}
	b.mu.Unlock()

	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.given: // meanwhile: it is not wanted any more
		b.free += n
		a.held -= n
	default:
		for i := range a.queue {
			if a.queue[i] == w {
				a.queue = append(a.queue[:i], a.queue[i+1:]...)
				break
			}
		}
	}
	b.serve() // those behind w
	b.forgetIdle(name, a)
	return ctx.Err()
}

// Release gives n bytes back that name holds.
func (b *Budget) Release(name string, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.account(name)
	a.held -= n
	b.free += n
	b.serve()
	b.forgetIdle(name, a)
}

func (b *Budget) account(name string) *account {
	a := b.names[name]
	if a == nil {
		a = &account{}
		b.names[name] = a
	}
	return a
}

// forgetIdle forgets an account that has nothing to remember.
func (b *Budget) forgetIdle(name string, a *account) {
	if len(a.queue) == 0 && a.turn != nil {
		b.waiting.Remove(a.turn)
		a.turn = nil
	}
	if a.held == 0 && len(a.queue) == 0 && b.names[name] == a {
		delete(b.names, name)
	}
}

// grant gives n bytes to a if it may have them now.
func (b *Budget) grant(a *account, n int64) bool {
	left := b.free - n
	if left < 0 && b.free < b.total || a.held > 0 && a.held+n > left {
		return false
	}
	b.free = left
	a.held += n
	return true
}

// serve gives to those that wait, in turn, what they may have now.
func (b *Budget) serve() {
	for refused := 0; refused < b.waiting.Len(); {
		a := b.waiting.Front().Value.(*account)
		if len(a.queue) > 0 && b.grant(a, a.queue[0].n) {
			close(a.queue[0].given)
			a.queue = a.queue[1:]
			refused = 0
		} else {
			refused++
		}
		if len(a.queue) > 0 {
			b.waiting.MoveToBack(a.turn)
		} else {
			b.waiting.Remove(a.turn)
			a.turn = nil
			refused = 0
		}
		if b.free <= 0 {
			return
		}
	}
}
