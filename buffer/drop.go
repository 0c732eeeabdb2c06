package buffer

import (
	"errors"
	"io/fs"
	"time"
)

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

// droppable is the oldest segment that has records to lose, but none under way,
// and when its last line came at the latest. The newest is never one. mu is
// held.
func (q *Queue) droppable() (s *segment, last int64) {
	for k := range len(q.segs) - 1 {
		s := q.segs[k]
		first := max(s.base, q.acked)
		if first < s.next && (len(q.flight) == 0 || q.flight[len(q.flight)-1].End <= first) {
			return s, q.segs[k+1].created
		}
	}
	return nil, 0
}

// giveUp puts a gap in the place of what s holds.
func (w *writer) giveUp(s *segment, why string) error {
	q := w.q
	q.mu.Lock()
	r := Range{max(s.base, q.acked), s.next}
	blocks := q.gapBlocks(r, Gap{Why: why, Maybe: r.First < q.given, From: s.created, To: time.Now().UnixMilli()})
	q.mu.Unlock()
	for _, b := range blocks {
		if err := w.write(b); err != nil {
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
		"hint", "bring the receiver back, or raise --queue-limit or --queue-max-age")
	return nil
}
