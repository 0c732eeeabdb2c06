package torture

import (
	"context"
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

	"wsrelay/test/harness"
)

// relay is a wsrelay with a receiver of its own.
type relay struct {
	*testReceiver
	*harness.Relay
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
	return &rig{
		oracle: newOracle(), program: harness.Program(t, "wsrelay"), queue: queue,
		log: filepath.Join(t.TempDir(), "log"),
	}
}

// start starts a wsrelay on the queue; around is what it is run under.
func (g *rig) start(t testing.TB, around []string, options ...string) *relay {
	t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	harness.Must(t, err)
	defer log.Close()
	d := g.newDoor()
	args := append(slices.Clone(around), g.program, d.URL, "--queue-dir", g.queue, "--drain", "2m")
	cmd := exec.Command(args[0], append(args[1:], options...)...)
	cmd.Stderr = log
	r, err := harness.StartRelay(cmd)
	harness.Must(t, err)
	p := &relay{testReceiver: d, Relay: r}
	t.Cleanup(p.kill)
	return p
}

// drain starts a wsrelay whose input has ended, and waits until the queue is
// delivered.
func (g *rig) drain(t testing.TB, options ...string) {
	t.Helper()
	p := g.start(t, nil, options...)
	_ = p.W.Close()
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

// kill ends all at once and removes what they used.
func (p *relay) kill() {
	p.gone.Do(func() {
		p.Kill()
		p.remove()
	})
}

// wait waits for the process to exit; status 0 is no error.
func (p *relay) wait(limit time.Duration) error {
	defer p.kill()
	return p.Wait(limit)
}

// moment waits for any moment in the life of a wsrelay that is fed: in its
// start as often as in its work.
func (p *relay) moment(ctx context.Context) {
	if rand.IntN(2) == 0 {
		p.Progress(ctx, 0)
	}
	time.Sleep(rand.N(80 * time.Millisecond))
}
