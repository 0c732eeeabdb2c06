package torture

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// TestKill_WorkerLosesNothing kills the worker at any moment while lines come
// as fast as they are delivered. All must arrive, once and in order.
func TestKill_WorkerLosesNothing(t *testing.T) {
	c := newCampaign(t, "kill-worker", "kills", 40, 80_000)
	g := newRig(t, filepath.Join(t.TempDir(), "queue"))
	for seen := (verdict{}); c.more(); {
		p := g.start(t, nil)
		f := harness.Feed(p.W, g.next, g.keepUp)
		kills := min(100, c.goal-c.Done)
		for range kills {
			p.killWorker(t)
		}
		f.Finish()
		g.ended(t, p)
		g.lives = append(g.lives, life{first: g.next, end: f.End(), promised: f.End()})
		g.next = f.End()
		v := g.check(t)
		c.add(t, kills, kills, v.minus(seen))
		seen = v
	}
	c.end(t)
}

// keepUp makes a feeder wait for the receiver.
func (g *rig) keepUp(ctx context.Context, n uint64) {
	const ahead = 100_000 // lines
	if n > ahead {
		_ = g.wait(ctx, n-ahead) // the end of ctx is the feeder's to see
	}
}

// killWorker kills a living worker: at some moment of its start, or of its
// work. Too many in a row that got nothing done, and the keeper takes its time.
func (p *relay) killWorker(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		was := p.Mark()
		pid := p.AwaitWorker(ctx, 0)
		if pid == 0 {
			t.Fatal("there is no worker")
		}
		if rand.IntN(3) > 0 {
			p.Progress(ctx, was)
		}
		time.Sleep(rand.N(25 * time.Millisecond))
		if harness.Alive(pid) && unix.Kill(pid, unix.SIGKILL) == nil {
			for harness.Alive(pid) {
				time.Sleep(100 * time.Microsecond)
			}
			return
		}
	}
}

// TestKill_KeeperTooLosesWhatWasInMemory kills both at once, which costs what
// was in the pipe and not yet on disk, and no more: every byte is in the
// queue, in the spool, or in the pipe, once.
func TestKill_KeeperTooLosesWhatWasInMemory(t *testing.T) {
	c := newCampaign(t, "kill-both", "kills of keeper and worker", 10, 10_000)
	g := newRig(t, filepath.Join(t.TempDir(), "queue"))
	for seen := (verdict{}); c.more(); {
		live, rounds := 0, min(10, c.goal-c.Done)
		for range rounds {
			if g.killBoth(t) {
				live++
			}
		}
		g.drain(t)
		v := g.check(t)
		c.add(t, rounds, live, v.minus(seen))
		seen = v
	}
	c.end(t)
}

func (g *rig) killBoth(t *testing.T) (live bool) {
	t.Helper()
	p := g.start(t, nil)
	defer p.kill()
	pipe, err := os.OpenFile("/proc/"+strconv.Itoa(p.Cmd.Process.Pid)+"/fd/0", os.O_RDONLY|unix.O_NONBLOCK, 0)
	harness.Must(t, err)
	defer pipe.Close()
	f := harness.Feed(p.W, g.next, g.keepUp)
	p.moment(t.Context())
	live = p.Worker() != 0
	spool := p.Spool()
	p.Slay()
	f.Halt()
	harness.Must(t, p.W.Close())
	left, err := io.ReadAll(pipe)
	harness.Must(t, err)
	taken, durable := int64(0), int64(0)
	if spool != nil {
		var rest []byte
		durable, rest, err = spool.Rest()
		harness.Must(t, err)
		taken = durable + int64(len(rest))
		if !bytes.Equal(rest, harness.Piece(g.next, durable, taken)) {
			t.Errorf("the spool, from %d to %d, differs from the stream", durable, taken)
		}
	}
	if got, want := int64(len(left))+taken, f.Sent.Load(); got != want ||
		!bytes.Equal(left, harness.Piece(g.next, taken, want)) {
		t.Errorf("spool and pipe have %d + %d bytes of %d, or others", taken, len(left), want)
	}
	g.lives = append(g.lives, life{first: g.next, end: f.End(), promised: harness.LineAt(g.next, durable)})
	g.next = f.End()
	return live && durable > 0
}
