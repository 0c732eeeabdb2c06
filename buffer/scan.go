package buffer

import (
	"errors"
	"io"
	"iter"
	"math"
)

// scanner walks a segment's blocks in the order of the file.
type scanner struct {
	f      io.ReaderAt
	seg    *segment
	limit  int64 // the file's size, or how far it is written
	off    int64 // where the next block is looked for, or the one that was found begins
	good   int64 // after the last block that counted: from here to off is damage, or what bad says
	void   bool  // the block at off does not count: its numbers are missing
	expect uint64
	bad    error  // why some bytes after the last data block could not be read; nil: all could
	window []byte // n bytes of the file, from offset at
	at     int64
	n      int
	buffer func(n int64) []byte // memory for a block
}

func newScanner(f io.ReaderAt, s *segment, limit int64) *scanner {
	return &scanner{
		f: f, seg: s, limit: limit, off: pageLen, good: pageLen, expect: s.base,
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

// blocks walks on to the last block. A loop that is left stays at its block.
func (s *scanner) blocks() iter.Seq2[header, error] {
	return func(yield func(header, error) bool) {
		for {
			h, err := s.seek()
			if errors.Is(err, io.EOF) || !yield(h, err) || err != nil {
				return
			}
			s.skip(h)
		}
	}
}

// find walks on to the data block that holds record seq, or, if that is missing,
// a later one. io.EOF: there is none.
func (s *scanner) find(seq uint64) (header, error) {
	for h, err := range s.blocks() {
		if err != nil || h.kind == kindData && h.next() > seq {
			return h, err
		}
	}
	return header{}, io.EOF
}

// end walks on to the end, and gives the number that would come next.
func (s *scanner) end() (uint64, error) {
	_, err := s.find(math.MaxUint64)
	return s.expect, ignore(err, io.EOF)
}

// seek moves to the next header, however far it is. io.EOF: no more blocks.
func (s *scanner) seek() (header, error) {
	for {
		h, ok, err := s.header()
		switch {
		case ok:
			return h, nil
		case err == nil:
			s.off += alignment
		case errors.Is(err, io.EOF) || !readable(s.f, s.off, s.limit):
			return header{}, err
		default:
			s.bad, s.off = err, nextPage(s.off)
		}
	}
}

// skip continues after the block that seek found. The header of one that is
// void is sound: it says where the next block is.
func (s *scanner) skip(h header) {
	s.off += h.span()
	if s.void {
		s.void = false
		return
	}
	s.good = s.off
	if h.kind == kindData {
		s.expect, s.bad = h.next(), nil
	}
}

// block reads the payload after a header that seek found; nil: it is damaged.
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

// sound is block, where one that alone cannot be read is damaged, too. One that
// is damaged does not count.
func (s *scanner) sound(h header) (*Block, error) {
	b, err := s.block(h)
	if err != nil && readable(s.f, s.off+h.span(), s.limit) {
		s.bad, err = err, nil
	}
	s.void = b == nil
	return b, err
}

// readable reports whether anything of the file can be read after the page of
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
