// Package intake moves lines from a pipe into the queue.
//
// A line is what stands between two newlines, whatever its bytes are: CR, NUL
// and invalid UTF-8 stay. Empty lines are skipped. What stands behind the last
// newline when the pipe ends is a line too. A line longer than MaxLine is cut
// into pieces of that length, each a line of its own.
//
// The intake reads as fast as the queue takes: where the queue waits, for the
// disk or for its limit, the pipe fills and its writer waits.
package intake

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

const (
	readSize = 256 << 10 // room for each read(2)
	pipeSize = 1 << 20   // asked of the kernel: fewer, larger reads
)

// Queue is what the intake needs of the disk-backed queue.
type Queue interface {
	Append(ctx context.Context, lines []byte, n int, o buffer.Origin) (buffer.Range, error)
}

// Intake reads one pipe, or whatever else the descriptor is.
type Intake struct {
	fd    int
	queue Queue
	buf   []byte // read and not yet appended: at most one line and one read
	lines uint64
}

// New reads from the descriptor fd, which stays the caller's.
func New(fd int, q Queue) *Intake {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) // not a pipe, or not allowed: as it is
	return &Intake{fd: fd, queue: q}
}

// Run appends lines until the pipe ends, and then returns nil: every line read
// is in the queue. When stop ends it takes what the pipe still holds and does
// not wait for more. When ctx ends it gives up, and lines in memory are lost.
func (in *Intake) Run(ctx context.Context, stop context.Context) error {
	wake, err := newWaker(stop)
	if err != nil {
		return err
	}
	defer wake.close()
	for {
		ready, err := wake.wait(in.fd)
		if err != nil {
			return fmt.Errorf("wait for lines: %w", err)
		}
		if !ready {
			return in.finish(ctx)
		}
		n, err := in.read()
		if err != nil {
			return fmt.Errorf("read lines: %w", err)
		}
		if n == 0 {
			return in.finish(ctx)
		}
		if err := in.append(ctx); err != nil {
			return err
		}
	}
}

func (in *Intake) read() (int, error) {
	used := len(in.buf)
	if cap(in.buf)-used < readSize {
		in.buf = append(make([]byte, 0, 2*used+2*readSize), in.buf...)
	}
	for {
		n, err := unix.Read(in.fd, in.buf[used:used+readSize])
		switch {
		case err == nil:
			in.buf = in.buf[:used+n]
			return n, nil
		case errors.Is(err, unix.EAGAIN): // somebody else read it first: wait again
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(in.fd), Events: unix.POLLIN}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return 0, err
			}
		case !errors.Is(err, unix.EINTR):
			return 0, err
		}
	}
}

// append gives the queue all whole lines, and what is too long to wait for its
// newline.
func (in *Intake) append(ctx context.Context) error {
	b := in.buf
	for {
		skip, end, n := cut(b, buffer.MaxBlock, buffer.MaxBlockLines)
		run := b[skip:end]
		if end-skip > buffer.MaxLine+1 || n == 0 && len(b)-skip > buffer.MaxLine {
			end = skip + buffer.MaxLine
			run, n = withNewline(b[skip:end]), 1
		}
		if n == 0 {
			in.buf = in.buf[:copy(in.buf, b[skip:])]
			return nil
		}
		if _, err := in.queue.Append(ctx, run, n, buffer.Origin{}); err != nil {
			return err
		}
		in.lines += uint64(n)
		b = b[end:]
	}
}

// finish keeps what has no newline as a line.
func (in *Intake) finish(ctx context.Context) error {
	if len(in.buf) == 0 {
		return nil
	}
	in.buf = withNewline(in.buf)
	return in.append(ctx)
}

func withNewline(b []byte) []byte {
	return append(b[:len(b):len(b)], '\n')
}

// Lines is how many lines went to the queue; once Run has returned.
func (in *Intake) Lines() uint64 { return in.lines }

// waker lets a context end a wait for a descriptor. The descriptor itself is
// not made non-blocking: others share that.
type waker struct {
	r, w *os.File
	off  func() bool
}

func newWaker(ctx context.Context) (*waker, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k := &waker{r: r, w: w}
	k.off = context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) })
	return k, nil
}

func (k *waker) close() {
	k.off()
	_ = k.r.Close()
	_ = k.w.Close()
}

// wait waits until fd can be read or has ended; false: nothing is there, and
// the context has ended.
func (k *waker) wait(fd int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(k.r.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == nil {
			return fds[0].Revents != 0, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
}
