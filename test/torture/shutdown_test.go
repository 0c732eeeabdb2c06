package torture

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wsrelay/test/harness"
)

// TestFS_HardShutdown takes the file system away under wsrelay at any moment,
// its start and recovery too. What the queue had called durable, to the intake
// or to the receiver, must be there afterwards, once and in order; of what it
// had not, it may lose the end, or, with a gap record, numbers in between.
func TestFS_HardShutdown(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q"}, {"mkfs.xfs", "-q"}} {
		t.Run(mkfs[0][len("mkfs."):], func(t *testing.T) {
			c := newCampaign(t, filepath.Base(t.Name()), "shutdowns", 15, 1000)
			d := newDisk(t, 512<<20, mkfs...)
			g := newRig(t, filepath.Join(d.Dir, "queue"))
			for seen := (verdict{}); c.more(); {
				live := 0
				const rounds = 5
				for range rounds {
					if g.shutdown(t, d) {
						live++
					}
				}
				g.drain(t)
				v := g.check(t)
				c.add(t, rounds, live, v.minus(seen))
				seen = v
			}
			c.end(t)
		})
	}
}

// shutdown is one life that ends with its file system. A sync that is under
// way while the ioctl works may say that it was well and was not, on ext4 and
// XFS alike; a machine without power says nothing. So what counts is what was
// promised before, and nobody hears what comes later.
func (g *rig) shutdown(t *testing.T, d *disk) (live bool) {
	t.Helper()
	p := g.start(t, nil)
	p.away.Store(rand.IntN(2) == 0) // lines wait on disk, or the consumer keeps up
	f := harness.Feed(p.W, g.next, nil)
	p.moment(t.Context())
	live = p.Worker() != 0
	p.close()
	durable := p.Mark()
	d.shutdown()
	time.Sleep(rand.N(5 * time.Millisecond)) // it meets the dead file system
	p.kill()
	f.Halt()
	d.remount()
	g.lives = append(g.lives, life{
		first: g.next, end: f.End(), promised: harness.LineAt(g.next, durable),
		powerCut: true,
	})
	g.next = f.End()
	harness.Must(t, os.Truncate(g.log, 0))
	return live && durable > 0
}
