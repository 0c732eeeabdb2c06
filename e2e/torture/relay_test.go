package torture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// relay is a wsrelay: keeper and worker, a process group of their own.
type relay struct {
	*door
	cmd  *exec.Cmd
	w    *os.File // the pipe
	held *os.File // the mirror, once it was found
	gone sync.Once
}

// rig is what the lives of one queue have in common.
type rig struct {
	*oracle
	program string
	queue   string // directory
	log     string // what all wsrelays have said
	lives   []life
	next    uint64 // line to feed
}

func newRig(t testing.TB, queue string) *rig {
	return &rig{oracle: newOracle(), program: program(t), queue: queue, log: filepath.Join(t.TempDir(), "log")}
}

// start starts a wsrelay on the queue; around is what it is run under.
func (g *rig) start(t testing.TB, around []string, options ...string) *relay {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer log.Close() //nolint:errcheck // the child has its own
	d := g.newDoor()
	args := append(slices.Clone(around), g.program, d.URL, "--queue-dir", g.queue, "--drain", "2m")
	cmd := exec.Command(args[0], append(args[1:], options...)...)
	cmd.Stdin, cmd.Stderr = r, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	must(t, r.Close())
	p := &relay{door: d, cmd: cmd, w: w}
	t.Cleanup(p.kill)
	return p
}

// drain starts a wsrelay whose input has ended, and waits until the queue is
// delivered.
func (g *rig) drain(t testing.TB, options ...string) {
	t.Helper()
	p := g.start(t, nil, options...)
	_ = p.w.Close()
	g.ended(t, p)
}

// ended waits for the end of a wsrelay that has delivered everything.
func (g *rig) ended(t testing.TB, p *relay) {
	t.Helper()
	if err := p.wait(3 * time.Minute); err != nil {
		t.Fatalf("wsrelay: %v\n%s", err, g.logTail())
	}
}

// check fails the test unless the oracle accounts for every line.
func (g *rig) check(t testing.TB) verdict {
	t.Helper()
	v := g.judge(g.lives)
	if !v.ok() {
		t.Fatalf("%s\nlives %+v\n%s\n%s", v, g.lives, g.story(), g.logTail())
	}
	return v
}

// story is all that the oracle knows.
func (g *rig) story() string {
	var b strings.Builder
	for _, s := range g.streams {
		fmt.Fprintf(&b, "stream %s\n", s.sid)
		for _, r := range s.runs {
			fmt.Fprintf(&b, "  seq %d-%d: lines from %d %s\n", r.seq, r.end()-1, r.line, r.why)
		}
	}
	return b.String()
}

func (g *rig) logTail() string {
	b, _ := os.ReadFile(g.log)
	return "the end of wsrelay's log:\n" + string(b[max(0, len(b)-6000):])
}

// wait waits for the end by itself; status 0 is no error.
func (p *relay) wait(limit time.Duration) error {
	over := time.AfterFunc(limit, func() { _ = unix.Kill(-p.cmd.Process.Pid, unix.SIGQUIT) })
	defer over.Stop()
	err := p.cmd.Wait()
	p.kill()
	return err
}

// kill ends all at once and removes what they used.
func (p *relay) kill() {
	p.gone.Do(func() {
		p.slay()
		_, _ = p.w.Close(), p.held.Close() // nil is fine
		p.remove()
	})
}

// slay ends all processes at once, wherever they are, and waits until they are
// gone.
func (p *relay) slay() {
	pid := p.cmd.Process.Pid
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = p.cmd.Wait() // it was killed, or has been waited for
	for {
		_, err := unix.Wait4(-pid, nil, 0, nil) // the worker is our child now
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// worker is the pid of the living worker; 0: there is none. A child that is no
// worker yet does not count, nor does what strace forks.
func (p *relay) worker() int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(b)) {
			env, _ := os.ReadFile("/proc/" + f + "/environ")
			if pid, _ := strconv.Atoi(f); bytes.Contains(env, []byte("WSRELAY_INTERNAL_WORKER=")) && alive(pid) {
				return pid
			}
		}
	}
	return 0
}

// alive: it runs, and is neither dead nor about to become something else.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && state[0] != 'Z' && state[0] != 'X'
}

// awaitWorker waits for a living worker other than the one given.
func (p *relay) awaitWorker(ctx context.Context, other int) (pid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && alive(p.cmd.Process.Pid) {
		if pid := p.worker(); pid != 0 && pid != other {
			return pid
		}
		<-tick.C
	}
	return 0
}

// mirror is the keeper's memory file, of which intake/mirror.go has the
// picture; nil: it has none yet.
func (p *relay) mirror() *os.File {
	if p.held != nil {
		return p.held
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/memfd:wsrelay-mirror") {
			p.held, _ = os.Open(fd)
		}
	}
	return p.held
}

const mirrorPage = 4096

// mark is how many bytes of the stream the mirror says are on disk.
func (p *relay) mark() int64 {
	var b [8]byte
	if m := p.mirror(); m != nil {
		_, _ = m.ReadAt(b[:], 16) // a memory file; shorter: nothing yet
	}
	return int64(binary.LittleEndian.Uint64(b[:]))
}

// progress waits until more is on disk than was, or for a few seconds.
func (p *relay) progress(ctx context.Context, was int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && p.mark() <= was {
		<-tick.C
	}
}

// moment waits for any moment in the life of a wsrelay that is fed: in its
// start as often as in its work.
func (p *relay) moment(ctx context.Context) {
	if rand.IntN(2) == 0 {
		p.progress(ctx, 0)
	}
	time.Sleep(rand.N(80 * time.Millisecond))
}
