package relay

import (
	"time"

	"wsrelay/buffer"
)

// backlogAge distinguishes a backlog from lines that have just come.
const backlogAge = 10 * time.Second

// Paced gives out q's backlog, lines that have waited for 10 s, at no more than
// rate bytes a second, counted as they are on the wire and by whole blocks, which
// have up to 1 MiB, or one line. Newer lines alone are not delayed; but the
// order is kept, so they wait for a backlog before them. At a rate below that
// of what comes in, a backlog never ends.
func Paced(q Queue, rate int64) Queue { return &paced{Queue: q, rate: float64(rate)} }

type paced struct {
	Queue
	rate float64

	held      *buffer.Block // taken from the queue, and too early
	notBefore time.Time     // when the next block of a backlog may go
}

// TryNext is Queue's.
func (p *paced) TryNext() (*buffer.Block, error) {
	if p.held == nil {
		b, err := p.Queue.TryNext()
		if b == nil || err != nil {
			return nil, err
		}
		p.held = b
	}
	b, now := p.held, time.Now()
	if now.Sub(b.At()) >= backlogAge && b.Gap() == nil {
		if now.Before(p.notBefore) {
			return nil, nil //nolint:nilnil // as if nothing waited
		}
		p.notBefore = now.Add(time.Duration(float64(onWire(b)) / p.rate * float64(time.Second)))
	}
	p.held = nil
	return b, nil
}

// onWire is what b takes there at most: small blocks are joined, decoded.
func onWire(b *buffer.Block) int {
	if b.RawLen() <= joinBytes {
		return b.RawLen()
	}
	return len(b.Encoded())
}

// Ready is Queue's.
func (p *paced) Ready() <-chan struct{} {
	if p.held == nil {
		return p.Queue.Ready()
	}
	due := make(chan struct{})
	time.AfterFunc(time.Until(p.notBefore), func() { close(due) })
	return due
}

// Rewind is Queue's.
func (p *paced) Rewind(to uint64) error {
	p.held = nil
	return p.Queue.Rewind(to)
}

// Diverge is Queue's.
func (p *paced) Diverge(seq uint64) error {
	p.held = nil
	return p.Queue.Diverge(seq)
}
