package receiver

import (
	"bytes"
	"math/bits"
	"slices"
	"sync"

	"wsrelay/handshake"
)

// body is the memory of a decoded batch.
type body struct {
	text  []byte   // the lines, each with its newline
	lines [][]byte // without them, in the memory of text
}

// Memory of ordinary batches is used again: to have it new costs more than to
// decode into it. What is smaller costs little, and what is larger is rare. It
// comes in sizes of powers of two, so that a batch never holds more than twice
// what it needs, and what is not in use for a while goes back to the system.
const (
	leastRecycled = 16 // the power of two
	mostRecycled  = 20
)

var bodies [mostRecycled + 1]sync.Pool

// power gives the power of two that holds size bytes, and whether memory of
// that size is used again.
func power(size int) (n int, recycled bool) {
	n = bits.Len(uint(max(size-1, 0)))
	return n, leastRecycled <= n && n <= mostRecycled
}

// newBody gives the body of d, whose text fill writes. fill must write all of
// it: the memory holds what another batch has left.
func newBody(d handshake.Data, fill func(text []byte) error) (*body, error) {
	b := acquireBody(d.Raw)
	err := fill(b.text)
	if err == nil && !b.split(d.N) {
		err = errDecode
	}
	if err != nil {
		b.recycle()
		return nil, err
	}
	return b, nil
}

func acquireBody(size int) *body {
	n, recycled := power(size)
	if !recycled {
		return &body{text: make([]byte, size)}
	}
	b, ok := bodies[n].Get().(*body)
	if !ok {
		b = &body{text: make([]byte, 1<<n)}
	}
	b.text = b.text[:size]
	return b
}

// recycle takes b back. Nobody may use it, nor its lines, any more.
func (b *body) recycle() {
	n, recycled := power(cap(b.text))
	if !recycled || cap(b.text) != 1<<n {
		return
	}
	if lineHeader*cap(b.lines) > 1<<n { // see cost
		b.lines = nil
	}
	bodies[n].Put(b)
}

// cost is what the body of d takes in memory at most, in bytes.
func cost(d handshake.Data) int64 {
	text, lines := int64(d.Raw), lineHeader*int64(d.N)
	if n, recycled := power(d.Raw); recycled {
		text = 1 << n
		lines = max(lines, text) // it may have had more lines before
	}
	return text + lines
}

// split cuts the text into exactly n lines; each must have its newline.
func (b *body) split(n int) bool {
	b.lines = slices.Grow(b.lines[:0], n)
	for rest := b.text; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 || len(b.lines) == n {
			return false
		}
		b.lines = append(b.lines, rest[:end:end])
		rest = rest[end+1:]
	}
	return len(b.lines) == n
}

var newline = []byte{'\n'}
