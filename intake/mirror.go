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

// A mirror is a memory file that holds what was ever taken from a pipe and is
// not yet on disk. Bytes get into it by splice(2) alone, at its end, and that is
// all or nothing as seen from a kill: so its size is how many bytes were ever
// taken, and after any death of the process that took them it tells exactly
// where to go on. What is on disk is freed again, by holes.
//
//	page 0   magic "WSRMIRR\1" | intake id, u64 | mark, i64 | workers, u64 | wait status, u32
//	then     the stream, byte for byte; below the mark there are holes
//
// The mark is moved before the hole is made: bytes below it are never read. The
// keeper counts the workers that it has started, and says how the one before
// ended.
type mirror struct {
	f    *os.File
	pipe int // where the bytes come from
	id   uint64
	mark int64 // stream offset: everything below is on disk
	read int64 // stream offset: what Read gives next
	size int64 // stream bytes taken
}

const (
	mirrorPage  = 4096
	mirrorMagic = "WSRMIRR\x01"
	markAt      = 16      // offset of the mark
	workersAt   = 24      // offset of the number of workers
	mirrorAhead = 4 << 20 // bytes taken before anything can be put on disk
	manyPages   = 32 << 10
)

// newMirror makes an empty mirror, for a pipe of its own.
func newMirror() (fd int, err error) {
	fd, err = unix.MemfdCreate("wsrelay-mirror", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("make the mirror: %w", err)
	}
	page := append([]byte(mirrorMagic), make([]byte, mirrorPage-len(mirrorMagic))...)
	_, _ = rand.Read(page[8:16]) // cannot fail
	if n, err := unix.Pwrite(fd, page, 0); n < len(page) {
		return 0, fmt.Errorf("make the mirror: %w", errors.Join(err, unix.Close(fd)))
	}
	return fd, nil
}

// openMirror is the mirror that an earlier process may have left off.
func openMirror(f *os.File, pipe int) (*mirror, error) {
	page := make([]byte, 24)
	if _, err := f.ReadAt(page, 0); err != nil {
		return nil, fmt.Errorf("open the mirror: %w", err)
	}
	if string(page[:8]) != mirrorMagic {
		return nil, errors.New("open the mirror: the descriptor is something else")
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the mirror: %w", err)
	}
	m := &mirror{
		f: f, pipe: pipe, size: st.Size() - mirrorPage,
		id: binary.LittleEndian.Uint64(page[8:]), mark: int64(binary.LittleEndian.Uint64(page[markAt:])),
	}
	m.read = m.mark
	return m, m.punch(0) // what a kill between mark and hole has left
}

// take moves what the pipe holds, at most n bytes, to the mirror's end. 0: the
// pipe has ended. unix.EAGAIN: it holds nothing now.
func (m *mirror) take(n int) (int, error) {
	m.makePages(n)
	for {
		end := m.size + mirrorPage
		moved, err := unix.Splice(m.pipe, nil, int(m.f.Fd()), &end, n, unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			m.size += max(moved, 0)
			return int(max(moved, 0)), err
		}
	}
}

// makePages makes room for a large piece. splice would do it too, but it holds the
// pipe's lock meanwhile, and the writer waits for that.
func (m *mirror) makePages(n int) {
	held, _ := unix.IoctlGetInt(m.pipe, unix.TIOCINQ) // not known: none
	if n = min(n, held); n >= manyPages {
		_ = unix.Fallocate(int(m.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, m.size+mirrorPage, int64(n)) // splice says what is wrong
	}
}

// pending: there is something to read without waiting for the pipe.
func (m *mirror) pending() bool { return m.read < m.size }

// Read gives what the mirror holds and was not read, or else takes from the
// pipe first. It is io.Reader's, but for unix.EAGAIN.
func (m *mirror) Read(b []byte) (int, error) {
	if !m.pending() {
		if n, err := m.take(len(b)); err != nil {
			return 0, err
		} else if n == 0 {
			return 0, io.EOF
		}
	}
	n, err := m.f.ReadAt(b[:min(int64(len(b)), m.size-m.read)], m.read+mirrorPage)
	m.read += int64(n)
	return n, err
}

// release frees the bytes below to, which are on disk.
func (m *mirror) release(to int64) error {
	if to <= m.mark {
		return nil
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(to))
	if _, err := m.f.WriteAt(b[:], markAt); err != nil {
		return fmt.Errorf("mark the mirror: %w", err)
	}
	from := m.mark
	m.mark = to
	return m.punch(from)
}

// punch frees the whole pages between from, where the last hole ends, and the
// mark.
func (m *mirror) punch(from int64) error {
	from = (from + mirrorPage) &^ (mirrorPage - 1)
	n := (m.mark+mirrorPage)&^(mirrorPage-1) - from
	if n == 0 {
		return nil
	}
	return os.NewSyscallError("fallocate", unix.Fallocate(int(m.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, n))
}
