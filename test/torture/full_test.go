package torture

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// TestFull_DiskStopsNothingForGood takes the space, or the inodes, of the file
// system away from a wsrelay at work, and gives them back. It continues automatically,
// says each of the two once, and every line arrives.
func TestFull_DiskStopsNothingForGood(t *testing.T) {
	for name, c := range map[string]struct {
		mkfs []string
		fill func(*testing.T, *disk) (release func())
	}{
		"blocks": {[]string{"mkfs.ext4", "-q", "-m", "0"}, fillBlocks},
		"inodes": {[]string{"mkfs.ext4", "-q", "-m", "0", "-N", "64"}, fillInodes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			d := newDisk(t, 256<<20, c.mkfs...)
			g := newRig(t, filepath.Join(d.Dir, "queue"))
			p := g.start(t, nil, "--queue-limit", "64MiB", "--compress", "none")
			p.away.Store(true) // what comes must go to the disk
			f := harness.Feed(p.W, 0, nil)
			p.Progress(t.Context(), 0)
			release := c.fill(t, d)
			g.waitLog(t, "cannot write to the queue")
			waitStuck(f)
			time.Sleep(time.Second) // several tries, which are not logged
			if n := g.count("cannot write to the queue"); n != 1 {
				t.Errorf("said %d times that it cannot write, want once\n%s", n, g.logTail())
			}
			if p.Worker() == 0 {
				t.Error("the worker is gone")
			}
			release()
			g.waitLog(t, "the queue works again")
			p.away.Store(false)
			f.Finish()
			g.ended(t, p)
			g.lives = append(g.lives, life{end: f.End(), promised: f.End()})
			t.Logf("%s: %s", name, g.check(t))
			t.Log(g.said("cannot write to the queue"))
		})
	}
}

// fillBlocks leaves not a block free. Others may still get a few back, so it
// continues until nothing more fits.
func fillBlocks(t *testing.T, d *disk) (release func()) {
	t.Helper()
	name := filepath.Join(d.Dir, "ballast")
	f, err := os.Create(name)
	harness.Must(t, err)
	defer f.Close()
	for b := make([]byte, 1<<20); len(b) > 0; {
		if _, err := f.Write(b); errors.Is(err, unix.ENOSPC) {
			b = b[:len(b)/2]
		} else {
			harness.Must(t, err)
		}
	}
	return func() { harness.Must(t, os.Remove(name)) }
}

// fillInodes leaves no inode free, and all blocks.
func fillInodes(t *testing.T, d *disk) (release func()) {
	t.Helper()
	dir := filepath.Join(d.Dir, "ballast")
	harness.Must(t, os.Mkdir(dir, 0o700))
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		harness.Must(t, err)
	}
	return func() { harness.Must(t, os.RemoveAll(dir)) }
}

// waitStuck waits until the pipe has taken nothing for half a second.
func waitStuck(f *harness.Feeder) {
	for was := int64(-1); was != f.Sent.Load(); time.Sleep(500 * time.Millisecond) {
		was = f.Sent.Load()
	}
}

// waitLog waits until wsrelay has said what.
func (g *rig) waitLog(t *testing.T, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for g.count(what) == 0 {
		if ctx.Err() != nil {
			t.Fatalf("wsrelay did not say %q\n%s", what, g.logTail())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (g *rig) count(what string) int {
	b, _ := os.ReadFile(g.log) // not there yet: nothing was said
	return strings.Count(string(b), what)
}

// said is the message that begins with what, with its effect and its hint.
func (g *rig) said(what string) string {
	b, _ := os.ReadFile(g.log)
	_, text, _ := strings.Cut(string(b), what)
	lines := strings.SplitAfterN(text, "\n", 4)
	return what + strings.Join(lines[:min(3, len(lines))], "")
}
