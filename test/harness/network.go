package harness

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Network is a network namespace. It goes with the test and the last process
// in it.
type Network struct {
	work chan func() // for the thread that is in it
}

// NewNetwork makes a namespace with nothing in it but lo, which is down. It
// skips the test where the machine does not allow that.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	NeedMounts(t)
	n := &Network{work: make(chan func())}
	entered := make(chan error)
	var left sync.WaitGroup
	left.Go(func() {
		runtime.LockOSThread() // for ever: the thread ends with its goroutine
		entered <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range n.work {
			f()
		}
	})
	t.Cleanup(func() {
		close(n.work)
		left.Wait()
	})
	if err := <-entered; err != nil {
		Lack(t, "no network namespace: "+err.Error())
	}
	return n
}

// Do runs f in the namespace. What f starts is in it, too.
func (n *Network) Do(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
}

// Up gives an interface of the namespace an address, with a /24 around it, and
// turns it on.
func (n *Network) Up(name string, addr netip.Addr) (err error) {
	n.Do(func() { err = up(name, addr) })
	return err
}

func up(name string, addr netip.Addr) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(socket) //nolint:errcheck // it carried nothing
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	for _, set := range []struct {
		call uint
		addr []byte
	}{{unix.SIOCSIFADDR, addr.AsSlice()}, {unix.SIOCSIFNETMASK, []byte{255, 255, 255, 0}}} {
		err = errors.Join(err, r.SetInet4Addr(set.addr))
		err = errors.Join(err, unix.IoctlIfreq(socket, set.call, r))
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := errors.Join(err, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, r)); err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	return nil
}
