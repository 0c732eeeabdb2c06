package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// memory is a queue in memory: blocks of one line each, of which as many can
// be had as were released.
type memory struct {
	sid    string
	blocks []*buffer.Block // block k holds number k+1
	each   func()          // called for each line that has its receipt

	mu      sync.Mutex
	free    int // blocks that can be had
	read    int // the next
	cursor  int // the first without a receipt
	receipt buffer.Receipt
	more    chan struct{} // closed and replaced when free grows
}

// newMemory makes a queue of n lines, that a real one has encoded.
func newMemory(dir, name string, n int, each func()) (m *memory, err error) {
	dir = filepath.Join(dir, name)
	ctx := context.Background()
	q, _, err := buffer.Open(ctx, dir, buffer.Options{Codec: new(codec.Raw)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close(ctx), os.RemoveAll(dir)) }()
	m = &memory{sid: q.Stats().SID, each: each, more: make(chan struct{})}
	for k := range n {
		r, err := q.Append(ctx, fmt.Appendf(nil, "%s line %d\n", name, k), 1, buffer.Origin{})
		if err != nil {
			return nil, err
		}
		if err := q.WaitDurable(ctx, r.End); err != nil {
			return nil, err
		}
		b, err := q.Next(ctx)
		if err != nil {
			return nil, err
		}
		m.blocks = append(m.blocks, b)
	}
	return m, nil
}

// release lets one more line go.
func (m *memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free++
	close(m.more)
	m.more = make(chan struct{})
}

// TryNext is relay.Queue's.
func (m *memory) TryNext() (*buffer.Block, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read == m.free {
		return nil, nil //nolint:nilnil // nothing waits
	}
	m.read++
	return m.blocks[m.read-1], nil
}

// Ready is relay.Queue's.
func (m *memory) Ready() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read < m.free {
		now := make(chan struct{})
		close(now)
		return now
	}
	return m.more
}

// Ack is relay.Queue's.
func (m *memory) Ack(to uint64, r buffer.Receipt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.cursor+1 < int(to); m.cursor++ {
		m.blocks[m.cursor] = nil
		m.each()
	}
	m.receipt = r
	return nil
}

// Rewind is relay.Queue's.
func (m *memory) Rewind(to uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read = int(to) - 1
	return nil
}

// Diverge is relay.Queue's. Nothing diverges here.
func (m *memory) Diverge(seq uint64) error {
	return fmt.Errorf("the receiver has another line under %s", handshake.UID(m.sid, seq))
}

// Stats is relay.Queue's.
func (m *memory) Stats() buffer.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return buffer.Stats{
		SID: m.sid, Cursor: uint64(m.cursor) + 1, Durable: uint64(m.free) + 1, Head: uint64(m.free) + 1,
		Receipt: m.receipt,
	}
}
