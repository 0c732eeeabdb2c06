package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// segment is a file of the journal. The fields below mu's mark are guarded by
// Journal.mu once the segment is in Journal.segs.
type segment struct {
	name   string // EPOCH-NUMBER, which every row of it has
	id     segmentID
	nonce  uint64
	prev   segmentID // the one before it,
	cut    int64     // which ends here, whatever else is in its file
	f      file
	stale  bool // CHECKPOINT is younger than everything in it
	former bool // an earlier Open wrote it
	unsure bool // more may have been in it than can be read: no successor says where it ends, or it is damaged

	// Guarded by Journal.mu.
	end     int64 // everything below is durable
	size    int64 // of the file: the rest is allocated
	rows    uint64
	applied int64           // everything below is in the database, unless recount is set
	recount bool            // the database may have any part of it
	sealed  bool            // no more is written to it
	damaged int64           // damage up to here has been reported; 0: there is none
	first   time.Time       // when its first record was committed
	has     map[string]Span // the lines of each stream in it are among these
}

// segmentID is what a segment is called: the epoch is drawn at random by each
// Open, so a restored directory never repeats a name.
type segmentID struct{ epoch, number uint64 }

func (i segmentID) String() string { return fmt.Sprintf("%016x-%010d", i.epoch, i.number) }

func parseSegment(file string) (i segmentID, ok bool) {
	_, err := fmt.Sscanf(file, "%016x-%d.seg", &i.epoch, &i.number)
	return i, err == nil && i.String()+".seg" == file
}

func (s *segment) path() string { return journalDir + "/" + s.name + ".seg" }

// The header stands in two sectors, so that damage to one does not cost the
// segment.
const (
	segHead    = 2 * sectorSize
	sectorSize = 512
	headerLen  = 64
	magicSeg   = "WSRJOUR\x00"
	segVersion = 1
)

// header is the start of the file; doc.go has the picture.
func (s *segment) header() []byte {
	b := make([]byte, headerLen, sectorSize)
	copy(b, magicSeg)
	le.PutUint32(b[8:], segVersion)
	le.PutUint64(b[16:], s.nonce)
	le.PutUint64(b[24:], s.id.epoch)
	le.PutUint64(b[32:], s.id.number)
	le.PutUint64(b[40:], s.prev.epoch)
	le.PutUint64(b[48:], s.prev.number)
	le.PutUint64(b[56:], uint64(s.cut))
	le.PutUint32(b[12:], seeded(segVersion, b[16:]))
	return bytes.Repeat(b[:sectorSize], 2)
}

var errHeader = errors.New("not a segment of this journal")

// readHeader completes a segment of which only id and f are set.
func (s *segment) readHeader() error {
	b := make([]byte, segHead)
	if err := (&scanner{f: s.f}).read(b, 0); err != nil {
		return err
	}
	if !isHeader(b) {
		b = b[sectorSize:]
	}
	if !isHeader(b) || (segmentID{le.Uint64(b[24:]), le.Uint64(b[32:])}) != s.id {
		return errHeader
	}
	if v := le.Uint32(b[8:]); v != segVersion {
		return fmt.Errorf("segment %s has format %d, and this version knows %d", s.id, v, segVersion)
	}
	s.name, s.nonce = s.id.String(), le.Uint64(b[16:])
	s.prev, s.cut = segmentID{le.Uint64(b[40:]), le.Uint64(b[48:])}, int64(le.Uint64(b[56:]))
	s.has = map[string]Span{}
	return nil
}

func isHeader(b []byte) bool {
	return string(b[:8]) == magicSeg && le.Uint32(b[12:]) == seeded(uint64(le.Uint32(b[8:])), b[16:headerLen])
}

func newNonce() uint64 { return rand.Uint64() }

// note remembers which lines the segment holds.
func (s *segment) note(sid string, from, to uint64) {
	if from == to {
		return
	}
	if p, ok := s.has[sid]; ok {
		from, to = min(from, p[0]), max(to, p[1])
	}
	s.has[sid] = Span{from, to}
}

// collect adds the lines and gaps that can be read from the segment.
func (s *segment) collect(to present) error {
	return eachRecord(s.scan(segHead, s.end), func(r *record) error {
		switch r.kind {
		case kindLines:
			to.of(r.sid).lines.add(r.seq, r.seq+uint64(r.n))
		case kindGap:
			b, _, err := r.batch(nil)
			if err != nil {
				return err
			}
			to.add(ID{r.sid, b.Gap.Seq, b.Gap.N})
		}
		return nil
	})
}

// scanner reads the records of a segment from one offset up to another. What is
// no record is damage if the bytes there were durable once, and else what a crash
// has left of a commit that nobody has a receipt for.
type scanner struct {
	f        io.ReaderAt
	nonce    uint64
	off, end int64
	torn     bool                 // the end is not known: it is before the first bytes that are no record
	damage   func(from, to int64) // called for each part that was durable and is not readable

	buf []byte // of the file,
	at  int64  // from here on
}

func (s *segment) scan(from, to int64) *scanner {
	return &scanner{f: s.f, nonce: s.nonce, off: from, end: to, damage: func(int64, int64) {}}
}

// eachRecord calls f with the records that are left.
func eachRecord(s *scanner, f func(r *record) error) error {
	for {
		r, err := s.next()
		if err == nil {
			err = f(&r)
		}
		if err != nil {
			return ignore(err, io.EOF)
		}
	}
}

const (
	scanSize = 256 << 10
	pageSize = 4096
)

// bytes gives some bytes of the file, valid until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	if off < s.at || off+n > s.at+int64(len(s.buf)) {
		size := min(max(n, scanSize), s.end-off)
		if int64(cap(s.buf)) < size {
			s.buf = make([]byte, size)
		}
		s.buf, s.at = s.buf[:size], off
		if err := s.read(s.buf, off); err != nil {
			s.buf = s.buf[:0]
			return nil, err
		}
	}
	return s.buf[off-s.at:][:n], nil
}

// read reads b whole. Pages that the disk cannot read count as zeros, and so as
// damage, unless it can read none.
func (s *scanner) read(b []byte, off int64) error {
	n, err := s.f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		clear(b[n:]) // the file was cut short: what was there is damage
		return nil
	}
	readable := false
	for i := 0; i < len(b); {
		page := b[i:min(i+pageSize-int(off+int64(i))%pageSize, len(b))]
		if n, again := s.f.ReadAt(page, off+int64(i)); n < len(page) && !errors.Is(again, io.EOF) {
			clear(page)
		} else {
			clear(page[n:])
			readable = true
		}
		i += len(page)
	}
	if !readable && !s.readsAt(0, off-1, (off+int64(len(b))+pageSize-1)/pageSize*pageSize) {
		return err
	}
	return nil
}

// readsAt tells whether a byte can be read at one of these offsets: the disk is there.
func (s *scanner) readsAt(offs ...int64) bool {
	return slices.ContainsFunc(offs, func(off int64) bool {
		n, _ := s.f.ReadAt(make([]byte, 1), max(0, off))
		return n > 0
	})
}

// next gives the next record, whose payload is valid until the call after it;
// io.EOF: there is none.
func (s *scanner) next() (r record, err error) {
	if r, err = s.record(s.off); !errors.Is(err, errNoRecord) {
		s.off = max(s.off, r.next)
		return r, err
	}
	bad := s.off
	for s.off = bad + 1; ; s.off++ {
		if err = s.search(); err != nil {
			break
		}
		if r, err = s.record(s.off); errors.Is(err, errNoRecord) {
			continue
		}
		if err == nil && s.torn && r.synced <= bad {
			// Of a commit that the crash cut short, unless a record of a later one shows
			// that it was durable.
			at := r.off
			if err = s.durable(bad, r.next); err == nil {
				r, err = s.record(at)
			}
		}
		break
	}
	switch {
	case err == nil:
		s.damage(bad, r.off)
		s.off = r.next
	case errors.Is(err, io.EOF) && !s.torn:
		s.damage(bad, s.end)
		s.off = s.end
	default:
		s.off = bad
	}
	return r, err
}

// durable looks for a record from off on that was written after what is at bad was
// durable; io.EOF: there is none.
func (s *scanner) durable(bad, off int64) error {
	for s.off = off; ; s.off++ {
		r, err := s.record(s.off)
		switch {
		case err == nil && r.synced > bad:
			return nil
		case err == nil:
			s.off = r.next - 1
			continue
		case !errors.Is(err, errNoRecord):
			return err
		}
		s.off++
		if err := s.search(); err != nil {
			return err
		}
		s.off--
	}
}

var errNoRecord = errors.New("no record")

// record reads the record at off.
func (s *scanner) record(off int64) (r record, err error) {
	if off == s.end {
		return r, io.EOF
	}
	if off+headLen > s.end {
		return r, errNoRecord
	}
	b, err := s.bytes(off, headLen)
	if err != nil {
		return r, err
	}
	h := [headLen]byte(b)
	r, size, ok := decodeHead(h[:], s.nonce)
	if r.off, r.next = off, off+headLen+int64(size); !ok || r.next > s.end {
		return record{}, errNoRecord
	}
	if b, err = s.bytes(off+headLen, int64(size)); err != nil {
		return record{}, err
	}
	if !r.decodeBody(h[:], b) {
		return record{}, errNoRecord
	}
	return r, nil
}

// search moves to the next bytes that may be a record.
func (s *scanner) search() error {
	for s.off+headLen <= s.end {
		b, err := s.bytes(s.off, min(scanSize, s.end-s.off))
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte(magicRec)); i >= 0 {
			s.off += int64(i)
			return nil
		}
		s.off += int64(len(b)) - int64(len(magicRec)-1)
	}
	return io.EOF
}
