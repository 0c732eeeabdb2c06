package elastic

import (
	"sync"
	"time"
)

// blockPatience is how long lines wait for an index that an administrator has
// closed to writes. Then they become dead letters, so that one old day does not
// hold back the stream.
const blockPatience = 10 * time.Minute

// blocks remembers since when indices refuse every write.
type blocks struct {
	now func() time.Time

	mu    sync.Mutex
	since map[string]time.Time
}

// isOld notes that the index is blocked and reports whether it has been for
// blockPatience.
func (b *blocks) isOld(index string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	since, ok := b.since[index]
	if !ok {
		if b.since == nil {
			b.since = make(map[string]time.Time)
		}
		since = b.now()
		b.since[index] = since
	}
	return b.now().Sub(since) >= blockPatience
}

// lifted notes that the index takes writes.
func (b *blocks) lifted(index string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.since, index)
}
