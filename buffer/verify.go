package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Report is what Verify found.
type Report struct {
	Segments, Blocks int
	Cursor           uint64  // every record below has its receipt
	Head             uint64  // every record that was found is below
	Gaps             []Range // records that will never come, as gap records say
	Missing          []Range // records from the cursor on that can neither be read nor are in a gap
	Problems         int     // lines that reported one
}

// Verify reads the whole queue in dir, without a lock and without changing
// anything, and writes a line to w for each segment and each problem. Beside a
// running wsrelay the newest lines may look unfinished, as they are. An error
// means that it could not look.
func Verify(dir string, w io.Writer) (Report, error) {
	return walk(dir, w, func(header, int64) {})
}

// Dump is Verify with a line for each block.
func Dump(dir string, w io.Writer) (Report, error) {
	return walk(dir, w, func(h header, off int64) {
		fmt.Fprintf(w, "  %8d %-4s %d+%d %s %d of %d bytes, intake %016x to %d, durable %d, acked %d, %s\n",
			off, kindNames[h.kind], h.first, h.count, h.codec, h.stored, h.raw,
			h.intake, h.end, h.durable, h.acked, time.UnixMilli(h.at).UTC().Format(time.RFC3339))
	})
}

var kindNames = map[kind]string{kindData: "data", kindGap: "gap", kindSeal: "seal", kindHead: "head"}

// walker looks at one segment after the other.
type walker struct {
	Report
	dir   *osDir
	w     io.Writer
	each  func(h header, off int64)
	segs  []*segment
	gaps  gaps // each segment lists all that were live
	holes []Range
}

func walk(dir string, w io.Writer, each func(header, int64)) (Report, error) {
	d, err := openDir(dir)
	if err != nil {
		return Report{}, err
	}
	defer d.Close() //nolint:errcheck // only read
	v := &walker{w: w, each: each, dir: d}
	there, err := queueFiles(d)
	if err != nil {
		return Report{}, err
	}
	if err := v.headers(there); err != nil {
		return Report{}, err
	}
	c, err := v.cursor()
	if err != nil {
		return Report{}, err
	}
	v.Cursor = max(v.Cursor, c.acked, 1)
	v.Head = v.Cursor
	for _, s := range v.segs {
		if err := ignore(v.segment(s), fs.ErrNotExist); err != nil { // delivered and removed meanwhile
			return v.Report, err
		}
	}
	if now, err := loadCursor(d); err == nil {
		v.Cursor = max(v.Cursor, now.acked)
	}
	if v.Head < c.durable {
		v.problem("%s says that the records up to %d were on disk: what had the last of them is gone", cursorName,
			c.durable-1)
		v.holes = append(v.holes, Range{v.Head, c.durable})
		v.Head = c.durable
	}
	for _, g := range v.gaps {
		v.Gaps = append(v.Gaps, g.Range())
	}
	for _, h := range v.holes {
		h.First = max(h.First, v.Cursor)
		v.Missing = append(v.Missing, v.gaps.without(h)...)
	}
	for _, r := range v.Missing {
		v.problem("records %d-%d are missing: they will be delivered as a gap", r.First, r.End-1)
	}
	return v.Report, nil
}

func (v *walker) problem(format string, args ...any) {
	v.Problems++
	fmt.Fprintf(v.w, "problem: "+format+"\n", args...)
}

// cursor reads the two files that are no segments.
func (v *walker) cursor() (cursor, error) {
	id, err := readIdentity(v.dir)
	if err != nil {
		return cursor{}, err
	}
	if len(id.pairs) == 0 {
		v.problem("%s cannot be read: new lines get a new stream id", identityName)
	}
	c, err := loadCursor(v.dir)
	if err == nil && c.generation == 0 {
		v.problem("%s cannot be read: acknowledged lines may be sent again, and it is not known whether the newest segment is there", cursorName)
	}
	return c, err
}

// headers finds the segments, and where each ends.
func (v *walker) headers(names []string) error {
	for _, name := range names { // in the order of their ids
		id, ok := segmentID(name)
		if !ok {
			continue
		}
		s, err := findSegment(v.dir, id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // delivered and removed meanwhile
			continue
		case errors.Is(err, errNoSegment), errors.Is(err, errVersion):
			v.problem("%s: %v", name, err)
			continue
		case err != nil:
			return err
		}
		if n := len(v.segs); n > 0 {
			v.segs[n-1].next = s.base
		}
		v.segs = append(v.segs, s)
		v.Cursor = max(v.Cursor, s.acked)
	}
	return nil
}

func (v *walker) segment(s *segment) error {
	name := segmentName(s.id)
	f, err := v.dir.open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	v.Segments++
	if s.base > v.Head {
		v.holes = append(v.holes, Range{v.Head, s.base})
	}
	blocks, err := v.blocks(f, s)
	v.Blocks += blocks
	fmt.Fprintf(v.w, "%s  stream %s  from %d  %d blocks  %d KiB\n", name, s.sid, s.base, blocks, s.size>>10)
	return err
}

// blocks looks at the blocks of s. After what was ever promised, a block that
// is damaged is one that a crash has torn, as crashes do.
func (v *walker) blocks(f io.ReaderAt, s *segment) (n int, err error) {
	scan := newScanner(f, s, s.size)
	end, proved := s.next, s.next // what is before a successor was on disk
	if end == 0 {
		end, proved = ^uint64(0), s.base
	}
	var damaged []int64 // offsets
	torn := 0           // of these, the ones at the end
	for h, err := range scan.blocks() {
		if err != nil {
			return n, err
		}
		if h.kind == kindData && h.first >= end { // the successor has these numbers
			scan.void = true
			continue
		}
		proved = max(proved, h.durable)
		v.Cursor = max(v.Cursor, h.acked)
		b, err := scan.sound(h)
		if err != nil {
			return n, err
		}
		if b == nil {
			damaged = append(damaged, scan.off)
			if torn++; h.first < proved {
				torn = 0
			}
			continue
		}
		torn = 0
		if h.kind == kindData && h.first > scan.expect {
			v.holes = append(v.holes, Range{scan.expect, h.first})
		}
		if h.kind == kindGap {
			v.gaps.add(b)
		}
		v.each(h, scan.off)
		if h.kind != kindHead {
			n++
		}
	}
	for _, off := range damaged[:len(damaged)-torn] {
		v.problem("%s: the block at %d is damaged", segmentName(s.id), off)
	}
	if scan.expect < proved {
		v.holes = append(v.holes, Range{scan.expect, proved})
	}
	v.Head = max(v.Head, min(scan.expect, end), proved)
	return n, nil
}
