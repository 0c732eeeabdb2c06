package buffer

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/internal/codec"
)

func (w *writer) writeAll() error {
	if len(w.todo) > 0 {
		if err := w.ensureSegment(); err != nil {
			return err
		}
	}
	for len(w.todo) > 0 {
		b := w.todo[0]
		if err := w.makeSpace(b); err != nil {
			return err
		}
		if err := w.write(b); err != nil {
			return err
		}
		w.todo = w.todo[1:]
	}
	w.todo = nil
	return nil
}

// write puts b into a segment that it may go to. A segment ends durable before
// the next one begins.
func (w *writer) write(b *Block) error {
	for !w.fits(b) {
		if len(w.unsynced) > 0 {
			if err := w.sync(time.Now()); err != nil {
				return err
			}
		} else if err := w.rotate(nil); err != nil {
			return err
		}
	}
	if err := w.put(b); err != nil {
		return err
	}
	w.unsynced = append(w.unsynced, b)
	return nil
}

func (w *writer) fits(b *Block) bool {
	w.q.mu.Lock()
	sid := w.q.ident.sid(b.first) // not what it was when the block was filled: Diverge
	w.q.mu.Unlock()
	return w.seg != nil && !w.poisoned && (b.kind != kindData || w.seg.sid == sid) &&
		(w.off+b.span() <= w.q.segmentSize() || w.off == w.start)
}

// put writes b to the segment. A block half written is a torn tail like any
// other and is written over; but after an error other than a full disk the
// file is not believed.
func (w *writer) put(b *Block) error {
	q := w.q
	q.mu.Lock()
	b.durable, b.acked = q.durable, q.acked
	q.mu.Unlock()
	err := w.seg.write(w.f, &w.off, b)
	if err != nil && !noSpace(err) {
		w.poisoned = true
	}
	q.mu.Lock()
	w.seg.size = max(w.seg.size, w.off)
	q.mu.Unlock()
	return err
}

func noSpace(err error) bool {
	return errors.Is(err, errSpace) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// makeSpace makes sure that b does not pass the limit, as the policy says.
func (w *writer) makeSpace(b *Block) error {
	if b.kind != kindData {
		return nil // small, and the consumer may wait for it before it frees any space
	}
	for {
		err := w.checkLimit(b)
		if err != nil && w.newestAcked() {
			if failed := w.rotate(nil); failed != nil {
				return failed
			}
			_ = w.trim() // cleanUp reports it
			continue
		}
		if err == nil || !w.q.o.DropOldest {
			return err
		}
		if dropped, failed := w.dropOldest(); failed != nil || !dropped {
			return cmp.Or(failed, err)
		}
	}
}

// newestAcked reports whether all that the newest segment holds is acknowledged: then
// another can take its place, where the file system has no space for both.
func (w *writer) newestAcked() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.acked == w.q.durable && len(w.unsynced) == 0 && len(w.q.segs) > 0 && (w.seg == nil || w.off > w.start)
}

// checkLimit refuses a block that would pass the limit. The last lines of an input
// that has ended may pass it a little: where they are, in pipe and memory, they
// cannot stay.
func (w *writer) checkLimit(b *Block) error {
	free, err := w.q.fsys.freeBytes()
	if err != nil {
		return err
	}
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	held := w.q.diskLocked()
	if w.seg != nil {
		held += w.off - w.seg.size // the rest of a recycled file is ours already
	}
	var extra int64
	if closed(w.q.inputEnded) || w.q.isClosed() {
		extra = reserve
	}
	switch limit := w.q.limit(); {
	case held+b.span() > limit+extra:
		return fmt.Errorf("%w of %d MiB", errFull, limit>>20)
	case held+b.span() > (held+free)/2+extra:
		return fmt.Errorf("%w: %d MiB are free, and the queue leaves half of the space to others", errSpace, free>>20)
	}
	return nil
}

func (q *Queue) limit() int64 {
	if q.o.Limit > 0 {
		return q.o.Limit
	}
	return defaultLimit
}

func (q *Queue) segmentSize() int64 { return min(segmentSize, q.limit()/8) }

// rotate begins a segment at the first number that is not durable, with all
// live gaps and the blocks, and makes it the one that is written.
func (w *writer) rotate(blocks []*Block) error {
	q := w.q
	if w.identityStale {
		q.mu.Lock() // Diverge writes it, too
		err := q.ident.write(q.fsys)
		q.mu.Unlock()
		if err != nil {
			return err
		}
		w.identityStale = false
	}
	q.mu.Lock()
	s := &segment{
		id: 1, base: q.durable, nonce: newNonce(), created: time.Now().UnixMilli(), intakes: q.table,
		acked: q.acked,
	}
	if n := len(q.segs); n > 0 {
		s.id = q.segs[n-1].id + 1
	}
	s.boot, s.up = q.fsys.clock()
	s.sid = q.ident.sid(s.base)
	listed := append(slices.Clone(q.gaps.durable), blocks...)
	q.mu.Unlock()
	f, off, err := createSegment(q.fsys, s, listed)
	if err != nil {
		w.poisoned = true // it may have its name: nothing more may go to the segment before it
		return err
	}
	w.use(s, f, off)
	return nil
}

// use makes s the segment that is written; what it took over is its own now.
func (w *writer) use(s *segment, f file, off int64) {
	if w.f != nil {
		_ = w.f.Close() // synced, or not believed
	}
	w.seg, w.f, w.off, w.start, w.poisoned = s, f, off, off, false
	q := w.q
	q.mu.Lock()
	n := len(q.segs)
	if n > 0 {
		q.segs[n-1].next = s.base
	}
	q.segs = append(q.segs, s)
	q.mu.Unlock()
	if n == 0 {
		return
	}
	if was := q.segs[n-1]; was.base == s.base && q.fsys.remove(segmentName(was.id)) == nil {
		q.forget(was) // one that cannot be removed now is when it is acknowledged
	}
}

// forget takes s, whose file is gone, out of the account.
func (q *Queue) forget(s *segment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.segs = slices.DeleteFunc(q.segs, func(other *segment) bool { return other == s })
	if !q.reading {
		q.reader.closeOld(q.segs)
	}
}

// newNonce draws what no sender of lines can guess: a line must not look like a block.
func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return binary.LittleEndian.Uint64(b[:])
}

// syncDue reports whether it is time to sync. It always is unless --sync lets lines
// wait, and then also when a caller waits for them or they fill the memory.
func (w *writer) syncDue(now time.Time) bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.o.Sync == 0 || w.q.consumerWaits || w.q.urgent > w.q.durable || w.q.unsynced >= aheadLimit/2 ||
		now.Sub(w.lastSync) >= w.q.o.Sync
}

// sync makes what was written durable: by fdatasync, or, where that ever
// failed, by writing it again to a new segment (F1). Linux marks the pages of
// a failed sync clean, so a second sync of that file would lie.
func (w *writer) sync(now time.Time) error {
	if len(w.unsynced) == 0 {
		return nil
	}
	if !w.poisoned {
		if err := w.f.sync(); err != nil {
			w.poisoned = true
			w.q.o.Log.Error("sync failed: writing the lines to a new file", "segment", segmentName(w.seg.id),
				"err", err,
				"effect", "no line is lost: what the file should hold is still in memory",
				"hint", "check the disk's health")
		}
	}
	if err := w.ensureSegment(); err != nil {
		return err
	}
	if w.poisoned {
		if err := w.rotate(w.unsynced); err != nil {
			return err
		}
	}
	w.lastSync = now
	w.markDurable()
	w.measure(time.Now())
	return nil
}

// measure reports to the choice of codec how long it took until lines became durable
// while more waited: in memory, or in an Append that waits for space there, as each
// Append does when the writer has just taken everything.
func (w *writer) measure(now time.Time) {
	w.q.mu.Lock()
	waiting := w.q.unsynced >= trickle || w.q.waitingAppends > 0
	w.q.mu.Unlock()
	if !w.waitingSince.IsZero() {
		w.choice.Observe(w.lastCodec, w.rawTaken, now.Sub(w.waitingSince))
	}
	w.waitingSince, w.rawTaken = time.Time{}, 0
	if waiting {
		w.waitingSince = now
	}
}

// markDurable makes known that all that was written is durable.
func (w *writer) markDurable() {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range w.unsynced {
		w.syncedDurable = max(w.syncedDurable, b.durable)
		q.table.set(b.origin(), q.o.LiveInput.Intake)
		if b.intake == w.q.origin.Intake {
			w.syncedOrigin = b.origin()
		}
		switch b.kind {
		case kindData:
			q.durable = b.next()
			q.unsynced -= int64(b.raw)
			q.ring.push(b)
		case kindGap:
			q.moves++ // what is being read there is void
			q.gaps.written(b)
			q.losses.addGap(b)
		case kindSeal:
			q.durable = max(q.durable, b.first) // numbers that no block holds, after a recovery
		}
	}
	for q.ring.size > ringLimit {
		if b := q.ring.pop().buf; !q.pool.put(b) {
			w.encodeMemory.put(b)
		}
	}
	w.unsynced = nil
	w.seg.written = w.off
	q.consumerWaits = false
	q.broadcastLocked()
}

// sealWanted reports whether something is on disk that no synced header states yet.
func (w *writer) sealWanted() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.syncedDurable < w.q.durable || w.q.origin != w.syncedOrigin && w.q.origin.Intake != 0
}

// writeSeal records that all is durable, once lines have stopped coming: from
// then on recovery can distinguish damage from what was never promised (R6).
func (w *writer) writeSeal(now time.Time) error {
	if len(w.unsynced) > 0 || !w.sealWanted() {
		return nil
	}
	w.q.mu.Lock()
	b := newSeal(w.q.head)
	b.sid = w.q.ident.sid(w.q.head)
	o := w.q.origin
	b.intake, b.end = o.Intake, o.End
	if o.Unfinished {
		b.flags = flagUnfinished
	}
	idle := len(w.q.queued) == 0
	w.q.mu.Unlock()
	if !idle {
		return nil
	}
	w.encodeMemory = encodeMemory{}
	b.encode(codec.Raw, nil)
	w.todo = append(w.todo, b)
	if err := w.writeAll(); err != nil {
		return err
	}
	return w.sync(now)
}
