package intake

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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
	return &waker{r: r, w: w, off: context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) })}, nil
}

func (k *waker) close() {
	k.off()
	_ = k.r.Close()
	_ = k.w.Close()
}

// What a wait can end with.
type outcome int

const (
	readable outcome = iota // the events, or the end
	stopped                 // there are none, and the context has ended
	nothing                 // there are none, and the time is over
)

// wait waits for events of fd, or its end, for so many milliseconds; -1: for ever.
func (k *waker) wait(fd int, events int16, ms int) (outcome, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(k.r.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, ms)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nothing, err
		case n == 0:
			return nothing, nil
		case fds[0].Revents != 0:
			return readable, nil
		default:
			return stopped, nil
		}
	}
}

// pause waits for the context alone, for at most d.
func (k *waker) pause(d time.Duration) {
	timeout := unix.NsecToTimespec(d.Nanoseconds())
	// A signal may cut it short.
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(k.r.Fd()), Events: unix.POLLIN}}, &timeout, nil)
}
