package intake

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A spool holds what was taken from a pipe and is not yet on disk, in
// descriptors that the keeper holds: a memory file and, after its end, a ring.
// Bytes get into the ring, and from there to the file's end, by splice(2) alone,
// and that is all or nothing as seen from a kill. So the file's size and what the
// ring holds are together how many bytes were ever taken, and after any death of
// the process that took them they show exactly where to continue.
//
//	page 0   magic "WSRMIRR\3" | intake id, u64 | mark, i64 | held, i64 | workers, u64 | wait status, u32 | stuck, u32
//	then     the stream, byte for byte; below the mark there are holes
//
// Bytes below the mark, which are on disk, are never read again. Usually they
// never were in the file: they go from the ring to nowhere, and the file grows by
// a hole. Both cannot be one step: held is what the ring had before, so that a
// mark beyond the file's end shows how much of it is still to do.
//
// The keeper counts the workers that it has started, and says how the one before
// ended, and how many in a row died soon and got nothing on disk.
type spool struct {
	kept
	ring    *ring
	pipe    int // where the bytes come from
	null    int // where they go to be forgotten
	id      uint64
	mark    int64 // stream offset: everything below is on disk
	base    int64 // stream offset: the file ends and the ring begins
	data    int64 // stream offset: after it, the file is a hole
	read    int64 // stream offset: what Read gives next
	teePipe int   // a pipe of this process: what went to the ring last, once more
	teed    int   // bytes in it
}

// kept is what of a spool outlives a process: the descriptors of the memory
// file and of the ring's pipes.
type kept []int

const (
	spoolPage  = 4096
	spoolMagic = "WSRMIRR\x03"
	markAt     = 16      // offset of the mark
	heldAt     = 24      // offset of what the ring held when that was written
	workersAt  = 32      // offset of the number of workers
	spoolAhead = 4 << 20 // bytes taken before anything can be put on disk
)

// newSpool makes an empty spool, for a pipe of its own.
func newSpool() (kept, error) {
	fd, err := unix.MemfdCreate("wsrelay-spool", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	k := kept{fd}
	page := append([]byte(spoolMagic), make([]byte, spoolPage-len(spoolMagic))...)
	_, _ = rand.Read(page[8:16]) // cannot fail
	_, err = unix.Pwrite(fd, page, 0)
	for len(k) <= ringPipes && err == nil {
		if fd, err = newPipe(); err == nil {
			k = append(k, fd)
		}
	}
	if err != nil {
		k.close()
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	return k, nil
}

func (k kept) close() {
	for _, fd := range k {
		_ = unix.Close(fd)
	}
}

// state is what the descriptors show, at any time and to any process.
type state struct {
	id       uint64
	mark     int64
	base     int64
	taken    int64 // stream bytes ever taken; while a worker lives, about so
	leftover int64 // of the ring, to be forgotten by the next process
	workers  uint64
	last     unix.WaitStatus
	stuck    int // workers in a row that died at the same mark
}

func (k kept) state() (s state, err error) {
	var st unix.Stat_t
	var page [workersAt + 16]byte
	if err := unix.Fstat(k[0], &st); err != nil {
		return state{}, os.NewSyscallError("fstat", err)
	}
	if _, err := unix.Pread(k[0], page[:], 0); err != nil {
		return state{}, os.NewSyscallError("pread", err)
	}
	if string(page[:8]) != spoolMagic {
		return state{}, errors.New("the descriptor is something else")
	}
	s = state{
		id:   binary.LittleEndian.Uint64(page[8:]),
		mark: int64(binary.LittleEndian.Uint64(page[markAt:])), base: st.Size - spoolPage,
		workers: binary.LittleEndian.Uint64(page[workersAt:]),
		last:    unix.WaitStatus(binary.LittleEndian.Uint32(page[workersAt+8:])),
		stuck:   int(binary.LittleEndian.Uint32(page[workersAt+12:])),
	}
	held := int64(0)
	for _, pipe := range k[1:] {
		held += waiting(pipe)
	}
	s.taken = s.base + held
	if s.mark > s.base {
		s.taken = s.base + int64(binary.LittleEndian.Uint64(page[heldAt:]))
		s.leftover = held - (s.taken - s.mark)
	}
	return s, nil
}

// count counts more workers, and notes how the last one ended, and how many
// before it died at the same mark.
func (k kept) count(more int, last unix.WaitStatus, stuck int) {
	s, _ := k.state()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], s.workers+uint64(more))
	binary.LittleEndian.PutUint32(b[8:], uint32(last))
	binary.LittleEndian.PutUint32(b[12:], uint32(stuck))
	_, _ = unix.Pwrite(k[0], b[:], workersAt) // a memory file
}

// openSpool is the spool that an earlier process may have left off.
func openSpool(k kept, pipe int) (*spool, error) {
	s, err := k.state()
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	m := &spool{
		kept: k, ring: openRing(k[1:]), pipe: pipe, id: s.id, mark: s.mark, base: s.base, data: s.base,
		read: s.mark,
	}
	if m.null, err = unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open the spool: %s: %w", os.DevNull, err)
	}
	if m.teePipe, err = newPipe(); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	return m, errors.Join(m.forget(s.leftover), m.punch(0)) // what a kill has left to do
}

// taken is how many stream bytes were ever taken.
func (m *spool) taken() int64 { return m.base + m.ring.total }

// spliceIn moves what the pipe holds, at most n bytes, into the spool. 0: the pipe
// has ended. unix.EAGAIN: it holds nothing now.
func (m *spool) spliceIn(n int) (int, error) {
	moved, err := m.ring.spliceIn(m.pipe, int64(n))
	if errors.Is(err, errRingFull) {
		if err = m.spill(); err == nil {
			moved, err = m.ring.spliceIn(m.pipe, int64(n))
		}
	}
	return int(moved), err
}

// spill moves what the ring holds to the file's end.
func (m *spool) spill() error {
	at := m.base + spoolPage
	err := m.ring.give(m.ring.total, m.kept[0], &at)
	m.base = at - spoolPage
	m.data = m.base
	return err
}

// Read gives what the spool holds and was not read, or else takes from the
// pipe first. It is io.Reader's, except for unix.EAGAIN; after any other error there is
// nothing more to read.
func (m *spool) Read(b []byte) (n int, err error) {
	for {
		switch {
		case m.teed > 0:
			n, err = unix.Read(m.teePipe, b[:min(len(b), m.teed)])
			n = max(n, 0)
			m.teed -= n
			m.read += int64(n)
			return n, err
		case m.read < m.base:
			n, err = unix.Pread(m.kept[0], b[:min(int64(len(b)), m.base-m.read)], m.read+spoolPage)
			n = max(n, 0)
			m.read += int64(n)
			return n, err
		case m.read == m.taken():
			err = m.spliceAndTee(len(b))
		default: // a process before took it, or this one while there was no queue
			err = m.spill()
		}
		if err != nil {
			return 0, err
		}
	}
}

// spliceAndTee takes at most n bytes from the pipe, to the ring and to be read.
// Where tee(2) gives none, splice finds out whether it is the end: some kernels'
// tee stops at a buffer that a failed write has left empty.
func (m *spool) spliceAndTee(n int) error {
	tees, err := unix.Tee(m.pipe, m.teePipe, n, unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return err
	}
	if tees > 0 {
		n = int(tees)
	}
	for n > 0 {
		moved, err := m.spliceIn(n)
		if err == nil && moved == 0 {
			err = io.EOF
		}
		if err != nil {
			return err
		}
		if n -= moved; tees == 0 {
			return nil
		}
	}
	m.teed = int(tees)
	return nil
}

// release releases the bytes below to, which are on disk.
func (m *spool) release(to int64) error {
	if to <= m.mark {
		return nil
	}
	b := make([]byte, 0, 16)
	b = binary.LittleEndian.AppendUint64(b, uint64(to))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.ring.total))
	if _, err := unix.Pwrite(m.kept[0], b, markAt); err != nil {
		return fmt.Errorf("mark the spool: %w", err)
	}
	from := m.mark
	m.mark = to
	if from < m.data+spoolPage { // with the data's last page
		if err := m.punch(from); err != nil {
			return err
		}
	}
	return m.forget(to - m.base)
}

// forget lets the ring forget its first n bytes, if the mark is beyond the
// file's end, and the file end at the mark. These are the bytes between the two,
// but for those that went before a kill.
func (m *spool) forget(n int64) error {
	if m.mark <= m.base {
		return nil
	}
	if err := m.ring.give(n, m.null, nil); err != nil {
		return err
	}
	m.base = m.mark
	return os.NewSyscallError("ftruncate", unix.Ftruncate(m.kept[0], m.base+spoolPage))
}

// punch frees the file's whole pages between from, where the last hole ends, and
// the mark.
func (m *spool) punch(from int64) error {
	from = (from + spoolPage) &^ (spoolPage - 1)
	n := (m.mark+spoolPage)&^(spoolPage-1) - from
	if n == 0 {
		return nil
	}
	return os.NewSyscallError("fallocate", unix.Fallocate(m.kept[0], unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
		from, n))
}
