package buffer

import (
	"errors"
	"io"
)

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
	if off+int64(n) > s.limit {
		return nil, io.EOF
	}
	if off < s.at || off+int64(n) > s.at+int64(s.n) {
		if s.window == nil {
			s.window = make([]byte, 64<<10)
		}
		got, err := s.f.ReadAt(s.window[:min(int64(len(s.window)), s.limit-off)], off)
		if got < n { // a bad page further on must not cost these n bytes
			got, err = s.f.ReadAt(s.window[:n], off)
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

// skip continues behind the block that seek found.
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
