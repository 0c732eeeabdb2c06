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

// wait waits for events of fd, or its end, for so many milliseconds; -1: forever.
// False: neither came before the time was over or the context had ended.
func (k *waker) wait(fd int, events int16, ms int) (ready bool, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(k.r.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, ms); !errors.Is(err, unix.EINTR) {
			return err == nil && fds[0].Revents != 0, err
		}
	}
}

// pause waits for the context alone, for at most d.
func (k *waker) pause(d time.Duration) {
	timeout := unix.NsecToTimespec(d.Nanoseconds())
	// A signal may cut it short.
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(k.r.Fd()), Events: unix.POLLIN}}, &timeout, nil)
}
