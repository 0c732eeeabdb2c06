package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"wsrelay/internal/codec"
)

// Errors that callers meet.
var (
	ErrClosed = errors.New("queue is closed")
	ErrAck    = errors.New("acknowledgement of records that were not given out")
)

// Options of a queue; the zero value is the default.
type Options struct {
	Limit      int64         // bytes on disk; 0: 8 GiB. Never more than half of what is free plus what the queue holds
	DropOldest bool          // at the limit the oldest lines go; default: Append waits
	MaxAge     time.Duration // lines older than this go, by whole segments; 0: none do
	Sync       time.Duration // how long a line may wait for fdatasync; 0: never without
	Codec      *codec.Codec  // that blocks get; nil: by what is scarce
	LiveInput  LiveInput     // the intake that continues, for recovery
	Log        *slog.Logger  // state changes; default: none
}

// MinLimit is the least that a queue can do with, in bytes.
const MinLimit = 64 << 20

const (
	defaultLimit = 8 << 30
	segmentSize  = 64 << 20 // or an eighth of the limit
	aheadLimit   = 4 << 20  // raw bytes that are not durable yet; Append waits beyond
	ringLimit    = 4 << 20  // bytes of memory for blocks that are durable and not given out yet
)

// Origin says where lines came from: up to which stream byte of which intake.
type Origin struct {
	Intake     uint64 // 0: one that cannot continue after a restart
	End        int64  // stream offset after the last byte
	Unfinished bool   // the last line is a piece; the intake's next line continues it
}

// Queue is the disk-backed queue. One goroutine of its own, the writer, owns
// the files that change; the fields below mu are where everyone meets.
//
// Append is for one goroutine, TryNext and Next for one other; every other
// method is safe for all.
type Queue struct {
	fsys        fileSystem
	o           Options
	locks       []io.Closer
	dir         *osDir        // nil in tests without one
	kick        chan struct{} // to the writer: there is something to do
	inputEnded  chan struct{} // closed by Reserve
	stop        chan struct{} // closed by Close
	abort       chan struct{} // closed when Close has waited long enough
	done        chan struct{} // closed by the writer at its end
	reserved    sync.Once
	closing     sync.Once
	closeErr    error
	reader      reader // the consumer's, while reading; else below mu
	pool        bufferPool
	quarantined int64 // bytes that Quarantine has written

	mu             sync.Mutex
	changed        chan struct{} // closed and replaced at every change that a caller may wait for
	segs           []*segment    // ascending; the last is being written
	ident          identity
	gaps           queueGaps
	head           uint64  // next number to give
	durable        uint64  // every record below is on disk
	acked          uint64  // the cursor: every record below has its receipt
	next           uint64  // next record to give out
	flight         []Range // given out and not acknowledged, ascending, contiguous
	moves          int     // counts the times that next, or what stands there, was changed
	rewrites       int     // counts the times that a file was written again
	handedOut      uint64  // every record from here on was never given out
	reading        bool    // the consumer reads a file
	missed         *missed // what it did not find there; nil: nothing since it last went back
	dropped        uint64  // records dropped since Open
	receipt        Receipt
	origin         Origin // of the newest bytes, skipped ones too
	table          intakes
	queued         []*Block // not yet taken by the writer; the last takes lines
	unsynced       int64    // raw bytes appended and not durable
	waitingAppends int      // Appends that wait until there are fewer
	ring           ring
	consumerWaits  bool     // the consumer waits for what is not durable
	urgent         uint64   // a caller waits until every record below is durable
	trouble        *Trouble // nil: none
	losses         losses
}

// Append adds n whole lines, each with its newline, from o. They are not yet
// durable when it returns: WaitDurable waits for that. At most MaxBlock bytes or
// MaxBlockLines lines at a time, or one line of up to MaxLine bytes. With n = 0
// only o moves on: bytes that no line holds. Append waits while what is not yet
// durable passes a bound: that is where a full disk is felt.
func (q *Queue) Append(ctx context.Context, lines []byte, n int, o Origin) (Range, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.unsynced > 0 && q.unsynced+int64(len(lines)) > aheadLimit && !q.isClosed() {
		q.waitingAppends++
		err := q.waitLocked(ctx)
		q.waitingAppends--
		if err != nil {
			return Range{}, err
		}
	}
	if q.isClosed() {
		return Range{}, ErrClosed
	}
	r := Range{q.head, q.head + uint64(n)}
	if n > 0 {
		q.fillLocked(lines, n, o)
	}
	q.origin = o
	q.poke()
	return r, nil
}

// fillLocked puts the lines into the last block, or into a new one where they do not
// fit.
func (q *Queue) fillLocked(lines []byte, n int, o Origin) {
	var b *Block
	if k := len(q.queued) - 1; k >= 0 {
		b = q.queued[k]
	}
	if b == nil || b.kind != kindData || b.intake != o.Intake || b.flags != 0 ||
		len(b.buf)-headerLen+len(lines) > MaxBlock || int(b.count)+n > MaxBlockLines {
		b = &Block{
			header: header{kind: kindData, first: q.head, intake: o.Intake, at: time.Now().UnixMilli()},
			sid:    q.ident.sid(q.head), buf: make([]byte, headerLen, smallBlock),
		}
		q.queued = append(q.queued, b)
	}
	if n := len(b.buf) + len(lines); n > cap(b.buf) && n <= wholeBlock {
		b.buf = append(q.pool.get(wholeBlock)[:0], b.buf...)
	}
	b.buf = append(b.buf, lines...)
	b.count += uint64(n)
	b.end = o.End
	if o.Unfinished {
		b.flags = flagUnfinished
	}
	q.head += uint64(n)
	q.unsynced += int64(len(lines))
}

// WaitDurable waits until every record below seq is on disk.
func (q *Queue) WaitDurable(ctx context.Context, seq uint64) error {
	q.mu.Lock()
	q.urgent = max(q.urgent, seq)
	q.mu.Unlock()
	q.poke()
	return q.waitFor(ctx, func() bool { return q.durable >= seq })
}

// WaitAcked waits until every record below seq has its receipt.
func (q *Queue) WaitAcked(ctx context.Context, seq uint64) error {
	return q.waitFor(ctx, func() bool { return q.acked >= seq })
}

func (q *Queue) waitFor(ctx context.Context, reached func() bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !reached() {
		if closed(q.done) {
			return ErrClosed
		}
		if err := q.waitLocked(ctx); err != nil {
			return err
		}
	}
	return nil
}

// IntakeEnd is how far the intake with this id is on disk: a stream offset.
func (q *Queue) IntakeEnd(id uint64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	o, _ := q.table.get(id)
	return o.End
}

// Stats is the state of a queue at one moment.
type Stats struct {
	SID          string // of the record at the cursor, or of the next one
	Cursor       uint64 // every record below has its receipt
	Durable      uint64 // every record below is on disk
	Head         uint64 // every record below was appended
	PendingBytes int64  // what waits takes on disk, about
	Receipt      Receipt
	DiskBytes    int64    // of segments
	Dropped      uint64   // records dropped since Open, by a limit
	Trouble      *Trouble // nil: none
}

// Stats is the state at this moment.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{
		SID: q.ident.sid(q.acked), Cursor: q.acked, Durable: q.durable, Head: q.head,
		Receipt: q.receipt, DiskBytes: q.diskLocked(), Dropped: q.dropped, Trouble: q.trouble,
		PendingBytes: pending(q.segs, q.acked, q.durable),
	}
}

// pending is what the records from acked up to durable take in their segments,
// about: as if all records of a segment were of one length.
func pending(segs []*segment, acked, durable uint64) (bytes int64) {
	for k, s := range segs {
		end := durable
		if k+1 < len(segs) {
			end = s.next
		}
		if first := max(s.base, acked); first < end {
			bytes += (s.written - pageLen) * int64(end-first) / int64(end-s.base)
		}
	}
	return bytes
}

func (q *Queue) diskLocked() (n int64) {
	for _, s := range q.segs {
		n += s.size
	}
	return n
}

// Close makes everything durable, records that on disk, and releases the
// directory. It tries until ctx ends; the error then says how many lines are
// not on disk: none, if only the cursor could not be saved.
func (q *Queue) Close(ctx context.Context) error {
	q.closing.Do(func() {
		q.mu.Lock()
		close(q.stop)
		q.broadcastLocked()
		q.mu.Unlock()
		select {
		case <-q.done:
		case <-ctx.Done():
			close(q.abort)
			<-q.done
			s := q.Stats()
			q.closeErr = fmt.Errorf("close queue: %d lines are not on disk: %s", s.Head-s.Durable, s.Trouble)
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.broadcastLocked()
		if !q.reading { // else the consumer closes it
			q.closeErr = errors.Join(q.closeErr, q.reader.close())
		}
		for _, lock := range q.locks {
			q.closeErr = errors.Join(q.closeErr, lock.Close())
		}
	})
	return q.closeErr
}

// Reserve lets what comes from now on pass the limit a little, as Close does
// with what is in memory: the input has ended, and its rest must get to the disk
// though nobody takes lines.
func (q *Queue) Reserve() { q.reserved.Do(func() { close(q.inputEnded) }) }

func (q *Queue) isClosed() bool { return closed(q.stop) }

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// poke wakes the writer: there is something to do.
func (q *Queue) poke() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// broadcastLocked wakes all waiters.
func (q *Queue) broadcastLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// waitLocked releases mu until something changes.
func (q *Queue) waitLocked(ctx context.Context) error {
	ch := q.changed
	q.mu.Unlock()
	defer q.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
