package receiver

import (
	"sync"
	"sync/atomic"
	"time"
)

// bucket lets so much through in a second, and burst at once.
type bucket struct {
	rate, burst float64

	mu    sync.Mutex // guards the fields below
	level float64
	at    time.Time
}

func newBucket(rate, burst float64) *bucket {
	return &bucket{rate: rate, burst: max(burst, 1), level: max(burst, 1)}
}

func (b *bucket) takeToken(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.at.IsZero() {
		b.level = min(b.level+b.rate*now.Sub(b.at).Seconds(), b.burst)
	}
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// complaints lets few log lines through and counts the others.
type complaints struct {
	*bucket
	suppressed atomic.Int64
}

func (c *complaints) allow() (suppressed int64, ok bool) {
	if !c.takeToken(time.Now()) {
		c.suppressed.Add(1)
		return 0, false
	}
	return c.suppressed.Swap(0), true
}
