package buffer

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

func (w *writer) cursorWanted() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.stale || w.cur.acked != w.q.acked || w.cur.receipt != w.q.receipt || w.seg != nil && w.cur.segment != w.seg.id
}

// saveCursor writes CURSOR, and syncs it only where something is about to
// depend on it.
func (w *writer) saveCursor(now time.Time, sync bool) error {
	if w.cursorWanted() {
		next := cursor{generation: w.cur.generation + 1, segment: w.cur.segment}
		if !w.kept {
			next.generation++ // over the same slot: the other one is all that is on disk
		}
		if w.seg != nil {
			next.segment = w.seg.id
		}
		w.q.mu.Lock()
		next.acked, next.receipt, next.intakes = w.q.acked, w.q.receipt, w.q.table
		w.q.mu.Unlock()
		if err := next.write(w.cursorFile); err != nil {
			return err
		}
		w.cur, w.kept = next, false
	}
	w.lastCursor = now
	if !sync {
		return nil
	}
	return w.syncCursor()
}

// syncCursor makes cur durable. After a failed sync, what CURSOR should hold is
// written again, as of any file (F1); what was on disk before still is.
func (w *writer) syncCursor() error {
	if w.kept {
		return nil
	}
	err := w.cursorFile.sync()
	w.kept, w.stale = err == nil, err != nil
	return err
}

// trim removes the segments whose records are all acknowledged, after the
// cursor that says so is durable. The newest segment always stays. One acked
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
	for _, s := range old {
		if err := w.retire(s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		q.mu.Lock()
		q.segs = q.segs[1:]
		q.mu.Unlock()
	}
	w.retryAt = time.Time{} // there may be room again
	q.mu.Lock()
	q.broadcast()
	q.mu.Unlock()
	return nil
}

// retire makes the file of s the spare one, or removes it.
func (w *writer) retire(s *segment) error {
	if s.size <= w.q.segmentSize() && s.size > w.q.segmentSize()/2 {
		return w.q.fsys.rename(segmentName(s.id), spareName)
	}
	return w.q.fsys.remove(segmentName(s.id))
}

// Lines that are given up, by a limit that the user has set, go by whole
// segments, and a gap with their exact numbers takes their place: durable before
// the segment goes, and never changed after.

// dropOldest gives up the oldest segment of which nothing is under way; false:
// there is none.
func (w *writer) dropOldest() (bool, error) {
	q := w.q
	q.mu.Lock()
	s, _ := q.droppable()
	q.mu.Unlock()
	if s == nil {
		return false, nil
	}
	return true, w.giveUp(s, "overflow")
}

// expire gives up the segments whose newest line is older than the limit. Of
// the newest segment nothing is known until it has a successor.
func (w *writer) expire(now time.Time) error {
	q := w.q
	for q.o.MaxAge > 0 {
		q.mu.Lock()
		s, last := q.droppable()
		q.mu.Unlock()
		if s == nil || now.Sub(time.UnixMilli(last)) < q.o.MaxAge {
			break
		}
		if err := w.giveUp(s, "expired"); err != nil {
			return err
		}
	}
	return nil
}

// droppable is the oldest segment that has records to lose, but none under way
// nor about to become a gap, and when its last line came at the latest. The
// newest is never one. mu is held.
func (q *Queue) droppable() (s *segment, last int64) {
	for k := range len(q.segs) - 1 {
		s := q.segs[k]
		first := max(s.base, q.acked)
		coming := slices.ContainsFunc(q.coming, func(g *Block) bool { return g.first < s.next && first < g.next() })
		if first < s.next && !coming && (len(q.flight) == 0 || q.flight[len(q.flight)-1].End <= first) {
			return s, q.segs[k+1].created
		}
	}
	return nil, 0
}

// giveUp puts a gap in the place of what s holds.
func (w *writer) giveUp(s *segment, why string) error {
	q := w.q
	q.mu.Lock()
	begun := q.leaving.Len() > 0
	q.mu.Unlock()
	if begun { // a gap is written, and not durable: it must not be written twice
		if err := w.sync(time.Now()); err != nil {
			return err
		}
	}
	q.mu.Lock()
	r := Range{max(s.base, q.acked), s.next}
	blocks := q.gapBlocks(r, Gap{Why: why, Maybe: r.First < q.given, From: s.created, To: time.Now().UnixMilli()})
	if len(blocks) > 0 {
		q.leaving = r
	}
	q.mu.Unlock()
	for k, b := range blocks {
		if err := w.write(b); err != nil {
			if k == 0 { // else what is written will be durable one day, and settles it
				q.mu.Lock()
				q.leaving = Range{}
				q.moved++
				q.broadcast()
				q.mu.Unlock()
			}
			return err
		}
	}
	if err := w.sync(time.Now()); err != nil {
		return err
	}
	if err := w.retire(s); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	q.mu.Lock()
	for k := range q.segs {
		if q.segs[k] == s {
			q.segs = append(q.segs[:k:k], q.segs[k+1:]...)
			break
		}
	}
	q.dropped += r.Len()
	q.mu.Unlock()
	q.o.Log.Warn("lines are given up", "why", why, "first", r.First, "lines", r.Len(),
		"effect", "these lines are lost, as the queue's limits say; a gap document with their numbers is delivered in their place",
		"hint", "bring the receiver back, raise --queue-limit or --queue-max-age, or make space on the file system of the queue directory")
	return nil
}
