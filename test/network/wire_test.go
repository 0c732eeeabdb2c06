package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// site is a network namespace with one interface, net0. What it sends there
// is for us to carry.
type site struct {
	*harness.Network
	net0 *os.File
}

// newSite makes a namespace whose net0 has the address.
func newSite(t *testing.T, addr string) *site {
	t.Helper()
	s := &site{Network: harness.NewNetwork(t)}
	var err error
	s.Do(func() { s.net0, err = openTUN() })
	if err != nil {
		t.Skipf("no TUN device: %v", err)
	}
	t.Cleanup(func() { _ = s.net0.Close() })
	harness.Must(t, s.Up("net0", netip.MustParseAddr(addr)))
	return s
}

func (s *site) start(cmd *exec.Cmd) (err error) {
	s.Do(func() { err = cmd.Start() })
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
	s.Do(func() { err = cmd.Run() })
	if err != nil {
		return fmt.Errorf("nft: %w: %s", err, said.String())
	}
	return nil
}

// openTUN makes net0, a device whose packets the file gives and takes.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	r, err := unix.NewIfreq("net0")
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make net0: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "net0"), nil // not before: the poller must see the device
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
