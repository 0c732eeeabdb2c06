package buffer

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// Watch looks at a queue beside its consumer, for status reports. It is
// for one goroutine.
type Watch struct {
	q      *Queue
	reader reader
}

// NewWatch looks at q.
func NewWatch(q *Queue) *Watch { return &Watch{q: q} }

// Close releases the file it looked into.
func (w *Watch) Close() error { return w.reader.close() }

// Lost is what was dropped or found damaged.
func (w *Watch) Lost() []Lost {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.losses.report(w.q.gaps.durable)
}

// Limit is what the queue's files may take, about: what Options say, or half of
// what they have and what is free, if that is less.
func (w *Watch) Limit() int64 {
	free, err := w.q.fsys.freeBytes()
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if err != nil {
		return w.q.limit() // the writer reports it
	}
	return min(w.q.limit(), (w.q.diskLocked()+free)/2)
}

// Oldest is when the line came that has waited longest for its receipt, or, of
// lines that were dropped, the first of them; the zero time if none waits. It
// costs a look into one segment, which continues where the last one ended.
func (w *Watch) Oldest() (time.Time, error) {
	q := w.q
	q.mu.Lock()
	w.reader.closeOld(q.segs)
	seq, onDisk, at := q.acked, q.acked < q.durable, q.oldestUnwrittenLocked()
	if g := q.gaps.durable.at(seq); g != nil {
		onDisk, at = false, g.firstAt()
	}
	q.mu.Unlock()
	if !onDisk {
		return at, nil
	}
	seg, _, err := w.reader.openAt(q, seq)
	if seg == nil || err != nil {
		return time.Time{}, ignore(err, fs.ErrNotExist) // acknowledged by now
	}
	return w.reader.scan.when(seq)
}

// oldestUnwrittenLocked is when the first line came that no file holds yet.
func (q *Queue) oldestUnwrittenLocked() time.Time {
	for _, b := range q.queued {
		if b.kind == kindData {
			return b.At()
		}
	}
	if q.acked < q.head {
		return time.Now()
	}
	return time.Time{}
}

func (b *Block) firstAt() time.Time {
	if b.gap.From > 0 {
		return time.UnixMilli(b.gap.From).UTC()
	}
	return b.At()
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// when moves to the block that holds record seq, and says when its first line
// came; where there is none, when the segment began.
func (s *scanner) when(seq uint64) (time.Time, error) {
	h, err := s.find(seq)
	switch {
	case errors.Is(err, io.EOF):
		return time.UnixMilli(s.seg.created).UTC(), nil
	case err != nil:
		return time.Time{}, err
	}
	return time.UnixMilli(h.at).UTC(), nil
}

// View is a queue as its files show it.
type View struct {
	Stats            // without Dropped and Trouble
	Lost    []Lost   // in gaps, or in files that are gone or cut short; acknowledged ones too, for a while
	Missing []string // files without which not all of this is sure
	PID     int      // who has the queue; 0: nobody, or nobody that we can see

	dir   *osDir
	gaps  gaps
	segs  []*segment
	id    identity
	holes []Range // numbers that no file has
}

// Inspect reads the state of the queue in dir from its files: without the lock,
// without changing anything, beside a running wsrelay or without one. It reads
// the heads of the newest segment's blocks, and no line. The caller closes
// the view.
func Inspect(dir string) (*View, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	var v *View
	for range 3 { // a running wsrelay may begin a segment just now
		v = &View{dir: d}
		var ahead bool
		if ahead, err = v.readHeads(); err != nil || !ahead {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	v.PID, _ = Locked(dir)
	return v, nil
}

// Close releases the directory.
func (v *View) Close() error { return v.dir.Close() }

// readHeads reads the files once; ahead: CURSOR names a newer segment than there is.
func (v *View) readHeads() (ahead bool, err error) {
	there, err := queueFiles(v.dir)
	if err != nil {
		return false, err
	}
	if err := v.segments(there); err != nil {
		return false, err
	}
	c, err := loadCursor(v.dir) // after the list: what went before it did so below this cursor
	if err != nil {
		return false, err
	}
	if c.generation == 0 {
		v.Missing = append(v.Missing, cursorName)
	}
	v.Cursor, v.Receipt = max(1, c.acked), c.receipt
	if v.id, err = readIdentity(v.dir); err != nil {
		return false, err
	}
	if len(v.id.pairs) == 0 {
		v.Missing = append(v.Missing, identityName)
		for _, s := range v.segs {
			v.id.pairs = append(v.id.pairs, pair{s.base, s.sid})
		}
	}
	if err := v.numbers(c.durable); err != nil {
		return false, err
	}
	v.Durable, v.SID = v.Head, v.id.sid(v.Cursor)
	v.gaps.acknowledge(v.Cursor)
	known := readLosses(v.dir, time.Now())
	v.Lost = known.report(v.gaps)
	for _, h := range v.holes {
		h.First = max(h.First, v.Cursor)
		for _, r := range v.gaps.without(h) {
			v.Lost = append(v.Lost, Lost{Range: r, Why: "damaged", At: time.Now()})
		}
	}
	v.PendingBytes = pending(v.segs, v.Cursor, v.Durable)
	return len(v.segs) > 0 && v.segs[len(v.segs)-1].id < c.segment, nil
}

// Waiting is how many lines wait: of those without a receipt, all that are not
// lost.
func (v *View) Waiting() uint64 {
	n := v.Head - v.Cursor
	for _, l := range v.Lost {
		if !l.Acknowledged {
			n -= min(n, l.Len())
		}
	}
	return n
}

// segments finds them, as recovery would, among the names that are there.
func (v *View) segments(names []string) error {
	for _, name := range names { // in the order of their ids
		id, ok := segmentID(name)
		if !ok {
			continue
		}
		s, err := findSegment(v.dir, id)
		if errors.Is(err, errNoSegment) || errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		for n := len(v.segs); n > 0 && v.segs[n-1].base >= s.base; n-- {
			v.segs = v.segs[:n-1] // R9
		}
		if n := len(v.segs); n > 0 {
			v.segs[n-1].next = s.base
		}
		v.segs = append(v.segs, s)
		v.DiskBytes += s.size
	}
	return nil
}

// numbers finds how far they go, the gaps, of which the newest segment has all,
// and what no segment has. Of a segment that is neither the newest nor before
// one that is missing, it takes for granted that it is whole.
func (v *View) numbers(durable uint64) error {
	v.Head = max(v.Cursor, durable)
	if len(v.segs) == 0 {
		v.holes = append(v.holes, Range{v.Cursor, v.Head})
		return nil
	}
	newest := v.segs[len(v.segs)-1]
	expect, err := v.scan(newest, v.newest)
	if err != nil {
		return err
	}
	v.Cursor = max(v.Cursor, newest.acked)
	v.Head = max(v.Head, newest.base, v.Cursor)
	v.holes = append(v.holes, Range{v.Cursor, v.segs[0].base}, Range{expect, v.Head})
	for k, s := range v.segs[:len(v.segs)-1] {
		if v.segs[k+1].id == s.id+1 || s.next <= v.Cursor {
			continue
		}
		expect, err := v.scan(s, func(*scanner, header) error { return nil })
		if err != nil {
			return err
		}
		v.holes = append(v.holes, Range{expect, s.next})
	}
	return nil
}

// newest takes what a header of the newest segment says.
func (v *View) newest(scan *scanner, h header) error {
	v.Cursor = max(v.Cursor, h.acked)
	v.Head = max(v.Head, h.durable, h.next(), v.Cursor)
	if h.kind == kindData && h.first > scan.expect {
		v.holes = append(v.holes, Range{scan.expect, h.first})
	}
	scan.seg.written = scan.off + h.span()
	if h.kind != kindGap {
		return nil
	}
	b, err := scan.sound(h)
	if b != nil {
		v.gaps.add(b)
	}
	return err
}

// scan walks over the blocks of s, and returns the number that would come next. A segment
// that is gone by now has none.
func (v *View) scan(s *segment, each func(*scanner, header) error) (expect uint64, err error) {
	f, err := v.dir.open(segmentName(s.id))
	if err != nil {
		return s.base, ignore(err, fs.ErrNotExist)
	}
	defer f.Close() //nolint:errcheck // only read
	scan := newScanner(f, s, s.written)
	for h, err := range scan.blocks() {
		if err == nil {
			err = each(scan, h)
		}
		if err != nil {
			return 0, err
		}
	}
	return scan.expect, nil
}

// Oldest is what Watch.Oldest is, from the files.
func (v *View) Oldest() (time.Time, error) {
	if g := v.gaps.at(v.Cursor); g != nil {
		return g.firstAt(), nil
	}
	if v.Cursor >= v.Head {
		return time.Time{}, nil
	}
	for _, s := range v.segs {
		if s.next > 0 && s.next <= v.Cursor {
			continue
		}
		f, err := v.dir.open(segmentName(s.id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // acknowledged by now, or lost
		}
		if err != nil {
			return time.Time{}, err
		}
		defer f.Close() //nolint:errcheck // only read
		return newScanner(f, s, s.written).when(v.Cursor)
	}
	return time.Time{}, nil
}

// Blocks gives what waits, in order: lines, and the gaps in place of lines that
// were dropped. It reads each block once and keeps none. Numbers that neither
// has are damaged, or were delivered meanwhile. An error of each ends it.
func (v *View) Blocks(each func(*Block) error) error {
	left := v.gaps
	gapsBelow := func(seq uint64) error {
		for len(left) > 0 && left[0].first < seq {
			gap := left[0]
			left = left[1:]
			if err := each(gap); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range v.segs {
		if s.next > 0 && s.next <= v.Cursor {
			continue
		}
		_, err := v.scan(s, func(scan *scanner, h header) error {
			lines := Range{max(h.first, v.Cursor), h.next()}
			if s.next > 0 {
				lines.End = min(lines.End, s.next)
			}
			if h.kind != kindData || lines.First >= lines.End {
				return nil
			}
			b, err := scan.sound(h)
			if b == nil {
				return err
			}
			for _, r := range v.gaps.without(lines) {
				for _, r := range v.id.split(r) {
					part, err := b.part(r)
					if err != nil {
						return err
					}
					part.sid = v.id.sid(r.First)
					if err = gapsBelow(r.First); err == nil {
						err = each(part)
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return gapsBelow(v.Head)
}
