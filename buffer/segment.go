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
	"time"

	"wsrelay/internal/codec"
)

const (
	pageLen       = 4096 // a segment's header, twice
	halfLen       = pageLen / 2
	headAt        = pageLen + headerLen // and a third time
	headEnd       = headAt + halfLen
	formatVersion = 1
	segmentMagic  = "WSRSEGM\x00"
	spareName     = "spare"
	bootAt        = 64 + intakesLen + 8
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
	created int64         // Unix ms
	intakes intakes       // how far each was on disk before this segment
	acked   uint64        // every record below had its receipt
	boot    [16]byte      // the start of the machine in which it was created
	up      time.Duration // and how long after it
	size    int64         // of the file, for the account
	written int64         // bytes of it that can be read: those after are from its former life
	next    uint64        // base of the next one; open end: 0

	kept     bool // its lines were dropped, and it could not be removed
	rewrites int  // counts the times that its file was written again, since it had lost its name
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

// page is the header twice, so that damage to one does not cost the segment.
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
	copy(b[bootAt:], s.boot[:])
	le.PutUint64(b[bootAt+16:], uint64(s.up.Milliseconds()))
	le.PutUint32(b[halfLen-4:], crc32.Checksum(b[:halfLen-4], castagnoli))
	return append(b, b...)
}

// head is the page, and after it the header once more as a block: should the
// page be lost, without which no block of the segment counts.
func (s *segment) head() []byte {
	page := s.page()
	b := &Block{
		header: header{kind: kindHead, first: s.base, segment: s.id},
		buf:    append(make([]byte, headerLen), page[:halfLen]...),
	}
	b.encode(codec.Raw, nil)
	b.put(b.buf, s.nonce)
	return append(page, b.buf...)
}

// findSegment reads the header of the segment with this id, and its size. A file
// of which the header alone cannot be read is none.
func findSegment(fsys fileSystem, id uint64) (*segment, error) {
	f, err := fsys.open(segmentName(id))
	if errors.Is(err, errStrange) {
		return nil, fmt.Errorf("%w: %w", errNoSegment, err)
	}
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

// readSegment reads the header, the first that is sound.
func readSegment(f io.ReaderAt, id uint64) (*segment, error) {
	f = withRetry(f)
	var first error
	b := make([]byte, halfLen)
	for _, off := range []int64{0, halfLen, headAt} {
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
		boot:  [16]byte(b[bootAt:]), up: time.Duration(le.Uint64(b[bootAt+16:])) * time.Millisecond,
	}, nil
}

// createSegment gives the directory a further segment, complete and durable
// with its blocks before it has its name. It is built in the file spare: a
// recycled one if there is one. The offset is where the next block goes.
func createSegment(fsys fileSystem, s *segment, blocks []*Block) (file, int64, error) {
	f, err := fsys.openForWriting(spareName)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStrange) || errors.Is(err, fs.ErrPermission) {
		f, err = createAnew(fsys, spareName)
	}
	if err != nil {
		return nil, 0, err
	}
	off, err := fillSegment(f, s, blocks)
	if err == nil {
		err = renameOver(fsys, spareName, segmentName(s.id))
	}
	if err == nil {
		err = fsys.syncDir(".")
	}
	if err == nil {
		s.size, err = f.size()
	}
	if err != nil {
		if !noSpace(err) { // else it has space, which is worth keeping
			_ = fsys.remove(spareName)
		}
		return nil, 0, errors.Join(fmt.Errorf("create segment %s: %w", segmentName(s.id), err), f.Close())
	}
	return f, off, nil
}

func fillSegment(f file, s *segment, blocks []*Block) (off int64, err error) {
	if err := f.writeAt(s.head(), 0); err != nil {
		return 0, err
	}
	off = headEnd
	for _, b := range blocks {
		if err := s.write(f, &off, b); err != nil {
			return 0, err
		}
	}
	return off, f.sync()
}

// write puts the block at off, in one write, and moves off after it.
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
