package buffer

import (
	"cmp"
	"io/fs"
	"slices"
	"time"
)

func (w *writer) cursorWanted() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.cursorStale || w.saved.acked != w.q.acked || w.saved.durable != w.q.durable || w.saved.receipt != w.q.receipt ||
		w.seg != nil && w.saved.segment != w.seg.id
}

// saveCursor writes CURSOR, and syncs it only where something is about to
// depend on it.
func (w *writer) saveCursor(now time.Time, sync bool) error {
	if err := w.openCursor(); err != nil {
		return err
	}
	if w.cursorWanted() {
		next := cursor{generation: w.saved.generation + 1, segment: w.saved.segment}
		if !w.cursorSynced {
			next.generation++ // over the same slot: the other one is all that is on disk
		}
		if w.seg != nil {
			next.segment = w.seg.id
		}
		w.q.mu.Lock()
		next.acked, next.receipt, next.durable, next.intakes = w.q.acked, w.q.receipt, w.q.durable, w.q.table
		w.q.mu.Unlock()
		if err := next.write(w.cursorFile); err != nil {
			return err
		}
		if next.acked != w.saved.acked {
			w.lastActive = now
		}
		w.saved, w.cursorSynced = next, false
	}
	w.lastCursor = now
	if !sync {
		return nil
	}
	return w.syncCursor()
}

// syncCursor makes what was saved durable. After a failed sync, what CURSOR should
// hold is written again, as with any file (F1); what was on disk before still is.
func (w *writer) syncCursor() error {
	if w.cursorSynced {
		return nil
	}
	if err := w.openCursor(); err != nil {
		return err
	}
	err := w.cursorFile.sync()
	w.cursorSynced, w.cursorStale = err == nil, err != nil
	return err
}

// trim removes the segments whose records are all acknowledged, after the
// cursor that covers them is durable. The newest segment always stays. One acked
// segment is kept to be written again: blocks that exist need no journal.
func (w *writer) trim() error {
	q := w.q
	q.mu.Lock()
	n := 0
	for n < len(q.segs)-1 && q.segs[n].next <= q.acked {
		n++
	}
	old := slices.Clone(q.segs[:n])
	q.mu.Unlock()
	if n == 0 {
		return nil
	}
	if err := w.saveCursor(time.Now(), true); err != nil {
		return err
	}
	var failed error
	for _, s := range old {
		if err := ignore(w.retire(s), fs.ErrNotExist); err != nil {
			failed = cmp.Or(failed, err) // it must not keep the others
			continue
		}
		q.forget(s)
	}
	w.retryAt = time.Time{} // there may be space again
	q.mu.Lock()
	q.broadcastLocked()
	q.mu.Unlock()
	return failed
}

// idle reports whether all is delivered and the files still take much space.
func (w *writer) idle() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.acked == w.q.head && len(w.unsynced) == 0 && (w.spare || w.q.diskLocked() > idleSpace)
}

// releaseSpace returns the space of an idle queue to others: a small segment takes
// the newest one's place.
func (w *writer) releaseSpace(now time.Time) error {
	if !w.idle() || now.Sub(w.lastActive) < releaseAfter {
		return nil
	}
	w.lastActive = now // not again at once
	if err := ignore(w.q.fsys.remove(spareName), fs.ErrNotExist); err != nil {
		return err
	}
	w.spare = false
	if !w.idle() {
		return nil
	}
	if err := w.rotate(nil); err != nil {
		return err
	}
	if err := w.trim(); err != nil {
		return err
	}
	w.spare = false
	return ignore(w.q.fsys.remove(spareName), fs.ErrNotExist)
}

// retire makes the file of s the spare one, or removes it.
func (w *writer) retire(s *segment) error {
	if s.size <= w.q.segmentSize() && s.size > w.q.segmentSize()/2 &&
		w.q.fsys.rename(segmentName(s.id), spareName) == nil {
		w.spare = true
		return nil
	}
	err := w.q.fsys.remove(segmentName(s.id))
	if isFolder(err) { // put there by another program
		_, err = quarantine(w.q.fsys, segmentName(s.id))
	}
	return err
}

// Lines that are dropped, by a limit that the user has set, go by whole
// segments, and a gap with their exact numbers takes their place: durable before
// the segment goes, and never changed after.

// dropOldest drops the oldest segment that can go; false: there is none.
func (w *writer) dropOldest() (bool, error) {
	return w.dropSegment("overflow", func(*segment) bool { return true })
}

// expire drops the segments whose newest line is older than the limit. Of
// the newest segment nothing is known until it has a successor.
func (w *writer) expire(now time.Time) error {
	limit := w.q.o.MaxAge
	if limit == 0 {
		return nil
	}
	boot, up := w.q.fsys.clock()
	for {
		more, err := w.dropSegment("expired", func(next *segment) bool { return next.age(now, boot, up) >= limit })
		if !more || err != nil {
			return err
		}
	}
}

// firstRelease is before any wsrelay has written a line.
var firstRelease = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// age is how old the segment is at least. The wall clock may have been wrong
// then and may be wrong now, or be set at any time: within one start of the
// machine it does not count, and of an earlier one only a stamp that can be. It
// was before this start in any case.
func (s *segment) age(now time.Time, boot [16]byte, up time.Duration) time.Duration {
	created := time.UnixMilli(s.created)
	switch {
	case s.boot == boot:
		return up - s.up
	case created.Before(firstRelease):
		return up
	}
	return max(up, now.Sub(created))
}

// dropSegment puts a gap in the place of what the oldest segment holds that can go,
// if that is due. Its last line came before the next segment was begun, which
// due gets. False: there is none.
func (w *writer) dropSegment(why string, due func(next *segment) bool) (bool, error) {
	q := w.q
	if w.dropping { // it must not be written twice
		if err := w.sync(time.Now()); err != nil {
			return true, err
		}
		w.dropping = false
	}
	s, r, gaps := q.beginDrop(why, due)
	if s == nil {
		return false, nil
	}
	for k, b := range gaps {
		if err := w.write(b); err != nil { // the gaps before it will be durable later
			q.abortDrop(gaps[k:])
			return true, err
		}
		w.dropping = true
		q.mu.Lock()
		q.dropped += b.count
		q.mu.Unlock()
	}
	if err := w.sync(time.Now()); err != nil {
		return true, err
	}
	w.dropping = false
	if err := ignore(w.retire(s), fs.ErrNotExist); err == nil {
		q.forget(s)
	} else { // it goes when its gap is acknowledged, if it can then
		q.mu.Lock()
		s.kept = true
		q.mu.Unlock()
		q.o.Log.Error("cannot remove what is dropped from the queue", "err", err,
			"effect", "the file takes space on the disk, and more lines are dropped in its place", "hint", Hint(err))
	}
	q.o.Log.Warn("lines are dropped", "why", why, "first", r.First, "lines", r.Len(),
		"effect", "these lines are lost, as the queue's limits say; a gap document with their numbers is delivered in their place",
		"hint", "bring the receiver back, raise --queue-limit or --queue-max-age, or make space on the file system of the queue directory")
	return true, nil
}

// beginDrop picks the segment that dropSegment drops, and makes the gaps for its records:
// from now on none of them is given out.
func (q *Queue) beginDrop(why string, due func(next *segment) bool) (s *segment, r Range, gaps []*Block) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, next := q.droppableLocked()
	if s == nil || !due(next) {
		return nil, Range{}, nil
	}
	r = Range{max(s.base, q.acked), s.next}
	gaps = q.gapBlocksLocked(r, Gap{Why: why, Maybe: r.First < q.handedOut, From: s.created, To: time.Now().UnixMilli()})
	for _, b := range gaps {
		q.gaps.pending.add(b)
	}
	return s, r, gaps
}

// abortDrop returns what beginDrop took: what the gaps that were not written
// cover.
func (q *Queue) abortDrop(unwritten []*Block) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range unwritten {
		q.gaps.pending.remove(b)
	}
	q.moves++
	q.broadcastLocked()
}

// droppableLocked is the oldest segment that has records to lose, but none under way
// nor about to become a gap, and the segment after it. It is never the newest.
func (q *Queue) droppableLocked() (s, next *segment) {
	for k := range len(q.segs) - 1 {
		s := q.segs[k]
		first := max(s.base, q.acked)
		becomesGap := slices.ContainsFunc(q.gaps.pending, func(g *Block) bool { return g.first < s.next && first < g.next() })
		if !s.kept && first < s.next && !becomesGap && (len(q.flight) == 0 || q.flight[len(q.flight)-1].End <= first) {
			return s, q.segs[k+1]
		}
	}
	return nil, nil
}
