package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	r, w *os.File // the pipe
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
	args := append(around, g.program, d.URL, "--queue-dir", g.queue, "--drain", "2m")
	cmd := exec.Command(args[0], append(args[1:], options...)...)
	cmd.Stdin, cmd.Stderr = r, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	p := &relay{door: d, cmd: cmd, r: r, w: w}
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
	_ = p.r.Close()
	err := p.cmd.Wait()
	p.kill()
	return err
}

// kill ends all at once, wherever they are, and waits until they are gone.
func (p *relay) kill() { p.gone.Do(p.end) }

func (p *relay) end() {
	pid := p.cmd.Process.Pid
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = p.cmd.Wait() // it was killed, or has been waited for
	for {
		_, err := unix.Wait4(-pid, nil, 0, nil) // the worker is our child now
		if err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = p.r.Close(), p.w.Close()
	p.remove()
}

// worker is the pid of the living worker; 0: there is none.
func (p *relay) worker() int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(b)) {
			if pid, _ := strconv.Atoi(f); alive(pid) {
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
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/memfd:wsrelay-mirror") {
			f, _ := os.Open(fd)
			return f
		}
	}
	return nil
}

const mirrorPage = 4096

// mark is how many bytes of the stream the mirror says are on disk.
func mark(mirror *os.File) int64 {
	var b [8]byte
	if mirror == nil {
		return 0
	}
	_, _ = mirror.ReadAt(b[:], 16) // a memory file; shorter: nothing yet
	return int64(binary.LittleEndian.Uint64(b[:]))
}
