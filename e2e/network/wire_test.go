package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/e2e/stand"
)

// site is a network namespace with one interface, net0. What it sends there
// is for us to carry. The namespace goes with the last process in it.
type site struct {
	addr netip.Addr
	net0 *os.File
	work chan func() // for the thread that is in the namespace
}

// newSite makes a namespace whose net0 has the address.
func newSite(t *testing.T, addr string) *site {
	t.Helper()
	s := &site{addr: netip.MustParseAddr(addr), work: make(chan func())}
	entered := make(chan error)
	var left sync.WaitGroup
	left.Go(func() {
		runtime.LockOSThread() // for ever: the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		entered <- err
		for f := range s.work {
			f()
		}
	})
	t.Cleanup(func() {
		close(s.work)
		left.Wait()
	})
	if err := <-entered; err != nil {
		stand.Lack(t, fmt.Sprintf("no right to make a network namespace: this needs root: %v", err))
	}
	var err error
	s.do(func() { s.net0, err = openTUN(s.addr) })
	if err != nil {
		stand.Lack(t, fmt.Sprintf("no TUN device: %v", err))
	}
	t.Cleanup(func() { _ = s.net0.Close() })
	return s
}

// do runs f in the namespace. What f starts is in it, too.
func (s *site) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

func (s *site) start(cmd *exec.Cmd) (err error) {
	s.do(func() { err = cmd.Start() })
	return err
}

// rules replaces what nft does with the packets that come in at net0.
func (s *site) rules(rule string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet weather {}\nflush table inet weather\n" +
		"table inet weather {\nchain in {\ntype filter hook input priority 0\n" + rule + "\n}\n}\n")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	var err error
	s.do(func() { err = cmd.Run() })
	if err != nil {
		return fmt.Errorf("nft: %w: %s", err, said.String())
	}
	return nil
}

// openTUN makes net0, a device whose packets the file gives and takes, with a
// /24 around addr.
func openTUN(addr netip.Addr) (*os.File, error) {
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket: %w", err), unix.Close(tun))
	}
	defer unix.Close(socket) //nolint:errcheck // it carried nothing
	set := func(fd int, call uint, value func(*unix.Ifreq) error) {
		r, e := unix.NewIfreq("net0")
		if e == nil {
			e = value(r)
		}
		if e == nil {
			e = unix.IoctlIfreq(fd, call, r)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("set up net0, call %#x: %w", call, e))
		}
	}
	set(tun, unix.TUNSETIFF, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI); return nil })
	set(socket, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(addr.AsSlice()) })
	set(socket, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) })
	set(socket, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	if err != nil {
		return nil, errors.Join(err, unix.Close(tun))
	}
	return os.NewFile(uintptr(tun), "net0"), nil // not before: the poller must see the device
}

// What the wire does to packets.
const (
	delay      = 100 * time.Millisecond
	jitter     = 50 * time.Millisecond  // more or less
	jitterTime = 250 * time.Millisecond // the delay stays the same so long, about
	inTransit  = 8192                   // packets; a further one is dropped
)

// connect carries packets between two sites until the test ends.
func connect(t *testing.T, a, b *site) *traffic {
	n := &traffic{}
	var carried sync.WaitGroup
	for _, way := range [][2]*os.File{{a.net0, b.net0}, {b.net0, a.net0}} {
		packets := make(chan packet, inTransit)
		carried.Go(func() { n.take(way[0], packets) })
		carried.Go(func() { n.give(way[1], packets) })
	}
	t.Cleanup(func() {
		_, _ = a.net0.Close(), b.net0.Close()
		carried.Wait()
	})
	return n
}

// traffic is what went over the wire.
type traffic struct{ packets, bytes, dropped atomic.Int64 }

type packet struct {
	due   time.Time
	bytes []byte
}

// take reads what a site sends until its device is closed.
func (n *traffic) take(from *os.File, to chan<- packet) {
	defer close(to)
	b := make([]byte, 64<<10)
	var late time.Duration
	var redraw, last time.Time
	for {
		k, err := from.Read(b)
		if err != nil {
			return
		}
		now := time.Now()
		if now.After(redraw) {
			late, redraw = delay-jitter+rand.N(2*jitter), now.Add(rand.N(2*jitterTime))
		}
		if due := now.Add(late); due.After(last) { // no packet overtakes another
			last = due
		}
		select {
		case to <- packet{last, append([]byte(nil), b[:k]...)}:
			n.packets.Add(1)
			n.bytes.Add(int64(k))
		default:
			n.dropped.Add(1)
		}
	}
}

// give hands packets to a site when they are due.
func (n *traffic) give(to *os.File, packets <-chan packet) {
	for p := range packets {
		time.Sleep(time.Until(p.due))
		_, _ = to.Write(p.bytes) // it may be closed; then take ends, too
	}
}
