package elastic

import (
	"sync"
	"time"
)

// blockTimeout is how long lines wait for an index that an administrator has
// closed to writes. Then they become dead letters, so that one old day does not
// hold back the stream.
const blockTimeout = 10 * time.Minute

// blockSilence is how long an index may have refused nothing and still count as
// blocked all the while: lines that wait for it come again every few seconds.
const blockSilence = 2 * time.Minute

// blocks remembers since when indices refuse every write.
type blocks struct {
	now func() time.Time

	mu    sync.Mutex
	known map[string]block
}

// block is one of an index: its first refusal, and its last.
type block struct{ since, last time.Time }

// isOld notes that the index is blocked and reports whether it has been for
// blockTimeout.
func (b *blocks) isOld(index string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, k := b.now(), b.known[index]
	if b.known == nil {
		b.known = make(map[string]block)
	}
	if now.Sub(k.last) > blockSilence { // another block, or the first
		k.since = now
	}
	k.last = now
	b.known[index] = k
	return now.Sub(k.since) >= blockTimeout
}

// lifted notes that the index takes writes.
func (b *blocks) lifted(index string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, index)
}
