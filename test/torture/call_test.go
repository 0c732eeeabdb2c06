package torture

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// calls are what the queue and the intake do to the world.
var calls = []string{
	"pwrite64", "fdatasync", "renameat", "unlinkat", "fsync", "openat", "splice", "pread64",
	"fallocate", "ftruncate", "flock", "mkdirat",
}

// TestKill_AtEachSystemCall kills the worker as it enters its n-th call of a
// kind, for each n of a small piece of work with a segment that ends and one
// that is used again.
func TestKill_AtEachSystemCall(t *testing.T) {
	harness.Need(t, "strace")
	if !harness.Long() {
		t.Skip("make torture-kill does it; intake has a short form")
	}
	c := newCampaign(t, "kill-at-call", "runs", 0, 0)
	for _, call := range calls {
		n := max(1, c.Next[call])
		for killed := true; killed; n++ {
			g := newRig(t, filepath.Join(t.TempDir(), "queue"))
			if killed = g.killAt(t, call, n); killed {
				c.Next[call] = n + 1
				c.add(t, 1, 1, g.check(t))
			}
		}
	}
	c.end(t)
}

// killAt is one life under strace, which lets continuece it has killed.
func (g *rig) killAt(t *testing.T, call string, n int) (killed bool) {
	t.Helper()
	p := g.start(t, []string{
		"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
		fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n),
	}, "--queue-limit", "64MiB", "--compress", "none")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watched := make(chan bool, 1)
	go func() { watched <- p.letGo(ctx, cancel) }()
	l := life{}
	l.end, l.promised = g.work(ctx, p.W)
	if l.end == l.promised {
		_ = p.W.Close()
		g.ended(t, p)
	} else { // the keeper is dead
		p.kill()
		l.promised = max(l.promised, harness.LineAt(0, p.Mark()))
		g.drain(t)
	}
	g.lives = append(g.lives, l)
	return <-watched
}

// work writes lines, each piece when the one before is delivered, and tells how
// far it came: what was written, and what was delivered.
func (g *rig) work(ctx context.Context, w io.Writer) (written, delivered uint64) {
	var b []byte
	for step := range 16 {
		size := 100
		if step%2 == 0 {
			size = 1500 << 10
		}
		for b = b[:0]; len(b) < size; written++ {
			b = harness.AppendLine(b, written)
		}
		if _, err := w.Write(b); err != nil {
			break
		}
		if g.wait(ctx, written) != nil {
			break
		}
		delivered = written
	}
	return written, delivered
}

// letGo waits for the end of keeper or worker, makes strace leave the other
// alone, and tells whether it was a kill. It calls dead when the keeper is.
func (p *relay) letGo(ctx context.Context, dead func()) (killed bool) {
	defer dead()
	keeper := p.Cmd.Process.Pid
	worker := p.AwaitWorker(ctx, 0)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && harness.Alive(keeper) && harness.Alive(worker) {
		<-tick.C
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", keeper))
	_, tracer, _ := strings.Cut(string(status), "TracerPid:\t")
	var pid int
	if _, err := fmt.Sscan(tracer, &pid); err == nil && pid > 0 {
		_ = unix.Kill(pid, unix.SIGKILL) // asked to let go, it may hang
	}
	killed = worker == 0 || p.AwaitWorker(ctx, worker) != 0
	for ctx.Err() == nil && harness.Alive(keeper) {
		<-tick.C
	}
	return killed
}
