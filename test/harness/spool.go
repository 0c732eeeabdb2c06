package harness

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Spool is what a keeper holds of its pipe, of which intake/spool.go has the
// picture: a memory file, and then the ring's pipes.
type Spool struct {
	file  *os.File
	pipes []*os.File
}

const (
	spoolPage  = 4096
	spoolPipes = 7 // intake's ringPipes
)

func findSpool(pid int) *Spool {
	m := &Spool{}
	for fd := range 64 { // in the order in which they were made
		name := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
		switch to, _ := os.Readlink(name); {
		case strings.HasPrefix(to, "/memfd:wsrelay-spool"):
			m.file, _ = os.Open(name)
		case strings.HasPrefix(to, "pipe:") && bothEnds(pid, fd):
			if f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
				m.pipes = append(m.pipes, f)
			}
		}
	}
	if m.file == nil || len(m.pipes) < spoolPipes {
		m.close()
		return nil
	}
	return m
}

// bothEnds: no other pipe's descriptor is for reading and writing.
func bothEnds(pid, fd int) bool {
	var pos, flags int
	info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	_, _ = fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags)
	return flags&unix.O_ACCMODE == unix.O_RDWR
}

func (m *Spool) number(at int64) int64 {
	var b [8]byte
	_, _ = m.file.ReadAt(b[:], at) // a memory file; shorter: nothing yet
	return int64(binary.LittleEndian.Uint64(b[:]))
}

// Rest takes out what the spool of a dead keeper holds and the disk does not
// have: everything behind the mark.
func (m *Spool) Rest() (mark int64, rest []byte, err error) {
	st, err := m.file.Stat()
	if err != nil {
		return 0, nil, err
	}
	var ring []byte
	for k, held := m.firstPipe(), true; held; k++ {
		b, err := io.ReadAll(m.pipes[k%spoolPipes])
		if err != nil {
			return 0, nil, err
		}
		ring, held = append(ring, b...), len(b) > 0
	}
	mark, end := m.number(16), st.Size()-spoolPage
	if mark > end { // the ring was about to forget what is between them
		return mark, ring[int64(len(ring))-(end+m.number(24)-mark):], nil
	}
	inFile, err := io.ReadAll(io.NewSectionReader(m.file, mark+spoolPage, end-mark))
	return mark, slices.Concat(inFile, ring), err
}

// firstPipe is where the ring begins: behind an empty pipe.
func (m *Spool) firstPipe() int {
	empty := func(k int) bool {
		n, _ := unix.IoctlGetInt(int(m.pipes[k%spoolPipes].Fd()), unix.TIOCINQ)
		return n == 0
	}
	for k := range spoolPipes {
		if empty(k) && !empty(k+1) {
			return (k + 1) % spoolPipes
		}
	}
	return 0
}

func (m *Spool) close() {
	_ = m.file.Close() // of none: no harm
	for _, p := range m.pipes {
		_ = p.Close()
	}
}
