package torture

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/status"
	"wsrelay/test/harness"
)

// TestGround_LosesOnlyWhatWasDestroyed does to the queue directory of a relay
// under load what administrators do. What an action itself destroys may be
// lost, and is named by gap records; everything else arrives, once.
func TestGround_LosesOnlyWhatWasDestroyed(t *testing.T) {
	c := newCampaign(t, "ground", "actions", 25, 300)
	a := newAdmin(t)
	for seen := (verdict{}); c.more(); {
		n := min(10, c.goal-c.Done)
		for range n {
			a.act()
		}
		v := a.settle()
		if v.Lost > a.destroyed || v.Doubled+v.Altered+v.Astray > 0 {
			t.Fatalf("%s; at most %d were destroyed\n%s\n%s\n%s", v, a.destroyed, strings.Join(a.did, "\n"), a.story(),
				a.logTail())
		}
		a.destroyed = v.Lost // what was not lost by now is safe
		c.add(t, n, n, v.minus(seen))
		seen = v
	}
	counts := map[string]int{}
	for _, d := range a.did {
		name, _, _ := strings.Cut(d, ":")
		counts[name]++
	}
	t.Logf("actions: %v", counts)
	c.end(t)
}

// admin is a user with root's permissions, a queue on a disk of its own, and the
// relay that has it.
type admin struct {
	*rig
	t    *testing.T
	disk *disk
	p    *relay
	f    *harness.Feeder

	moved     int      // directories that were moved away for good
	destroyed uint64   // lines that actions so far may have cost
	did       []string // what was done
}

func newAdmin(t *testing.T) *admin {
	d := newDisk(t, 768<<20, "mkfs.ext4", "-q")
	a := &admin{rig: newRig(t, filepath.Join(d.Dir, "parent", "queue")), t: t, disk: d}
	harness.Must(t, os.Mkdir(filepath.Dir(a.queue), 0o755))
	a.begin()
	return a
}

// begin starts a relay and feeds it.
func (a *admin) begin() {
	a.p = a.start(a.t, nil, "--queue-limit", "64MiB", "--compress", "none")
	a.f = harness.Feed(a.p.W, a.next, a.keepUp)
}

// finish ends the relay when all is delivered.
func (a *admin) finish() {
	a.t.Helper()
	a.p.away.Store(false)
	a.f.Finish()
	a.next = a.f.End()
	a.ended(a.t, a.p)
}

// settle lets everything arrive, judges, and starts again.
func (a *admin) settle() verdict {
	a.t.Helper()
	a.finish()
	v := a.inspect(a.next)
	a.begin()
	return v
}

// inspect is judge for lines of one sender, of which some may be in gap records.
func (o *oracle) inspect(fed uint64) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := verdict{Fed: fed, Promised: fed, Altered: uint64(o.altered)}
	var line, named uint64
	absent := func(to uint64) {
		v.Lost += to - line
		v.Astray += max(to-line, named) - min(to-line, named)
		named = 0
	}
	for _, s := range o.streams {
		runs := slices.SortedStableFunc(slices.Values(s.runs), func(a, b run) int { return cmp.Compare(a.seq, b.seq) })
		at := runs[0].seq
		for _, r := range runs {
			v.Astray += max(r.seq, at) - at // numbers that nothing accounts for
			fresh := r.end() - min(r.end(), max(r.seq, at))
			switch {
			case r.why != "":
				named += fresh // the rest had arrived before the file was gone
				v.Damaged += fresh
			case r.line < line:
				v.Doubled += line - r.line
			default:
				absent(r.line)
				v.Delivered += r.count
				line = r.line + r.count
			}
			at = max(at, r.end())
		}
	}
	absent(max(fed, line))
	return v
}

type action struct {
	name string
	do   func(*admin) (destroyed uint64)
}

var actions = []action{
	{"nothing", func(*admin) uint64 { return 0 }},
	{"rm LOCK", func(a *admin) uint64 { return a.rm("LOCK") }},
	{"rm CURSOR", func(a *admin) uint64 { return a.rm("CURSOR") }},
	{"rm IDENTITY", func(a *admin) uint64 { return a.rm("IDENTITY") }},
	{"rm spare, log and socket", func(a *admin) uint64 { return a.rm("spare", "wsrelay.log", "status.sock") }},
	{"rm -rf q/*", (*admin).wipe},
	{"rm -rf q", (*admin).removeDir},
	{"mv q away and back", (*admin).awayAndBack},
	{"mv q away for good", (*admin).awayForGood},
	{"mount over the parent", (*admin).mountOver},
	{"lazy unmount", (*admin).lazyUnmount},
	{"freeze", (*admin).freeze},
	{"read-only", (*admin).readOnly},
	{"fill the disk", (*admin).fillDisk},
	{"chmod 000", (*admin).chmod},
	{"chown", (*admin).chown},
	{"chattr +i", (*admin).immutable},
	{"link as CURSOR", func(a *admin) uint64 { return a.link("CURSOR") }},
	{"link as IDENTITY", func(a *admin) uint64 { return a.link("IDENTITY") }},
	{"link as spare", func(a *admin) uint64 { return a.link("spare") }},
	{"link as newest segment", func(a *admin) uint64 { return a.link("") }},
	{"link as oldest segment", (*admin).linkOldest},
	{"truncate the newest segment", (*admin).truncate},
	{"second relay", (*admin).second},
	{"kill -9 of the worker", (*admin).killWorkers},
}

// act does one thing, while lines wait or while they do not.
func (a *admin) act() {
	a.t.Helper()
	a.p.away.Store(rand.IntN(2) == 0)
	a.p.Progress(a.t.Context(), 0)
	time.Sleep(rand.N(500 * time.Millisecond))
	x := actions[rand.IntN(len(actions))]
	if k := len(a.did); k < len(actions) { // each once, before any comes again
		x = actions[k]
	}
	n := x.do(a)
	a.destroyed += n
	a.did = append(a.did, fmt.Sprintf("%s: at line %d, up to %d destroyed", x.name, a.f.End(), n))
	a.heal()
	if !harness.Alive(a.p.Cmd.Process.Pid) {
		a.t.Fatalf("the relay has ended\n%s\n%s", strings.Join(a.did, "\n"), a.logTail())
	}
}

// heal waits until the queue is whole again: what is only in open descriptors
// until then must not meet the next action.
func (a *admin) heal() {
	a.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, err := os.Lstat(filepath.Join(a.queue, "IDENTITY"))
		info, err2 := os.Lstat(a.newest())
		// A relay that starts has the lock before it knows what is there.
		answers := status.Read(a.queue).Keeper
		if err == nil && err2 == nil && info.Mode().IsRegular() && info.Size() > 4096 && answers {
			return
		}
	}
	a.t.Fatalf("the queue is not there again\n%s\n%s", strings.Join(a.did, "\n"), a.logTail())
}

// segments are the names of the segments, the oldest first.
func (a *admin) segments() []string {
	names, _ := filepath.Glob(filepath.Join(a.queue, "*.seg"))
	return names
}

func (a *admin) newest() string {
	names := a.segments()
	if len(names) == 0 {
		return filepath.Join(a.queue, "none")
	}
	return names[len(names)-1]
}

// base is the first number that a segment may hold.
func (a *admin) base(name string) uint64 {
	b := make([]byte, 48)
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	_, _ = f.ReadAt(b, 0)
	return binary.LittleEndian.Uint64(b[40:])
}

// closed is how many lines are in other segments than the newest.
func (a *admin) closed() uint64 {
	names := a.segments()
	if len(names) < 2 {
		return 0
	}
	return a.base(names[len(names)-1]) - a.base(names[0])
}

func (a *admin) rm(names ...string) uint64 {
	for _, name := range names {
		_ = os.Remove(filepath.Join(a.queue, name)) // it need not be there
	}
	return 0
}

func (a *admin) wipe() uint64 {
	return a.stopped(func() uint64 {
		n := a.closed()
		names, _ := filepath.Glob(filepath.Join(a.queue, "*"))
		for _, name := range names {
			_ = os.RemoveAll(name)
		}
		return n
	})
}

func (a *admin) removeDir() uint64 {
	return a.stopped(func() uint64 {
		n := a.closed()
		_ = os.RemoveAll(a.queue)
		return n
	})
}

// stopped does something while the worker stands still: the newest segment stays the
// newest meanwhile, so nothing of it may be lost.
func (a *admin) stopped(do func() uint64) uint64 {
	a.t.Helper()
	pid := a.p.Worker()
	for ; pid == 0; pid = a.p.Worker() {
		time.Sleep(time.Millisecond) // the keeper is about to start it
	}
	harness.Must(a.t, unix.Kill(pid, unix.SIGSTOP))
	for { // one thread after the other stops
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if !slices.ContainsFunc(tasks, func(name string) bool {
			b, err := os.ReadFile(name)
			_, state, _ := strings.Cut(string(b), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		}) {
			break
		}
	}
	n := do()
	harness.Must(a.t, unix.Kill(pid, unix.SIGCONT))
	return n
}

// rotating is what may go from the newest segment to the closed ones while we
// look: one segment's worth of lines.
func (a *admin) rotating() uint64 { return 8 << 20 / 200 }

func (a *admin) awayAndBack() uint64 {
	harness.Must(a.t, os.Rename(a.queue, a.queue+".away"))
	time.Sleep(rand.N(time.Second))
	harness.Must(a.t, os.Rename(a.queue+".away", a.queue))
	return 0
}

// awayForGood leaves the directory to its relay, and gives the path to another.
func (a *admin) awayForGood() uint64 {
	a.moved++
	harness.Must(a.t, os.Rename(a.queue, fmt.Sprintf("%s.%d", a.queue, a.moved)))
	p, f := a.p, a.f
	f.Finish()
	a.next = f.End()
	a.begin()
	p.away.Store(false)
	a.ended(a.t, p)
	return 0
}

func (a *admin) mountOver() uint64 {
	parent := filepath.Dir(a.queue)
	harness.Must(a.t, unix.Mount("tmpfs", parent, "tmpfs", 0, "size=1m"))
	time.Sleep(rand.N(2 * time.Second))
	harness.Must(a.t, unix.Unmount(parent, unix.MNT_DETACH))
	return 0
}

func (a *admin) lazyUnmount() uint64 {
	a.disk.run("umount", "-l", a.disk.Dir)
	time.Sleep(rand.N(time.Second))
	loop, err := a.disk.try("losetup", "-n", "-O", "NAME", "-j", a.disk.image)
	harness.Must(a.t, err)
	a.disk.run("mount", strings.Fields(string(loop))[0], a.disk.Dir)
	return 0
}

func (a *admin) freeze() uint64 {
	a.disk.run("fsfreeze", "-f", a.disk.Dir)
	time.Sleep(rand.N(time.Second))
	a.disk.run("fsfreeze", "-u", a.disk.Dir)
	return 0
}

// readOnly makes the file system so between two relays: the second delivers what
// the first has left, and takes lines when it can again. What was damaged before
// has its gaps by then: these cannot be made meanwhile, and hold up the rest.
func (a *admin) readOnly() uint64 {
	a.finish()
	a.begin()
	a.p.away.Store(true)
	a.p.Progress(a.t.Context(), 0)
	time.Sleep(200 * time.Millisecond)
	a.f.Finish()
	a.next = a.f.End()
	harness.Must(a.t, a.p.Cmd.Process.Signal(unix.SIGTERM))
	if err := a.p.wait(time.Minute); err != nil {
		a.did = append(a.did, fmt.Sprintf("ended with %v", err)) // 75: lines wait
	}
	a.disk.run("mount", "-o", "remount,ro", a.disk.Dir)
	a.begin()
	a.mustArrive(a.next)
	a.disk.run("mount", "-o", "remount,rw", a.disk.Dir)
	return 0
}

// mustArrive waits for every line below n.
func (a *admin) mustArrive(n uint64) {
	a.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		a.mu.Lock()
		next := a.oracle.next
		a.mu.Unlock()
		if next >= n {
			return
		}
		if time.Now().After(end) {
			a.t.Fatalf("line %d does not arrive, the next is %d\n%s\n%s", n-1, next, strings.Join(a.did, "\n"),
				a.logTail())
		}
	}
}

func (a *admin) fillDisk() uint64 {
	name := filepath.Join(a.disk.Dir, "filler")
	f, err := os.Create(name)
	harness.Must(a.t, err)
	b := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(b)
	}
	time.Sleep(rand.N(time.Second))
	harness.Must(a.t, f.Close())
	harness.Must(a.t, os.Remove(name))
	return 0
}

func (a *admin) chmod() uint64 {
	harness.Must(a.t, os.Chmod(a.queue, 0))
	time.Sleep(rand.N(time.Second))
	harness.Must(a.t, os.Chmod(a.queue, 0o700))
	return 0
}

func (a *admin) chown() uint64 {
	harness.Must(a.t, os.Chown(a.queue, 12345, 12345))
	time.Sleep(rand.N(time.Second))
	harness.Must(a.t, os.Chown(a.queue, 0, 0))
	return 0
}

func (a *admin) immutable() uint64 {
	names := append(a.segments(), filepath.Join(a.queue, "CURSOR"))
	name := names[rand.IntN(len(names))]
	if out, err := a.disk.try("chattr", "+i", name); err != nil {
		a.did = append(a.did, fmt.Sprintf("chattr: %s", out)) // it is gone by now
		return 0
	}
	time.Sleep(rand.N(2 * time.Second))
	_, _ = a.disk.try("chattr", "-i", name)
	return 0
}

// link puts a link to a file elsewhere in the place of one of the queue's; "": of the
// newest segment.
func (a *admin) link(name string) uint64 {
	victim := filepath.Join(a.disk.Dir, "victim")
	harness.Must(a.t, os.WriteFile(victim, []byte("precious"), 0o600))
	a.stopped(func() uint64 {
		at := filepath.Join(a.queue, cmp.Or(name, filepath.Base(a.newest())))
		_ = os.Remove(at + ".link")
		harness.Must(a.t, os.Symlink(victim, at+".link"))
		harness.Must(a.t, os.Rename(at+".link", at))
		return 0
	})
	time.Sleep(rand.N(time.Second))
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		a.t.Fatalf("a file elsewhere holds %q, %v", b, err)
	}
	return 0
}

func (a *admin) linkOldest() uint64 {
	names := a.segments()
	if len(names) < 2 {
		return 0
	}
	n := a.base(names[1]) - a.base(names[0])
	a.link(filepath.Base(names[0]))
	return n
}

func (a *admin) truncate() uint64 {
	name := a.newest()
	st, err := os.Stat(name)
	if err != nil || st.Size() == 0 {
		return 0
	}
	_ = os.Truncate(name, rand.Int64N(st.Size()))
	return a.rotating()
}

// second starts another relay on the same directory. It has its turn when the
// first has ended.
func (a *admin) second() uint64 {
	p, f := a.p, a.f
	a.p = a.start(a.t, nil, "--queue-limit", "64MiB", "--compress", "none")
	time.Sleep(rand.N(time.Second))
	if holder, _ := buffer.Locked(a.queue); holder != p.Worker() {
		a.t.Errorf("process %d has the queue, and not the first relay's %d", holder, p.Worker())
	}
	a.rm("LOCK")
	time.Sleep(rand.N(500 * time.Millisecond))
	p.away.Store(false)
	f.Finish()
	a.next = f.End()
	a.f = harness.Feed(a.p.W, a.next, a.keepUp)
	a.ended(a.t, p)
	return 0
}

func (a *admin) killWorkers() uint64 {
	for range 1 + rand.IntN(3) {
		a.p.killWorker(a.t)
	}
	return 0
}
