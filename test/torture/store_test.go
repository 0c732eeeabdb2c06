package torture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// storeRig is a store, and what its processes have said is final.
type storeRig struct {
	t    *testing.T
	dir  string
	next [len(storeSIDs)]uint64

	met map[string]int // lives that ended in this state
}

func newStoreRig(t *testing.T, dir string) *storeRig {
	g := &storeRig{t: t, dir: dir, met: map[string]int{}}
	for i := range g.next {
		g.next[i] = 1
	}
	return g
}

// notUnderRace skips a test whose processes do minutes of work under the race
// detector. CI runs it without.
func notUnderRace(t *testing.T) {
	t.Helper()
	if harness.Race {
		t.Skip("the race detector makes the log database ten times slower: make test RACE= PACKAGES=./test/torture")
	}
}

// storeProcess has the store open.
type storeProcess struct {
	*storeRig
	cmd    *exec.Cmd
	stderr tail
	done   chan struct{} // it says nothing more

	mu    sync.Mutex // guards the fields below
	state string     // what it said last of itself: "", open, barrier, full, fails, closed
	said  map[string]int
	deaf  bool // what it says is final does not count any more
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const keepTail = 64 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 2*keepTail {
		l.b = append(l.b[:0], l.b[len(l.b)-keepTail:]...)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

func (g *storeRig) command(work string, prefix []string, env ...string) *exec.Cmd {
	self, err := os.Executable()
	harness.Must(g.t, err)
	args := append(slices.Clone(prefix), self)
	cmd := exec.Command(args[0], args[1:]...)
	next := strings.Trim(strings.ReplaceAll(fmt.Sprint(g.next), " ", ","), "[]")
	// The engine's library does not sync in a test's binary unless this is false.
	cmd.Env = append(append(os.Environ(), "DISABLE_FSYNC_FOR_TESTING=false", storeWorkEnv+"="+work,
		storeDirEnv+"="+g.dir, storeNextEnv+"="+next), env...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd
}

func (g *storeRig) start(prefix []string, env ...string) *storeProcess {
	g.t.Helper()
	p := &storeProcess{
		storeRig: g, cmd: g.command("commit", prefix, env...), done: make(chan struct{}),
		said: map[string]int{},
	}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	harness.Must(g.t, err)
	harness.Must(g.t, p.cmd.Start())
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.hear(lines.Text())
		}
	}()
	return p
}

func (p *storeProcess) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	word, _, _ := strings.Cut(line, " ")
	p.said[word]++
	var stream int
	var next uint64
	switch n, _ := fmt.Sscanf(line, "final %d %d", &stream, &next); {
	case n == 2:
		if !p.deaf {
			p.next[stream] = next
		}
		if p.state == "full" || p.state == "fails" {
			p.state = "open"
		}
	case word == "behind":
		p.state = "open"
	default:
		p.state = word
	}
}

// in tells what the process does.
func (p *storeProcess) in() (state string, said int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.said[p.state]
}

// await waits until the process is in a state, or has said something so often.
// It tells whether that came to be; a process that ended says nothing more.
func (p *storeProcess) await(what func() bool) bool {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Microsecond) {
		if what() {
			return true
		}
		select {
		case <-p.done:
			return what()
		default:
		}
	}
	return false
}

func (p *storeProcess) is(state string) func() bool {
	return func() bool { now, _ := p.in(); return now == state }
}

func (p *storeProcess) hasSaid(word string, times int) func() bool {
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.said[word] >= times
	}
}

// moment waits until some moment of its life: of the start and the recovery, of
// a barrier and its checkpoint, or any other.
func (p *storeProcess) moment() {
	switch rand.IntN(3) {
	case 0:
		time.Sleep(rand.N(300 * time.Millisecond))
	case 1:
		p.await(p.hasSaid("barrier", 1+rand.IntN(3)))
		time.Sleep(rand.N(60 * time.Millisecond))
	default:
		p.await(p.hasSaid("open", 1))
		time.Sleep(rand.N(time.Second))
	}
}

// stop: from here on what the process says counts for nothing. It gives what it
// was doing.
func (p *storeProcess) stop() (state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
	if state = p.state; state == "" {
		state = "start"
	}
	p.met[state]++
	return state
}

func (p *storeProcess) kill() {
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // it may have ended
	<-p.done
	_ = p.cmd.Wait()
}

// check opens the store as a service manager would, and judges what is there.
func (g *storeRig) check(t *testing.T) (v verdict, found storeFound) {
	t.Helper()
	for n := 1; ; n++ {
		cmd := g.command("check", nil)
		var stderr tail
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			harness.Must(t, json.Unmarshal(bytes.TrimSpace(out), &found))
			break
		}
		if n == 4 {
			t.Fatalf("the store cannot be opened: %v\n%s", err, stderr.String())
		}
		t.Logf("start %d after a crash: %v\n%s", n, err, lastLines(stderr.String(), 5))
	}
	for _, next := range g.next {
		v.Promised += next - 1
	}
	v.Fed, v.Delivered = found.Lines, found.Lines
	v.Lost, v.Doubled, v.Altered = found.Lost, found.Doubled, found.Altered
	v.Damaged = uint64(len(found.Damaged)) + found.Gaps
	v.Astray = found.Missing + found.Excess + uint64(found.Restored)
	return v, found
}

func (g *storeRig) mustHold(t *testing.T) verdict {
	t.Helper()
	v, found := g.check(t)
	if !v.ok() {
		t.Fatalf("%s: %+v", v, found)
	}
	return v
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// storeRounds is how often a store is killed before it is checked and another one
// begins.
const storeRounds = 25

// TestStore_HardShutdown takes the file system away under the log database at
// any moment: of its start and recovery, of a barrier, of a checkpoint. Every
// line with a receipt is there afterwards, once, byte for byte.
func TestStore_HardShutdown(t *testing.T) {
	notUnderRace(t)
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q"}, {"mkfs.xfs", "-q"}} {
		t.Run(mkfs[0][len("mkfs."):], func(t *testing.T) {
			c := newCampaign(t, "store-"+filepath.Base(t.Name()), "shutdowns", 3, 500)
			d := newDisk(t, 768<<20, mkfs...)
			met := map[string]int{}
			for c.more() {
				g := newStoreRig(t, filepath.Join(d.Dir, "store"))
				g.met = met
				live, rounds := 0, min(storeRounds, c.goal-c.Done)
				for range rounds {
					if g.shutdown(d) {
						live++
					}
				}
				c.add(t, rounds, live, g.mustHold(t))
				harness.Must(t, os.RemoveAll(g.dir))
			}
			t.Logf("ended in: %v", met)
			c.end(t)
		})
	}
}

// shutdown is one life that ends with its file system; see [rig.shutdown] for
// what counts.
func (g *storeRig) shutdown(d *disk) (live bool) {
	p := g.start(nil)
	p.moment()
	state := p.stop()
	d.shutdown()
	time.Sleep(rand.N(5 * time.Millisecond)) // it meets the dead file system
	p.kill()
	d.remount()
	return state != "start"
}

// TestStore_Killed kills the process that has the log database open at any moment.
func TestStore_Killed(t *testing.T) {
	notUnderRace(t)
	c := newCampaign(t, "store-kill", "kills", 4, 2000)
	met := map[string]int{}
	for c.more() {
		g := newStoreRig(t, filepath.Join(t.TempDir(), "store"))
		g.met = met
		live, rounds := 0, min(storeRounds, c.goal-c.Done)
		for range rounds {
			p := g.start(nil)
			p.moment()
			state := "start"
			if s, _ := p.in(); s != "" {
				state = s
			}
			p.kill()
			g.met[state]++
			if state != "start" {
				live++
			}
		}
		c.add(t, rounds, live, g.mustHold(t))
		harness.Must(t, os.RemoveAll(g.dir))
	}
	t.Logf("ended in: %v", met)
	c.end(t)
}

// storeCalls are what the log database does to the world.
var storeCalls = []string{
	"fdatasync", "fsync", "pwrite64", "write", "fallocate", "renameat", "unlinkat", "linkat", "mkdirat", "openat", "pread64", "getdents64", "ftruncate", "flock", "bind",
}

// TestStore_KilledAtEachSystemCall kills the process as a thread of it enters its
// n-th call of a kind, for each n until a life ends without it: it starts from what
// the one before left, commits, has barriers, and closes the store.
func TestStore_KilledAtEachSystemCall(t *testing.T) {
	notUnderRace(t)
	harness.Need(t, "strace")
	c := newCampaign(t, "store-call", "kills", 0, 0)
	for _, call := range storeCalls {
		for killed, n := true, max(1, c.Next[call]); killed; {
			g := newStoreRig(t, filepath.Join(t.TempDir(), "store"))
			rounds := 0
			for killed && rounds < storeRounds {
				if !harness.Long() { // one of each kind
					n = 1 + rand.IntN(8)
				}
				if killed = g.killAt(call, n); killed {
					n, rounds = n+1, rounds+1
				}
				if !harness.Long() {
					break
				}
			}
			c.Next[call] = n
			c.add(t, rounds, rounds, g.mustHold(t))
			harness.Must(t, os.RemoveAll(g.dir))
			if !harness.Long() {
				break
			}
		}
	}
	c.end(t)
}

// killAt is one life under strace.
func (g *storeRig) killAt(call string, n int) (killed bool) {
	p := g.start([]string{
		"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
		fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n),
	}, storeStopEnv+"=3")
	<-p.done
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState.Exited() {
		g.t.Fatalf("%s %d: %v\n%s", call, n, err, p.stderr.String())
	}
	return !p.is("closed")()
}

// TestStore_FullDisk takes every byte of the disk away under load, kills the
// process, has it start on the full disk, and gives the space back.
func TestStore_FullDisk(t *testing.T) {
	notUnderRace(t)
	c := newCampaign(t, "store-full", "full disks", 1, 50)
	d := newDisk(t, 512<<20, "mkfs.ext4", "-q", "-m", "0")
	met := map[string]int{}
	for c.more() {
		g := newStoreRig(t, filepath.Join(d.Dir, "store"))
		g.met = met
		live, rounds := 0, min(5, c.goal-c.Done)
		for range rounds {
			if g.fill(t, d) {
				live++
			}
		}
		c.add(t, rounds, live, g.mustHold(t))
		harness.Must(t, os.RemoveAll(g.dir))
	}
	t.Logf("on the full disk: %v", met)
	c.end(t)
}

// fill is a life that ends on a full disk, and one that begins on it.
func (g *storeRig) fill(t *testing.T, d *disk) (live bool) {
	t.Helper()
	p := g.start(nil)
	if !p.await(p.hasSaid("behind", 1)) {
		t.Fatalf("the store does not work\n%s", p.stderr.String())
	}
	release := fillBlocks(t, d)
	live = p.await(p.hasSaid("full", 1))
	select {
	case <-p.done: // what was in the engine's memory could not be written
		g.met["ended without a kill"]++
		live = true
	default:
		g.met["full"]++
	}
	time.Sleep(rand.N(300 * time.Millisecond))
	p.kill()
	p = g.start(nil)
	full := p.await(p.hasSaid("full", 1))
	select {
	case <-p.done: // the engine writes as it opens: it is started again, as by a service manager
		full = strings.Contains(p.stderr.String(), "no space left on device")
		g.met["ended as it opened"]++
		release()
		p = g.start(nil)
	default:
		release()
	}
	if !full {
		t.Errorf("a store on a full disk does not say so\n%s", lastLines(p.stderr.String(), 10))
	}
	p.mu.Lock()
	finals := p.said["final"]
	p.mu.Unlock()
	if !p.await(p.hasSaid("final", finals+10)) {
		t.Errorf("the store does not work again\n%s", lastLines(p.stderr.String(), 10))
	}
	p.kill()
	return live && full
}
