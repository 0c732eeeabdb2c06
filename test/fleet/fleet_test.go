package fleet

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/relay"
	"wsrelay/test/certs"
	"wsrelay/test/harness"
)

const address = "198.51.100.1"

// TestFleet_ComesBackBitByBit has all senders connected and idle, then kills
// wsreceive, later stops it cleanly, and each time lets every sender have
// a line to send.
func TestFleet_ComesBackBitByBit(t *testing.T) {
	size, calm := 200, time.Duration(0)
	if harness.Long() {
		size, calm = 10_000, 50*time.Second // a few pings
	}
	for _, tt := range []struct {
		name string
		tls  bool
	}{{"TLS and keys", true}, {"plain", false}} {
		t.Run(tt.name, func(t *testing.T) {
			if !harness.Long() {
				t.Parallel() // it mostly waits
			}
			f := newField(t, tt.tls, size)
			f.startReceiver()
			empty := f.resident()
			f.fleet = newFleet(t, f.net, task{N: size, Lines: 3, Dir: f.dir, URL: f.url, Dial: f.way}, f.most)
			f.fleet.release(time.Duration(size) * time.Millisecond * 2)
			f.fleet.wait(func() {})
			time.Sleep(calm)
			t.Logf("%d relays in %d processes: wsreceive holds %d KiB, %.1f KiB for each that is connected and idle",
				size, len(f.fleet.members), f.resident(), float64(f.resident()-empty)/float64(size))
			t.Log("killed, and back after 3 s:", f.outage(unix.SIGKILL))
			time.Sleep(calm / 5)
			t.Log("stopped cleanly, and back at once:", f.outage(unix.SIGTERM))
			f.fleet.end()
			f.stopReceiver(unix.SIGTERM)
			f.check(size, 3)
		})
	}
}

// TestFleet_IsKeptUpWith lets every sender have ten lines a second, one by one,
// with one core for wsreceive.
func TestFleet_IsKeptUpWith(t *testing.T) {
	size, lines := 200, 5
	if harness.Long() {
		size, lines = 10_000, 50
	}
	f := newField(t, false, size)
	f.startReceiver()
	f.fleet = newFleet(t, f.net, task{N: size, Lines: 1 + lines, Dir: f.dir, URL: f.url}, f.most)
	f.fleet.release(time.Duration(size) * time.Millisecond * 2) // to connect
	f.fleet.wait(func() {})
	var core unix.CPUSet
	core.Set(0)
	harness.Must(t, f.pin(&core))
	const pause = 100 * time.Millisecond
	spent, begun := f.receiverCPU(), time.Now()
	for range lines {
		f.fleet.release(pause)
	}
	f.fleet.wait(func() {})
	took := time.Since(begun)
	t.Logf("%d relays, %d lines of each in %v: all had their receipts after %.2f s, %.0f lines/s; wsreceive used %.2f of its core",
		size, lines, time.Duration(lines)*pause, took.Seconds(), float64(size*lines)/took.Seconds(),
		(f.receiverCPU()-spent).Seconds()/took.Seconds())
	f.fleet.end()
	f.stopReceiver(unix.SIGTERM)
	f.check(size, 1+lines)
}

// field is where the fleet is.
type field struct {
	t        *testing.T
	net      *harness.Network
	dir      string // in memory
	port     string
	url      string
	options  []string // of wsreceive
	way      relay.DialConfig
	most     int // relays in a process
	fleet    *fleet
	receiver *exec.Cmd
	spent    time.Duration // CPU of the last one, to its end
}

func newField(t *testing.T, tls bool, size int) *field {
	t.Helper()
	f := &field{t: t, net: harness.NewNetwork(t), dir: t.TempDir()}
	const spare = 200 // descriptors
	var limit unix.Rlimit
	harness.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if f.most = int(limit.Max) - spare; size > f.most {
		harness.Lack(t, fmt.Sprintf("%d descriptors are too few for wsreceive to have %d senders", limit.Max, size))
	}
	harness.Must(t, unix.Mount("tmpfs", f.dir, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(f.dir, unix.MNT_DETACH) })
	harness.Must(t, f.net.Up("lo", netip.MustParseAddr(address)))
	f.net.Do(func() {
		harness.Must(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("2048 65535"), 0o600))
	})
	f.port = "1024"
	f.url, f.options = "ws://"+net.JoinHostPort(address, f.port)+"/relay", []string{"--allow-insecure"}
	if tls {
		harness.Must(t, certs.Write(f.dir, address))
		if out, err := exec.Command(harness.Program(t, "wsrelay"), "keygen", "--name",
			"all", f.path("key")).CombinedOutput(); err != nil {
			t.Fatalf("keygen: %v\n%s", err, out)
		}
		f.url = strings.Replace(f.url, "ws:", "wss:", 1)
		f.options = []string{
			"--keys", f.path("key"), "--tls-cert", f.path("server.pem"), "--tls-key",
			f.path("server.key"),
		}
		f.way = relay.DialConfig{KeyFile: f.path("key"), CAFile: f.path("ca.pem")}
	}
	return f
}

func (f *field) path(name string) string { return filepath.Join(f.dir, name) }

func (f *field) startReceiver() {
	f.t.Helper()
	f.receiver = exec.Command(harness.Program(f.t, "wsreceive"),
		append(f.options, "--listen", net.JoinHostPort(address, f.port), "--to", "file:"+f.path("lines"), "--log-level",
			"error")...)
	f.receiver.Stderr = os.Stderr
	cmd := f.receiver
	var err error
	f.net.Do(func() { err = cmd.Start() })
	harness.Must(f.t, err)
	f.t.Cleanup(func() { _ = cmd.Process.Kill() }) // after a failure
	for late := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		f.net.Do(func() {
			var c net.Conn
			if c, err = net.Dial("tcp", net.JoinHostPort(address, f.port)); err == nil {
				err = c.Close()
			}
		})
		if err == nil {
			return
		}
		if time.Now().After(late) {
			f.t.Fatal(err)
		}
	}
}

func (f *field) stopReceiver(sig unix.Signal) {
	_ = f.receiver.Process.Signal(sig)
	_ = f.receiver.Wait()
	f.spent = f.receiver.ProcessState.UserTime() + f.receiver.ProcessState.SystemTime()
}

// pin lets wsreceive use these cores only.
func (f *field) pin(cores *unix.CPUSet) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", f.receiver.Process.Pid))
	for _, thread := range threads {
		pid, _ := strconv.Atoi(filepath.Base(thread))
		err = errors.Join(err, unix.SchedSetaffinity(pid, cores))
	}
	return err
}

// comeback is how the fleet came back.
type comeback struct {
	attempts int // connections that were begun, in all
	peak     int // in one second
	took     time.Duration
	cpu      time.Duration // of wsreceive
}

func (c comeback) String() string {
	return fmt.Sprintf("%d attempts, at most %d in a second; all were back %.1f s after it was; wsreceive spent %.1f s of CPU on it",
		c.attempts, c.peak, c.took.Seconds(), c.cpu.Seconds())
}

// outage ends wsreceive with the signal, lets every relay have a line, starts
// wsreceive again, and waits until all lines have their receipts. The peak is
// what that wsreceive sees.
func (f *field) outage(sig unix.Signal) comeback {
	f.t.Helper()
	f.stopReceiver(sig)
	first := f.attempts()
	f.fleet.release(0)
	if sig == unix.SIGKILL {
		time.Sleep(3 * time.Second)
	}
	f.startReceiver()
	back := time.Now()
	type sample struct {
		at       time.Time
		attempts int
	}
	var lately []sample // of a second
	var c comeback
	f.fleet.wait(func() {
		now := sample{time.Now(), f.attempts() - first}
		lately = append(lately, now)
		for now.at.Sub(lately[0].at) > time.Second {
			lately = lately[1:]
		}
		c.attempts, c.peak = now.attempts, max(c.peak, now.attempts-lately[0].attempts)
	})
	c.took, c.cpu = time.Since(back), f.receiverCPU()
	return c
}

var activeOpens = regexp.MustCompile(`(?m)^Tcp: \S+ \S+ \S+ \S+ (\d+) `)

// attempts is how many connections were begun in the namespace so far.
func (f *field) attempts() (n int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", f.fleet.members[0].cmd.Process.Pid))
	harness.Must(f.t, err)
	if m := activeOpens.FindSubmatch(b); m != nil {
		_, _ = fmt.Sscan(string(m[1]), &n)
	}
	return n
}

// resident is what wsreceive has of memory, in KiB.
func (f *field) resident() (kib int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.receiver.Process.Pid))
	harness.Must(f.t, err)
	_, rss, _ := strings.Cut(string(b), "VmRSS:")
	_, _ = fmt.Sscan(rss, &kib)
	return kib
}

// receiverCPU is what the wsreceive that runs has used so far.
func (f *field) receiverCPU() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.receiver.Process.Pid))
	harness.Must(f.t, err)
	fields := strings.Fields(string(b)[strings.LastIndex(string(b), ")"):])
	var user, system int
	_, _ = fmt.Sscan(fields[12]+" "+fields[13], &user, &system) // ticks, a hundred in a second
	return time.Duration(user+system) * 10 * time.Millisecond
}

// check fails the test unless every line of every relay is in the file once.
func (f *field) check(relays, lines int) {
	f.t.Helper()
	file, err := os.Open(f.path("lines"))
	harness.Must(f.t, err)
	defer file.Close()
	seen := map[int]int{}
	for s := bufio.NewScanner(file); s.Scan(); {
		var relay, line int
		if n, err := fmt.Sscanf(s.Text(), "relay %d line %d", &relay, &line); n != 2 || err != nil ||
			line != seen[relay] {
			f.t.Fatalf("%q is lost, doubled, out of order or altered: expected line %d", s.Text(), seen[relay])
		}
		seen[relay]++
	}
	for k := range relays {
		if got := seen[k]; got != lines {
			f.t.Errorf("relay %d: %d lines arrived, want %d", k, got, lines)
		}
	}
}
