package buffer

import (
	"slices"
	"sync"
)

// A block begins small and, if many lines come at once, continues in a buffer for
// a whole one. Those are used again as soon as nobody needs the block in them.
const (
	smallBlock = 4096
	wholeBlock = headerLen + MaxBlock + alignment
	maxSpares  = 4
	maxUsed    = 2 // a sync makes one block, seldom two, of many lines
)

// bufferPool has buffers for whole blocks that nobody uses.
type bufferPool struct {
	mu   sync.Mutex
	free [][]byte
}

// get is a buffer of n bytes, from what was put back if it is worth it.
func (s *bufferPool) get(n int64) []byte {
	if n <= wholeBlock/2 || n > wholeBlock {
		return make([]byte, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	if last < 0 {
		return make([]byte, n, wholeBlock)
	}
	b := s.free[last]
	s.free = s.free[:last]
	return b[:n]
}

// put keeps a buffer for a whole block, if b is one and they are few.
func (s *bufferPool) put(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(b) != wholeBlock || len(s.free) == maxSpares {
		return false
	}
	s.free = append(s.free, b)
	return true
}

// encodeMemory is memory that encoding needs again and again.
type encodeMemory struct {
	scratch []byte
	buffers [][]byte // of blocks that nobody will read
}

// buffer is an empty one for n bytes, and not many more.
func (u *encodeMemory) buffer(n int64) []byte {
	for k, b := range u.buffers {
		if c := int64(cap(b)); n <= c && c <= n+n/4 {
			u.buffers = slices.Delete(u.buffers, k, k+1)
			return b[:0]
		}
	}
	if len(u.buffers) > 0 { // of a size that is out of use
		u.buffers = slices.Delete(u.buffers, 0, 1)
	}
	return make([]byte, 0, n)
}

// put gives a buffer back, which is kept if it is no larger than usual.
func (u *encodeMemory) put(b []byte) {
	if cap(b) <= wholeBlock && len(u.buffers) < maxUsed {
		u.buffers = append(u.buffers, b)
	}
}
