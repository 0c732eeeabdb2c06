package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Next is TryNext, but waits for a block.
func (q *Queue) Next(ctx context.Context) (*Block, error) {
	for {
		if b, err := q.TryNext(); b != nil || err != nil {
			return b, err
		}
		select {
		case <-q.Ready():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Ready is called when TryNext had no block. The channel is closed when there may be
// one.
func (q *Queue) Ready() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.availableLocked() || q.isClosed() {
		now := make(chan struct{})
		close(now)
		return now
	}
	q.consumerWaits = true
	q.poke()
	return q.changed
}

// TryNext gives the blocks in order, durable ones only: nil, nil when nothing durable
// waits, or not before a gap is durable that comes first.
func (q *Queue) TryNext() (*Block, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.isClosed() {
			return nil, ErrClosed
		}
		if !q.availableLocked() {
			return nil, nil //nolint:nilnil // nothing waits: neither a block nor a failure
		}
		b := q.gaps.durable.at(q.next)
		if b == nil {
			b = q.ring.take(q.next)
		}
		if b == nil {
			seq, moves, inspected := q.next, q.moves, q.inspectedLocked()
			q.reading = true
			q.mu.Unlock()
			got, lost, err := q.read(seq, inspected)
			q.mu.Lock()
			q.reading = false
			q.reader.closeOld(q.segs)
			switch {
			case q.isClosed():
				return nil, errors.Join(ErrClosed, q.reader.close())
			case err != nil:
				return nil, err
			case moves != q.moves || !q.availableLocked():
				continue // by Rewind, or a gap; or it is being dropped
			case got == nil && !inspected:
				q.missed = &missed{seq: seq, rewrites: q.rewrites}
				q.poke()
				continue
			case got == nil:
				q.requestGapLocked(lost, "check the disk's health")
				continue
			}
			b = got
		}
		if r := (Range{q.next, min(b.next(), q.ident.until(q.next))}); b.gap == nil && r != b.Range() {
			var err error
			if b, err = b.part(r); err != nil { // the stream changes within the block
				return nil, err
			}
		}
		b.sid = q.ident.sid(b.first)
		q.next = b.next()
		q.handedOut = max(q.handedOut, q.next)
		q.flight = append(q.flight, b.Range())
		return b, nil
	}
}

// availableLocked reports whether there is a block to give out. There is none where a gap
// is on its way, or the writer looks for the block.
func (q *Queue) availableLocked() bool {
	return q.next < q.durable && q.gaps.pending.at(q.next) == nil &&
		(q.missed == nil || q.missed.seq != q.next || q.missed.inspected)
}

// ring is the newest durable blocks, in memory: contiguous, and not given out.
type ring struct {
	blocks []*Block
	size   int64
}

func (r *ring) push(b *Block) {
	r.blocks = append(r.blocks, b)
	r.size += int64(cap(b.buf))
}

func (r *ring) pop() *Block {
	b := r.blocks[0]
	r.blocks[0] = nil
	r.blocks = r.blocks[1:]
	r.size -= int64(cap(b.buf))
	return b
}

// take gives the block that begins at seq, and releases those before it; nil: it
// is not here.
func (r *ring) take(seq uint64) *Block {
	for len(r.blocks) > 0 && r.blocks[0].first <= seq {
		if b := r.pop(); b.first == seq {
			return b
		}
	}
	return nil
}

// Ack reports that every record below to is final. The receipt r is kept with the
// cursor, which moves by whole blocks. If to covers records that were not given out,
// Ack returns ErrAck and acknowledges nothing.
func (q *Queue) Ack(to uint64, r Receipt) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if to > q.next {
		return fmt.Errorf("%w: up to %d, given out %d", ErrAck, to, q.next)
	}
	for len(q.flight) > 0 && q.flight[0].End <= to {
		q.acked = q.flight[0].End
		q.flight = q.flight[1:]
	}
	q.gaps.durable.acknowledge(q.acked)
	q.receipt = r
	q.broadcastLocked()
	q.poke()
	return nil
}

// Rewind makes Next go back to the block that holds record to, which is given
// out and not acknowledged; with the cursor, to all such.
func (q *Queue) Rewind(to uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := slices.IndexFunc(q.flight, func(r Range) bool { return r.has(to) })
	switch {
	case k >= 0:
		q.next = q.flight[k].First
		q.flight = q.flight[:k]
	case to != q.next:
		return fmt.Errorf("rewind to %d: it is not under way (%d to %d)", to, q.acked, q.next)
	}
	q.moves++
	q.missed = nil
	q.broadcastLocked()
	return nil
}

// Diverge gives the records from seq on, up to the next change of stream, a new
// stream id, durably: the receiver has other lines under these numbers, because
// a queue was restored and its numbers were used twice. Next goes back to seq,
// which was given out and is not acknowledged, if it is not before it already.
func (q *Queue) Diverge(seq uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq < q.acked || seq >= q.handedOut {
		return fmt.Errorf("diverge at %d: it is not under way (%d to %d)", seq, q.acked, q.handedOut)
	}
	if g := q.gaps.durable.at(seq); g != nil {
		seq = g.first // a gap is delivered whole, in one stream
	}
	next := identity{home: q.ident.home, pairs: slices.Clone(q.ident.pairs)}
	next.diverge(seq)
	if err := next.write(q.fsys); err != nil {
		return err
	}
	q.ident = next
	for len(q.flight) > 0 && q.flight[len(q.flight)-1].End > seq {
		last := &q.flight[len(q.flight)-1]
		if last.First < seq {
			last.End = seq
			break
		}
		q.flight = q.flight[:len(q.flight)-1]
	}
	q.next, q.ring, q.missed = min(q.next, seq), ring{}, nil
	q.moves++
	q.broadcastLocked()
	return nil
}

// Release takes back the memory of a block that Next gave, for another one: the
// block and what Encoded gave must not be used any more. A consumer that does
// not say so is only slower.
func (q *Queue) Release(b *Block) {
	if b.gap == nil { // a gap may be given out again
		q.pool.put(b.buf)
		b.buf = nil
	}
}
