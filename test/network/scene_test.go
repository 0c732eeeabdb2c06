package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/certs"
	"wsrelay/test/harness"
)

const (
	rate      = 5000 // lines a second
	relayAt   = "198.51.100.1"
	receiveAt = "198.51.100.2"
	port      = "8514"
)

// scene is wsrelay, wsreceive and the wire between them.
type scene struct {
	t             *testing.T
	dir           string
	here, there   *site // of wsrelay, of wsreceive
	wire          *traffic
	begun         time.Time
	relay         *harness.Relay
	feeder        *harness.Feeder
	receiver      *exec.Cmd
	lives         []life
	served, clear atomic.Bool // wsreceive runs; packets get through
	killed        struct{ workers, keepers, receivers, draining int }
	blackholes    atomic.Int64
}

func newScene(t *testing.T) *scene {
	t.Helper()
	harness.Need(t, "nft")
	s := &scene{t: t, dir: t.TempDir(), here: newSite(t, relayAt), there: newSite(t, receiveAt)}
	s.wire = connect(t, s.here, s.there)
	if err := s.weather(lossy); err != nil {
		t.Skipf("no right to set firewall rules: %v", err)
	}
	harness.Must(t, certs.Write(s.dir, receiveAt))
	out, err := exec.Command(harness.Program(t, "wsrelay"), "keygen", "--name", "web-1", s.path("key")).CombinedOutput()
	if err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	s.begun = time.Now()
	t.Cleanup(s.end)
	return s
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// Rules of nft.
const (
	lossy     = "iifname net0 numgen random mod 100 < 1 drop"
	blackhole = "iifname net0 drop"
)

func (s *scene) weather(rule string) error {
	s.clear.Store(rule == lossy)
	return errors.Join(s.here.rules(rule), s.there.rules(rule))
}

// startReceiver starts wsreceive as the README has it.
func (s *scene) startReceiver() {
	s.t.Helper()
	s.receiver = exec.Command(harness.Program(s.t, "wsreceive"), "--listen", receiveAt+":"+port, "--to",
		"file:"+s.path("lines"),
		"--keys", s.path("key"), "--tls-cert", s.path("server.pem"), "--tls-key", s.path("server.key"))
	s.log(s.receiver, "wsreceive.log", s.there.start)
	s.served.Store(true)
}

func (s *scene) killReceiver() {
	if s.served.Swap(false) {
		_ = s.receiver.Process.Kill()
		_ = s.receiver.Wait() // it was killed
	}
}

// startRelay starts wsrelay, with lines to come from where they ended.
func (s *scene) startRelay() {
	s.t.Helper()
	cmd := exec.Command(harness.Program(s.t, "wsrelay"), "wss://"+receiveAt+":"+port+"/relay", "--queue-dir",
		s.path("queue"),
		"--key-file", s.path("key"), "--tls-ca", s.path("ca.pem"), "--drain", "15m", "--log-level", "debug")
	s.log(cmd, "wsrelay.log", func(cmd *exec.Cmd) (err error) {
		s.here.Do(func() { s.relay, err = harness.StartRelay(cmd) })
		return err
	})
	s.feeder = harness.Feed(s.relay.W, s.next(), s.pace)
}

// next is the first line of the life that follows.
func (s *scene) next() uint64 {
	if n := len(s.lives); n > 0 {
		return s.lives[n-1].end
	}
	return 0
}

// pace waits until it is time for line n.
func (s *scene) pace(ctx context.Context, n uint64) {
	sleep(ctx, time.Until(s.begun.Add(time.Duration(n)*time.Second/rate)))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// log starts cmd, whose words go to a file.
func (s *scene) log(cmd *exec.Cmd, name string, start func(*exec.Cmd) error) {
	s.t.Helper()
	log, err := os.OpenFile(s.path(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	harness.Must(s.t, err)
	defer log.Close()
	cmd.Stderr = log
	harness.Must(s.t, start(cmd))
}

// killWorker kills the worker; its keeper starts another.
func (s *scene) killWorker(ctx context.Context) {
	if pid := s.relay.AwaitWorker(ctx, 0); pid != 0 && unix.Kill(pid, unix.SIGKILL) == nil {
		s.killed.workers++
	}
}

// killKeeper kills keeper and worker at once, which costs what the keeper did
// not have on disk, and continues with others.
func (s *scene) killKeeper() {
	s.relay.Slay()
	s.feeder.Halt()
	s.live(harness.LineAt(s.next(), s.relay.Mark()))
	s.relay.Kill()
	s.killed.keepers++
	s.startRelay()
}

// live notes a life that has ended.
func (s *scene) live(promised uint64) {
	s.lives = append(s.lives, life{first: s.next(), end: s.feeder.End(), promised: promised})
}

// restartReceiver kills wsreceive and starts it again a little later.
func (s *scene) restartReceiver(ctx context.Context) {
	s.killReceiver()
	s.killed.receivers++
	sleep(ctx, rand.N(3*time.Second))
	s.startReceiver()
}

// deliver ends the input and waits until everything is delivered.
func (s *scene) deliver() {
	s.t.Helper()
	s.feeder.Finish()
	s.live(s.feeder.End())
	if err := s.relay.Wait(20 * time.Minute); err != nil {
		s.t.Fatalf("wsrelay: %v\n%s", err, s.tail("wsrelay.log"))
	}
	s.killReceiver()
}

// end ends what still runs, after a failure.
func (s *scene) end() {
	if s.relay != nil {
		s.relay.Kill()
	}
	s.killReceiver()
}

func (s *scene) tail(name string) string {
	b, _ := os.ReadFile(s.path(name))
	return fmt.Sprintf("the end of %s:\n%s", name, b[max(0, len(b)-6000):])
}

// fed and stored are how many lines there are, about: some were cut.
func (s *scene) fed() uint64 { return s.feeder.End() }

func (s *scene) stored() uint64 {
	st, err := os.Stat(s.path("lines"))
	if err != nil {
		return 0
	}
	return harness.LineAt(0, st.Size())
}

var batchSent = regexp.MustCompile(`batch sent .*\bseq=(\d+) end=(\d+)`)

// sentAgain counts in wsrelay's log the lines that went on the wire more than
// once.
func (s *scene) sentAgain() (again uint64) {
	f, err := os.Open(s.path("wsrelay.log"))
	harness.Must(s.t, err)
	defer f.Close()
	high := uint64(1)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if m := batchSent.FindSubmatch(lines.Bytes()); m != nil {
			seq, _ := strconv.ParseUint(string(m[1]), 10, 64)
			end, _ := strconv.ParseUint(string(m[2]), 10, 64)
			again += min(end, max(high, seq)) - seq
			high = max(high, end)
		}
	}
	return again
}
