package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

const (
	pageLen       = 4096 // a segment's header, twice
	halfLen       = pageLen / 2
	formatVersion = 1
	segmentMagic  = "WSRSEGM\x00"
	spareName     = "spare"
	maxIntakes    = 16
)

// Errors that a segment's file can answer with.
var (
	errNoSegment = errors.New("not a segment of this format")
	errVersion   = errors.New("a newer format version")
)

// segment is one file of blocks. Its blocks are the truth from base up to the
// base of the next segment.
type segment struct {
	id      uint64
	base    uint64 // number of the first record it may hold
	sid     string
	nonce   uint64
	created int64   // Unix ms
	intakes intakes // how far each was on disk before this segment
	acked   uint64  // every record below had its receipt
	size    int64   // of the file, for the account
	written int64   // bytes of it that can be read: those behind are from its former life
	next    uint64  // base of the next one; open end: 0
}

func segmentName(id uint64) string { return fmt.Sprintf("%016x.seg", id) }

// segmentID is the id in a file's name; false: not the name of a segment.
func segmentID(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil && segmentName(id) == name
}

// page is the header twice, so that one bad sector does not cost the segment.
func (s *segment) page() []byte {
	le := binary.LittleEndian
	b := make([]byte, halfLen)
	copy(b, segmentMagic)
	le.PutUint32(b[8:], formatVersion)
	copy(b[16:32], s.sid)
	le.PutUint64(b[32:], s.id)
	le.PutUint64(b[40:], s.base)
	le.PutUint64(b[48:], s.nonce)
	le.PutUint64(b[56:], uint64(s.created))
	s.intakes.put(b[64:])
	le.PutUint64(b[64+intakesLen:], s.acked)
	le.PutUint32(b[halfLen-4:], crc32.Checksum(b[:halfLen-4], castagnoli))
	return append(b, b...)
}

// findSegment reads the header of the segment with this id, and its size. A file
// of which the header alone cannot be read is none.
func findSegment(fsys fileSystem, id uint64) (*segment, error) {
	f, err := fsys.open(segmentName(id))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	size, err := f.size()
	if err != nil {
		return nil, err
	}
	s, err := readSegment(f, id)
	switch {
	case err == nil:
		s.size, s.written = size, size
	case !errors.Is(err, errNoSegment) && !errors.Is(err, errVersion) && (size <= pageLen || readable(f, 0, size)):
		err = fmt.Errorf("%w: %w", errNoSegment, err)
	}
	return s, err
}

// readSegment reads the header: the half of the page that is sound.
func readSegment(f io.ReaderAt, id uint64) (*segment, error) {
	f = insist(f)
	var first error
	b := make([]byte, halfLen)
	for off := int64(0); off < pageLen; off += halfLen {
		_, err := f.ReadAt(b, off)
		var s *segment
		switch {
		case err == nil:
			s, err = parseSegment(b, id)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: shorter than its header", errNoSegment)
		}
		if err == nil {
			return s, nil
		}
		if first == nil || errors.Is(err, errVersion) {
			first = err
		}
	}
	return nil, first
}

func parseSegment(b []byte, id uint64) (*segment, error) {
	le := binary.LittleEndian
	switch {
	case string(b[:8]) != segmentMagic:
		return nil, fmt.Errorf("%w: no magic", errNoSegment)
	case le.Uint32(b[halfLen-4:]) != crc32.Checksum(b[:halfLen-4], castagnoli):
		return nil, fmt.Errorf("%w: header checksum", errNoSegment)
	case le.Uint32(b[8:]) > formatVersion:
		return nil, fmt.Errorf("%w: %d, this program knows %d", errVersion, le.Uint32(b[8:]), formatVersion)
	case le.Uint64(b[32:]) != id:
		return nil, fmt.Errorf("%w: its header says segment %d", errNoSegment, le.Uint64(b[32:]))
	}
	return &segment{
		id: id, base: le.Uint64(b[40:]), sid: string(b[16:32]), nonce: le.Uint64(b[48:]),
		created: int64(le.Uint64(b[56:])), intakes: getIntakes(b[64:]),
		acked: le.Uint64(b[64+intakesLen:]),
	}, nil
}

// createSegment gives the directory a further segment, complete and durable
// with its blocks before it has its name. It is built in the file spare: a
// recycled one if there is one. The offset is where the next block goes.
func createSegment(fsys fileSystem, s *segment, blocks func(write func(*Block) error) error) (file, int64, error) {
	f, err := fsys.open(spareName)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.create(spareName)
	}
	if err != nil {
		return nil, 0, err
	}
	off, err := fillSegment(f, s, blocks)
	if err == nil {
		err = fsys.rename(spareName, segmentName(s.id))
	}
	if err == nil {
		err = fsys.syncDir(".")
	}
	if err == nil {
		s.size, err = f.size()
	}
	if err != nil {
		if !noSpace(err) { // else it has room, which is worth keeping
			_ = fsys.remove(spareName)
		}
		return nil, 0, errors.Join(fmt.Errorf("create segment %s: %w", segmentName(s.id), err), f.Close())
	}
	return f, off, nil
}

func fillSegment(f file, s *segment, blocks func(write func(*Block) error) error) (off int64, err error) {
	if err := f.writeAt(s.page(), 0); err != nil {
		return 0, err
	}
	off = pageLen
	if err := blocks(func(b *Block) error { return s.write(f, &off, b) }); err != nil {
		return 0, err
	}
	return off, f.sync()
}

// write puts the block at off, in one write, and moves off behind it.
func (s *segment) write(f file, off *int64, b *Block) error {
	b.segment = s.id
	b.put(b.buf, s.nonce)
	n := int(b.span())
	for len(b.buf) < n {
		b.buf = append(b.buf, 0)
	}
	if err := f.writeAt(b.buf[:n], *off); err != nil {
		return err
	}
	*off += int64(n)
	return nil
}

// scanner walks a segment's blocks in the order of the file.
type scanner struct {
	f      io.ReaderAt
	seg    *segment
	limit  int64 // the file's size, or how far it is written
	off    int64 // where the next block is looked for
	expect uint64
	bad    error  // why some bytes behind the last data block could not be read; nil: all could
	window []byte // n bytes of the file, from offset at
	at     int64
	n      int
	buffer func(n int64) []byte // memory for a block
}

func newScanner(f io.ReaderAt, s *segment, limit int64) *scanner {
	return &scanner{
		f: f, seg: s, limit: limit, off: pageLen, expect: s.base,
		buffer: func(n int64) []byte { return make([]byte, n) },
	}
}

// peek is n bytes of the file at off; the window makes small steps cheap.
func (s *scanner) peek(off int64, n int) ([]byte, error) {
	if off < s.at || off+int64(n) > s.at+int64(s.n) {
		if s.window == nil {
			s.window = make([]byte, 64<<10)
		}
		most := int(min(int64(len(s.window)), max(0, s.limit-off)))
		got, err := s.f.ReadAt(s.window[:most], off)
		if got < min(most, n) { // a bad page further on must not cost these n bytes
			got, err = s.f.ReadAt(s.window[:min(most, n)], off)
		}
		s.at, s.n = off, got
		if got < n && err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	b := s.window[off-s.at : s.n]
	if len(b) < n {
		return nil, io.EOF
	}
	return b[:n], nil
}

// header is the header at s.off if a block can begin there (R4, without the
// payload's checksum).
func (s *scanner) header() (header, bool, error) {
	b, err := s.peek(s.off, headerLen)
	if err != nil {
		return header{}, false, err
	}
	h, ok := getHeader(b, s.seg.nonce)
	ok = ok && h.segment == s.seg.id && s.off+int64(headerLen)+int64(h.stored) <= s.limit &&
		(h.kind != kindData || h.first >= s.expect && h.count > 0)
	return h, ok, nil
}

// seek moves to the next header, however far it is, and gives the offset where
// the search began: before it lie damaged bytes, or, if bad says so, some that
// cannot be read. io.EOF: no more blocks.
func (s *scanner) seek() (h header, from int64, err error) {
	from = s.off
	for {
		h, ok, err := s.header()
		switch {
		case ok:
			return h, from, nil
		case err == nil:
			s.off += alignment
		case errors.Is(err, io.EOF) || !readable(s.f, s.off, s.limit):
			return header{}, from, err
		default:
			s.bad, s.off = err, nextPage(s.off)
		}
	}
}

// skip goes on behind the block that seek found.
func (s *scanner) skip(h header) {
	s.off += h.span()
	if h.kind == kindData {
		s.expect, s.bad = h.next(), nil
	}
}

// block reads the payload behind a header that seek found; nil: it is damaged.
func (s *scanner) block(h header) (*Block, error) {
	b := &Block{header: h, sid: s.seg.sid, buf: s.buffer(h.span())}
	n := int64(headerLen + int(h.stored))
	clear(b.buf[n:])
	if _, err := s.f.ReadAt(b.buf[:n], s.off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !b.check() {
		return nil, nil //nolint:nilnil // damage is an answer, not a failure to read
	}
	return b, nil
}

// sound is block, where one that alone cannot be read is damaged.
func (s *scanner) sound(h header) (*Block, error) {
	b, err := s.block(h)
	if err != nil && readable(s.f, s.off+h.span(), s.limit) {
		s.bad = err
		return nil, nil //nolint:nilnil // as block
	}
	return b, err
}

// readable tells whether anything of the file can be read behind the page of
// off, or, if nothing is there, before it: then what cannot be is damage, and
// not the whole disk's.
func readable(f io.ReaderAt, off, limit int64) bool {
	b := make([]byte, 1)
	for at, step := nextPage(off), int64(pageLen); at < limit; at, step = at+step, 2*step {
		if _, err := f.ReadAt(b, at); err == nil {
			return true
		}
	}
	_, err := f.ReadAt(b, 0)
	return err == nil
}

func nextPage(off int64) int64 { return off&^(pageLen-1) + pageLen }

// intake is how far one pipe is on disk.
type intake struct {
	id         uint64
	end        int64 // stream bytes
	unfinished bool  // the last line goes on behind end
}

// intakes are the last maxIntakes of them, the newest last.
type intakes []intake

// set notes i as the newest. The slice is never changed in place: others hold it.
func (t *intakes) set(i intake) {
	if i.id == 0 {
		return
	}
	next := make(intakes, 0, len(*t)+1)
	for _, old := range *t {
		if old.id != i.id {
			next = append(next, old)
		}
	}
	next = append(next, i)
	*t = next[max(0, len(next)-maxIntakes):]
}

func (t intakes) get(id uint64) (intake, bool) {
	for _, i := range t {
		if i.id == id && id != 0 {
			return i, true
		}
	}
	return intake{}, false
}

const intakesLen = 8 + maxIntakes*24

func (t intakes) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(len(t)))
	for k, i := range t {
		p := b[8+24*k:]
		le.PutUint64(p, i.id)
		le.PutUint64(p[8:], uint64(i.end))
		if i.unfinished {
			p[16] = 1
		}
	}
}

func getIntakes(b []byte) (t intakes) {
	le := binary.LittleEndian
	for k := range min(le.Uint64(b), maxIntakes) {
		p := b[8+24*k:]
		t = append(t, intake{id: le.Uint64(p), end: int64(le.Uint64(p[8:])), unfinished: p[16] == 1})
	}
	return t
}
