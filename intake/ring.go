package intake

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A ring is pipes that the keeper holds, used one after the other. Bytes move
// into it and out of it by splice(2), which between pipes moves pages and copies
// nothing, so that the writer of the first pipe never waits for a copy. The bytes
// of a move are, as seen from a kill, in one place or in the other.
//
// At least one pipe is always empty: so what the ring holds begins in the pipe
// after an empty one.
type ring struct {
	pipes []int   // descriptors, each for both ends
	held  []int64 // bytes in each
	total int64
	first int // where the oldest bytes are
	last  int // where the next ones go
}

// ringPipes of pipeSize each: what arrives while the disk is busy. The queue holds
// 4 MiB that are not on disk, a read ahead of it is not with the queue yet, and one
// pipe is empty; with fewer, full speed goes through the memory file.
const ringPipes = 7

var errRingFull = errors.New("the ring is full")

// newPipe is a pipe with one descriptor for both ends.
func newPipe() (fd int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(p[0])                                           //nolint:errcheck // of no use any more
	defer unix.Close(p[1])                                           //nolint:errcheck // nor is this
	_, _ = unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize) // not allowed: as it is
	fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", p[0]), unix.O_RDWR|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open", err)
}

// openRing is the ring as an earlier process may have left it.
func openRing(pipes []int) *ring {
	r := &ring{pipes: pipes, held: make([]int64, len(pipes))}
	for k, fd := range pipes {
		r.held[k] = waiting(fd)
		r.total += r.held[k]
	}
	for k := range pipes {
		if next := r.next(k); r.held[k] == 0 && r.held[next] > 0 {
			r.first = next
		} else if r.held[k] > 0 && r.held[next] == 0 {
			r.last = k
		}
	}
	return r
}

// waiting is how many bytes a pipe holds.
func waiting(pipe int) int64 {
	n, _ := unix.IoctlGetInt(pipe, unix.TIOCINQ) // of what has no such count: none
	return int64(n)
}

func (r *ring) next(k int) int { return (k + 1) % len(r.pipes) }

// spliceIn moves at most n bytes from a pipe to the end. 0: the pipe has ended.
// unix.EAGAIN: it holds nothing now. errRingFull: nothing fits. To a full pipe
// splice gives EAGAIN whatever the other one holds, even at its end.
func (r *ring) spliceIn(pipe int, n int64) (int64, error) {
	for {
		moved, err := splice(pipe, r.pipes[r.last], nil, n)
		if errors.Is(err, unix.EAGAIN) && r.held[r.last] > 0 && events(pipe) != 0 {
			next := r.next(r.last)
			if r.held[next] > 0 || r.held[r.next(next)] > 0 {
				return 0, errRingFull
			}
			r.last = next
			continue
		}
		r.held[r.last] += moved
		r.total += moved
		return moved, err
	}
}

// give moves the oldest n bytes to a place in a file or, where there is no
// place, to a device.
func (r *ring) give(n int64, to int, at *int64) error {
	for n > 0 {
		moved, err := splice(r.pipes[r.first], to, at, min(n, r.held[r.first]))
		if err == nil && moved == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return os.NewSyscallError("splice", err)
		}
		n -= moved
		r.total -= moved
		if r.held[r.first] -= moved; r.held[r.first] == 0 && r.first != r.last {
			r.first = r.next(r.first)
		}
	}
	return nil
}

// splice moves at most n bytes and waits for none.
func splice(from, to int, at *int64, n int64) (int64, error) {
	for {
		moved, err := unix.Splice(from, nil, to, at, int(n), unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return max(moved, 0), err
		}
	}
}
