package receiver

import (
	"time"

	"wsrelay/receiver/fair"
)

// memory is what batches may take of it, of all sessions together. Each part is
// shared fairly between senders. A message goes from part to part, and what it
// holds of one it returns when it has what it needs of the next: so nobody
// waits for memory that is held by those who wait for his.
//
//	arriving  the first 256 KiB of a payload as it comes; most are no longer
//	growing   the first 1 MiB of one that turns out to be
//	large     what is larger, coming or decoded, all of it at once
//	small     decoded batches of ordinary size, on their way to the store
type memory struct {
	arriving, growing, large, small *fair.Budget
}

const (
	arriveSize = 256 << 10
	growSize   = 1 << 20
	smallCost  = 4 << 20     // of a decoded batch: an ordinary one has 1 MiB of lines
	largeMost  = 2 * maxCost // two of the largest messages
	minBudget  = largeMost + 28<<20
)

func newMemory(n int64) memory {
	large := max(n/4, largeMost)
	rest := n - large
	return memory{
		arriving: fair.New(rest / 4), growing: fair.New(rest / 8), large: fair.New(large),
		small: fair.New(rest - rest/4 - rest/8),
	}
}

// decoded gives the part for a decoded batch.
func (m *memory) decoded(cost int64) *fair.Budget {
	if cost > smallCost {
		return m.large
	}
	return m.small
}

// share is what one account holds of a part.
type share struct {
	of   *fair.Budget // nil: nothing
	name string
	n    int64
}

func (h share) release() {
	if h.of != nil {
		h.of.Release(h.name, h.n)
	}
}

// pay acquires n bytes of a part; it waits while others have them. False means
// that the session has ended.
func (s *session) pay(of *fair.Budget, n int64) (share, bool) {
	h := share{of, s.party.name, n}
	if of.TryAcquire(h.name, n) {
		return h, true
	}
	s.memorySince.Store(time.Now().UnixNano())
	defer s.memorySince.Store(0)
	if of.Acquire(s.ctx, h.name, n) != nil {
		return share{}, false
	}
	return h, true
}
