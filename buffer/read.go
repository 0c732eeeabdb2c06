package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// reader is the place in the files where the consumer was last; one consumer
// uses it.
type reader struct {
	seg      *segment
	f        file
	scan     *scanner
	rewrites int // the segment's, when f was opened

	failedAt uint64 // the record that could not be read, and how often in a row
	failures int
}

func (r *reader) close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.seg, r.f, r.scan = nil, nil, nil
	return err
}

// closeOld closes a file that has lost its name to another one, which has all that it
// has, and may get more.
func (r *reader) closeOld(segs []*segment) {
	if r.seg != nil && (r.rewrites != r.seg.rewrites || !slices.Contains(segs, r.seg)) {
		_ = r.close() // it was only read
	}
}

// failed counts the failures in a row to read the block at seq.
func (r *reader) failed(seq uint64) int {
	if r.failedAt != seq {
		r.failedAt, r.failures = seq, 0
	}
	r.failures++
	return r.failures
}

// read gets the block that begins at seq, which is durable, from its segment;
// where that is damaged, the records that are lost. If the files have been inspected for
// it, what is damaged is kept.
func (q *Queue) read(seq uint64, inspected bool) (b *Block, lost Range, err error) {
	r := &q.reader
	seg, end, err := r.openAt(q, seq)
	switch {
	case seg == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, errStrange): // it was removed
		return nil, Range{seq, end}, nil
	case err != nil:
		return nil, Range{}, err
	}
	r.scan.buffer = q.pool.get
	limit := r.scan.limit
	keep := func(from, to int64) {
		if inspected {
			keepDamaged(q.fsys, r.f, seg, from, to)
		}
	}
	h, err := r.scan.find(seq)
	missing := err != nil || h.first > seq
	if bad := r.scan.bad; missing && bad != nil && r.failed(seq) < maxReadFailures {
		err = bad
	}
	switch {
	case errors.Is(err, io.EOF):
		keep(r.scan.good, limit)
		_ = r.close()
		return nil, Range{seq, end}, nil
	case err != nil:
		_ = r.close()
		return nil, Range{}, fmt.Errorf("read segment %s: %w", segmentName(seg.id), err)
	case missing:
		keep(r.scan.good, r.scan.off)
		return nil, Range{seq, min(h.first, end)}, nil
	}
	at := r.scan.off
	b, err = r.scan.block(h)
	r.scan.skip(h)
	if err != nil && (r.failed(seq) < maxReadFailures || !readable(r.f, r.scan.off, limit)) {
		_ = r.close()
		return nil, Range{}, fmt.Errorf("read segment %s: %w", segmentName(seg.id), err)
	}
	if b == nil {
		keep(at, r.scan.off)
		return nil, Range{seq, min(h.next(), end)}, nil
	}
	if h.next() > end { // the rest is the next segment's (R9)
		b, err = b.part(Range{seq, end})
		return b, Range{}, err
	}
	return b, Range{}, nil
}

// maxReadFailures is how often a block, or the place where it should be, must fail to
// be read, while other pages can be, until it counts as damaged (F3). The relay backs
// off in between.
const maxReadFailures = 16

// What is kept of damage: the rest would only fill the disk.
const (
	keepBytes = 1 << 20
	keepFiles = 16
)

// keepDamaged copies damaged bytes to the quarantine, once, for an operator to look at
// them. It does what it can: nothing depends on it.
func keepDamaged(fsys fileSystem, f io.ReaderAt, seg *segment, from, to int64) {
	if from >= to || fsys.mkdir(damagedName) != nil {
		return
	}
	name := fmt.Sprintf("%016x-%d", seg.id, from)
	there, err := fsys.list(damagedName)
	kept := 0
	for _, e := range there {
		var id, off int64
		if n, _ := fmt.Sscanf(e.Name(), "%x-%d", &id, &off); n == 2 {
			kept++
		}
		if e.Name() == name {
			return
		}
	}
	if err != nil || kept >= keepFiles {
		return
	}
	b := make([]byte, min(to-from, keepBytes))
	n, _ := f.ReadAt(b, from)
	if aside, err := fsys.create(filepath.Join(damagedName, name)); err == nil {
		_ = errors.Join(aside.writeAt(b[:n], 0), aside.Close())
	}
}

// openAt makes sure that the segment is open that holds seq, and not read past that.
// end is the number after its last record; without a segment, none holds seq up to end.
func (r *reader) openAt(q *Queue, seq uint64) (seg *segment, end uint64, err error) {
	seg, limit, end, rewrites := q.segmentOf(seq)
	if seg == nil {
		return nil, end, nil
	}
	if r.seg != seg || r.scan.expect > seq {
		_ = r.close() // it was only read
		f, err := q.fsys.open(segmentName(seg.id))
		if err != nil {
			return seg, end, fmt.Errorf("open segment %s: %w", segmentName(seg.id), err)
		}
		r.seg, r.f, r.scan, r.rewrites = seg, f, newScanner(f, seg, 0), rewrites
	}
	r.scan.limit = limit
	return seg, end, nil
}

// missed is a block that the consumer did not find in the files. It is lost only if it
// is not there after the writer has inspected them either: the writer may have the file
// open that has lost its name (F4).
type missed struct {
	seq       uint64
	rewrites  int  // the queue's, then
	inspected bool // since then
}

// inspectedLocked reports whether the writer has inspected the files since the block at
// next was missed, and wrote none of them again.
func (q *Queue) inspectedLocked() bool {
	m := q.missed
	return m != nil && m.seq == q.next && m.inspected && m.rewrites == q.rewrites
}

// segmentOf is the segment that holds seq, how many bytes of it can be read, the number
// after its last record, and how often its file was written again; nil: no segment does,
// up to that number.
func (q *Queue) segmentOf(seq uint64) (s *segment, limit int64, end uint64, rewrites int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end = q.durable
	for _, s := range slices.Backward(q.segs) {
		if s.base <= seq {
			return s, s.written, end, s.rewrites
		} else if s.base < end {
			end = s.base
		}
	}
	return nil, 0, end, 0
}

// requestGapLocked asks for a gap of r. Nothing is given out of these records before
// it is durable; from then on it counts, whatever the files hold.
func (q *Queue) requestGapLocked(r Range, hint string) {
	for _, b := range q.gapBlocksLocked(r, Gap{Why: "damaged", Maybe: r.First < q.handedOut}) {
		q.queued = append(q.queued, b)
		q.gaps.pending.add(b)
		q.o.Log.Error("records are damaged on disk", "first", b.first, "lines", b.count,
			"effect", "these lines are lost; a gap document with their numbers is delivered in their place",
			"hint", hint)
	}
	q.poke()
}

// gapBlocksLocked are the gap blocks for r: one for each stream, and none for what a
// live gap covers already, or one that is on its way (R8).
func (q *Queue) gapBlocksLocked(r Range, g Gap) (blocks []*Block) {
	for _, x := range q.gaps.without(r) {
		for _, x := range q.ident.split(x) {
			blocks = append(blocks, newGap(x, g, q.ident.sid(x.First), time.Now()))
		}
	}
	return blocks
}
