package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// What administrators do to the directory of a queue. Each test counts lines:
// all that were appended come out once, but for those that the action itself
// destroyed, which come out as a gap.

// ground is a queue in a real directory, and what came out of it.
type ground struct {
	*testing.T
	dir string
	o   Options
	q   *Queue
	log bytes.Buffer

	in      int
	out     map[string]int
	doubled int
	gaps    uint64 // records
}

func newGround(t *testing.T, o Options) *ground {
	t.Helper()
	g := &ground{T: t, dir: filepath.Join(t.TempDir(), "q"), o: o, out: map[string]int{}}
	g.o.Log = slog.New(slog.NewTextHandler(&g.log, nil))
	g.open()
	return g
}

func (g *ground) open() *Recovery {
	g.Helper()
	q, rec, err := Open(g.Context(), g.dir, g.o)
	if err != nil {
		g.Fatalf("open: %v", err)
	}
	g.q = q
	g.Cleanup(func() { // what cannot be kept any more is not this test's
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = q.Close(ctx)
	})
	return rec
}

func (g *ground) close() {
	g.Helper()
	if err := g.q.Close(g.Context()); err != nil {
		g.Fatalf("close: %v", err)
	}
}

// append adds n lines of about 1000 bytes, and waits until they are on disk.
func (g *ground) append(n int) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), 20*time.Second)
	defer cancel()
	for range n {
		g.in++
		line := fmt.Sprintf("%s %d %s\n", filepath.Base(g.dir), g.in, noise(g.in, 1000))
		if _, err := g.q.Append(ctx, []byte(line), 1, Origin{}); err != nil {
			g.Fatalf("append: %v", err)
		}
		if g.in%20 > 0 {
			continue
		}
		if err := g.q.WaitDurable(ctx, g.q.Stats().Head); err != nil {
			g.Fatalf("lines do not get to the disk: %v, %s", err, g.q.Stats().Trouble)
		}
	}
	if err := g.q.WaitDurable(ctx, g.q.Stats().Head); err != nil {
		g.Fatalf("lines do not get to the disk: %v, %s", err, g.q.Stats().Trouble)
	}
}

// take takes out and acknowledges up to n blocks.
func (g *ground) take(n int) (taken int) {
	g.Helper()
	for end := time.Now().Add(10 * time.Second); taken < n && time.Now().Before(end); {
		b, err := g.q.TryNext()
		s := g.q.Stats()
		switch {
		case err != nil || b == nil && s.Cursor < s.Head:
			time.Sleep(time.Millisecond) // it is tried again
			continue
		case b == nil:
			return taken
		case b.Gap() != nil:
			g.gaps += b.Range().Len()
		default:
			lines, err := b.Lines(nil)
			if err != nil {
				g.Fatal(err)
			}
			for line := range bytes.Lines(lines) {
				if g.out[string(line)]++; g.out[string(line)] > 1 {
					g.doubled++
				}
			}
		}
		if err := g.q.Ack(b.Range().End, Receipt{Seq: b.Range().End, UID: "u"}); err != nil {
			g.Fatal(err)
		}
		taken++
	}
	return taken
}

// check takes out the rest and compares: lost lines must be in gaps, and no more
// than may be lost.
func (g *ground) check(most int) {
	g.Helper()
	g.take(1 << 30)
	lost := g.in - len(g.out)
	g.Logf("%d lines in, %d out, %d lost, %d in gaps, %d doubled", g.in, len(g.out), lost, g.gaps, g.doubled)
	if lost > most || uint64(lost) != g.gaps || g.doubled > 0 {
		g.Errorf("want at most %d lost, each in a gap\n%s", most, g.log.String())
	}
}

// manySegments keeps what waits in several segments, of 128 KiB.
var manySegments = Options{Limit: 1 << 20, Codec: raw}

func mustBe(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *ground) removeAll(pattern string) {
	g.Helper()
	names, err := filepath.Glob(filepath.Join(g.dir, pattern))
	mustBe(g, err)
	for _, name := range names {
		mustBe(g, os.RemoveAll(name))
	}
}

func (g *ground) logged(what string) {
	g.Helper()
	if !strings.Contains(g.log.String(), what) {
		g.Errorf("the log has no %q:\n%s", what, g.log.String())
	}
}

func TestGround_ASecondRelayWaitsThoughEveryFileIsRemoved(t *testing.T) {
	g := newGround(t, Options{})
	g.append(100)
	g.removeAll("LOCK")
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		q, _, err := Open(ctx, g.dir, Options{})
		if err == nil {
			_ = q.Close(t.Context())
		}
		return err
	}
	if err := wait(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without LOCK: got %v", err)
	}
	g.removeAll("*")
	if err := wait(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without any file: got %v", err)
	}
	g.append(100)
	g.check(0)
}

func TestGround_ADirectoryThatIsMovedAwayAndBackLosesNothing(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(700)
	g.take(2)
	away := g.dir + ".away"
	mustBe(t, os.Rename(g.dir, away))
	for range 100 {
		_, _ = g.q.TryNext()
	}
	g.q.mu.Lock()
	next := g.q.flight[0].First
	g.q.mu.Unlock()
	mustBe(t, g.q.Rewind(next))
	g.append(50)
	mustBe(t, os.Rename(away, g.dir))
	g.append(50)
	g.take(1)
	g.close()
	g.open()
	g.check(0)
}

func TestGround_ANewDirectoryOnTheOldPathIsAnotherQueue(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(300)
	old := g.dir
	mustBe(t, os.Rename(g.dir, g.dir+".away"))
	second := &ground{T: t, dir: old, o: manySegments, out: map[string]int{}, in: 1000}
	second.open()
	for range 10 {
		g.append(30)
		second.append(30)
	}
	g.take(3)
	second.take(3)
	g.close()
	second.close()
	g.dir += ".away"
	g.open()
	second.open()
	g.check(0)
	second.in -= 1000
	second.check(0)
}

func TestGround_RemovedFilesCostNoLineThatWasInTheNewestSegment(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(500)
	g.removeAll("*")
	g.append(500)
	g.close()
	g.open()
	g.check(0)
	g.logged("removed")
}

func TestGround_RemovedFilesAreMadeAgainWhileNoLineComes(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(500)
	g.removeAll("*")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(g.dir, cursorName)); err == nil { // the last that is made
			break
		}
	}
	// The process is killed: only what has a name is left.
	copied := filepath.Join(t.TempDir(), "q")
	mustBe(t, os.CopyFS(copied, os.DirFS(g.dir)))
	g.close()
	g.dir = copied
	g.open()
	g.check(0)
}

func TestGround_RemovedFilesCostWhatOnlyTheyHad(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.take(1) // it has a file open
	g.removeAll("*")
	g.append(200)
	g.logged("removed")
	g.check(600)
	g.close()
	g.open()
	g.append(10)
	g.check(600)
}

func TestGround_MovedFilesAreMadeAgain(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(500)
	away := t.TempDir()
	names, _ := filepath.Glob(filepath.Join(g.dir, "*"))
	for _, name := range names {
		mustBe(t, os.Rename(name, filepath.Join(away, filepath.Base(name))))
	}
	g.append(500)
	g.close()
	g.open()
	g.check(0)
}

func TestGround_ARemovedDirectoryIsMadeAgainWithEverythingInIt(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(500)
	g.take(1)
	mustBe(t, os.RemoveAll(g.dir))
	g.append(500)
	for _, name := range []string{identityName, segmentName(1)} {
		if _, err := os.Stat(filepath.Join(g.dir, name)); err != nil {
			t.Error(err)
		}
	}
	g.logged("removed")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := Open(ctx, g.dir, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second relay gets the new directory: %v", err)
	}
	sid := g.q.Stats().SID
	g.close()
	if rec := g.open(); rec.NewSID || g.q.Stats().SID != sid {
		t.Errorf("another stream: %+v", rec)
	}
	g.check(0)
}

func TestGround_ATruncatedNewestSegmentCostsNoLineThatComesThen(t *testing.T) {
	for _, size := range []int64{0, 100, 5000} {
		g := newGround(t, Options{Codec: raw})
		g.append(100)
		mustBe(t, os.Truncate(filepath.Join(g.dir, segmentName(1)), size))
		g.append(100)
		g.close()
		g.open()
		g.check(100)
	}
}

// odd puts something in the place of a file that is none.
var odd = map[string]func(name string) error{
	"a directory": func(name string) error { return errors.Join(os.RemoveAll(name), os.Mkdir(name, 0o700)) },
	"a directory with files": func(name string) error {
		return errors.Join(os.RemoveAll(name), os.Mkdir(name, 0o700),
			os.WriteFile(filepath.Join(name, "x"), nil, 0o600))
	},
	"a link to nothing": func(name string) error { return errors.Join(os.RemoveAll(name), os.Symlink("/none", name)) },
	"a link to a file":  func(name string) error { return errors.Join(os.RemoveAll(name), os.Symlink("/etc/hostname", name)) },
	"a named pipe":      func(name string) error { return errors.Join(os.RemoveAll(name), unix.Mkfifo(name, 0o600)) },
	"an empty file":     func(name string) error { return os.Truncate(name, 0) },
	"nothing":           os.RemoveAll,
}

func TestGround_WhatIsNoFileStopsNeitherTheStartNorTheRest(t *testing.T) {
	for what, put := range odd {
		names := []string{segmentName(2), cursorName, identityName, spareName, damagedName}
		for _, name := range names[:amount(5, 5, 1)] {
			t.Run(what+" is "+name, func(t *testing.T) {
				g := newGround(t, manySegments)
				g.append(400)
				g.close()
				mustBe(t, os.RemoveAll(filepath.Join(g.dir, damagedName)))
				mustBe(t, os.WriteFile(filepath.Join(g.dir, spareName), []byte("x"), 0o600))
				if name == damagedName && what == "an empty file" {
					mustBe(t, os.WriteFile(filepath.Join(g.dir, name), nil, 0o600))
				}
				mustBe(t, put(filepath.Join(g.dir, name)))
				g.open()
				g.append(100)
				g.check(map[bool]int{true: 130, false: 0}[name == segmentName(2)])
			})
		}
	}
}

func TestGround_FilesThatTurnIntoSomethingElseWhileItRuns(t *testing.T) {
	for what, put := range odd {
		names := []string{segmentName(2), cursorName, identityName, spareName}
		for _, name := range names[:amount(4, 4, 1)] {
			t.Run(what+" is "+name, func(t *testing.T) {
				g := newGround(t, manySegments)
				g.append(400)
				if err := put(filepath.Join(g.dir, name)); err != nil && name != spareName {
					t.Fatal(err)
				}
				g.take(1)
				g.append(100)
				g.check(map[bool]int{true: 130, false: 0}[name == segmentName(2)])
			})
		}
	}
}

// Nothing outside of the directory is touched by links in it.
func TestGround_LinksInTheDirectoryAreNotFollowed(t *testing.T) {
	victims := t.TempDir()
	dir := filepath.Join(t.TempDir(), "q")
	mustBe(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{
		"LOCK", cursorName, identityName, identityTmp, spareName, segmentName(1),
		segmentName(2), "LOST", "LOST.tmp",
	} {
		mustBe(t, os.WriteFile(filepath.Join(victims, name), []byte("precious"), 0o600))
		mustBe(t, os.Symlink(filepath.Join(victims, name), filepath.Join(dir, name)))
	}
	mustBe(t, os.Symlink(victims, filepath.Join(dir, damagedName)))
	g := &ground{T: t, dir: dir, o: manySegments, out: map[string]int{}}
	g.open()
	g.append(200)
	_, err := g.q.Quarantine("s", 1, []byte("line"), "oversize")
	mustBe(t, err)
	g.check(0)
	g.close()
	left, err := os.ReadDir(victims)
	mustBe(t, err)
	for _, e := range left {
		if b, err := os.ReadFile(filepath.Join(victims, e.Name())); err != nil || string(b) != "precious" {
			t.Errorf("%s: %q, %v", e.Name(), b, err)
		}
	}
	if len(left) != 9 {
		t.Errorf("%d files, want 9", len(left))
	}
}

func TestGround_TheDirectoryOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := filepath.Join(t.TempDir(), "q")
	mustBe(t, os.Mkdir(dir, 0o700))
	mustBe(t, os.Chown(dir, 12345, 12345))
	q, _, err := Open(t.Context(), dir, Options{})
	if err == nil {
		_ = q.Close(t.Context())
		t.Fatal("it was opened")
	}
	if !strings.Contains(err.Error(), "12345") {
		t.Errorf("it does not say whose it is: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it made %v", left)
	}
}

// readOnlyFS refuses every change, as a file system does that was remounted.
func readOnlyFS(fs *strictFS) {
	fs.setFault(func(_ int, call, _ string) error {
		switch call {
		case "create", "change", "rename", "remove", "mkdir", "write", "sync":
			return unix.EROFS
		}
		return nil
	})
}

func TestGround_AReadOnlyFileSystemDeliversItsBacklog(t *testing.T) {
	for how, end := range map[string]func(*world){
		"while it runs": nil,
		"after a stop":  func(w *world) { w.stop() },
		"after a kill":  func(w *world) { w.end1((*strictFS).kill) }, // the last block is not proved durable: it waits
	} {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.o.Limit = 1 << 20
			w.mustStart()
			defer w.abandon()
			for range 5 {
				w.append(20, 5000)
				w.wait()
			}
			proved := w.head
			if how != "after a kill" {
				w.idle()
			} else {
				proved -= 20
			}
			if end != nil {
				end(w)
			}
			readOnlyFS(w.fs)
			w.faulty = true
			if end != nil {
				w.mustStart()
				w.out, w.ranges = w.acked, nil
			}
			for w.next() {
			}
			w.ack(len(w.ranges))
			w.idle()
			t.Logf("%s: %d lines in, %d out", how, w.head-1, w.out-1)
			if w.out < proved || len(w.gone) > 0 {
				t.Errorf("%s: out up to %d of %d, %d in gaps", how, w.out, w.head, len(w.gone))
			}
			w.fs.setFault(nil)
			time.Sleep(retryMax)
			w.append(5, 300)
			w.restart()
			w.drain()
		})
	}
}

func TestGround_VerifyStatusAndExportSayTheSame(t *testing.T) {
	newestOf := func(dir string) string {
		names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
		return names[len(names)-1]
	}
	for name, c := range map[string]struct {
		do       func(dir string) error
		lost     bool // some lines are
		problems bool
	}{
		"nothing":              {func(string) error { return nil }, false, false},
		"no CURSOR":            {func(dir string) error { return os.Remove(filepath.Join(dir, cursorName)) }, false, true},
		"no IDENTITY":          {func(dir string) error { return os.Remove(filepath.Join(dir, identityName)) }, false, true},
		"no newest segment":    {func(dir string) error { return os.Remove(newestOf(dir)) }, true, true},
		"empty newest segment": {func(dir string) error { return os.Truncate(newestOf(dir), 0) }, true, true},
		"half a newest segment": {func(dir string) error {
			st, err := os.Stat(newestOf(dir))
			return errors.Join(err, os.Truncate(newestOf(dir), st.Size()/2))
		}, true, true},
		"no second segment": {func(dir string) error { return os.Remove(filepath.Join(dir, segmentName(2))) }, true, true},
		"a link as second segment": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, segmentName(2))),
				os.Symlink("/etc/hostname", filepath.Join(dir, segmentName(2))))
		}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t, manySegments)
			g.append(400)
			g.close()
			mustBe(t, c.do(g.dir))
			r, err := Verify(g.dir, io.Discard)
			mustBe(t, err)
			var missing uint64
			for _, m := range r.Missing {
				missing += m.Len()
			}
			v, err := Inspect(g.dir)
			mustBe(t, err)
			var lost, lines uint64
			for _, l := range v.Lost {
				lost += l.Len()
			}
			mustBe(t, v.Blocks(func(b *Block) error {
				if b.Gap() == nil {
					lines += b.Range().Len()
				}
				return nil
			}))
			t.Logf("verify: %d of %d missing, %d problems; status: %d wait, %d lost; export: %d lines", missing,
				r.Head-r.Cursor, r.Problems, v.Waiting(), lost, lines)
			if r.Head != 401 || v.Head != 401 || missing != lost || lines+lost != 400 || v.Waiting() != lines ||
				(lost > 0) != c.lost || (r.Problems > 0) != c.problems {
				t.Errorf("verify: %+v; status: head %d, lost %v; export %d lines", r, v.Head, v.Lost, lines)
			}
		})
	}
}

func TestGround_AnIdleQueueGivesItsSpaceBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{Codec: raw})
			w.o.Limit = 64 << 20
			w.mustStart()
			defer w.abandon()
			for range 60 {
				w.append(20, 20<<10)
				w.wait()
				w.deliver(100)
				w.ack(len(w.ranges))
			}
			if held := w.fs.held(); held < 8<<20 {
				t.Fatalf("%d bytes on disk, too little for this test", held)
			}
			if restart {
				w.restart()
			}
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if held := w.fs.held(); held > 1<<20 {
				t.Errorf("restart %v: an idle queue has %d bytes on disk", restart, held)
			}
			calls := w.calls()
			time.Sleep(time.Hour)
			synctest.Wait()
			if more := w.calls() - calls; more > 100 {
				t.Errorf("%d file calls in an hour without work", more)
			}
			w.append(5, 300)
			w.crash((*strictFS).kill, 0)
			w.drain()
			w.restart()
			if len(w.gone) > 0 {
				t.Errorf("%d lines are lost", len(w.gone))
			}
		})
	}
}

func (w *world) calls() int {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	return w.fs.calls
}

// A wrong clock, and one that is set, make no line old.
func TestGround_AgeDoesNotBelieveTheWallClock(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	this, other := [16]byte{1}, [16]byte{2}
	for name, c := range map[string]struct {
		s    segment
		up   time.Duration
		want time.Duration
	}{
		"queued under 1970, clock set 25 s later": {segment{boot: this, up: time.Minute, created: 0}, time.Minute + 25*time.Second, 25 * time.Second},
		"clock set back by a day": {segment{
			boot: this, up: time.Minute,
			created: now.Add(24 * time.Hour).UnixMilli(),
		}, time.Hour, 59 * time.Minute},
		"before this start, under 1970": {
			segment{boot: other, up: time.Hour, created: 1000},
			time.Minute,
			time.Minute,
		},
		"before this start, in the future": {segment{
			boot: other, up: time.Hour,
			created: now.Add(time.Hour).UnixMilli(),
		}, time.Minute, time.Minute},
		"before this start, yesterday": {segment{
			boot: other, up: time.Hour,
			created: now.Add(-24 * time.Hour).UnixMilli(),
		}, time.Minute, 24 * time.Hour},
	} {
		if got := c.s.age(now, this, c.up); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	boot, up := mustOpenDir(t, t.TempDir()).clock()
	s := &segment{id: 3, sid: "aaaaaaaaaaaaaaaa", boot: boot, up: up.Truncate(time.Millisecond)}
	back, err := parseSegment(s.page()[:halfLen], 3)
	if err != nil || back.boot != boot || back.up != s.up || boot == [16]byte{} || up < time.Second {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestGround_ExpiresNothingWhenTheClockIsSet(t *testing.T) {
	inBubble(t, func() { // the clock of a bubble says 2000, which is no time for a wsrelay
		w := newWorld(t, 1, Options{Codec: raw, MaxAge: time.Hour})
		w.o.Limit = 2 << 20
		w.mustStart()
		defer w.abandon()
		for range 30 {
			w.append(4, 20<<10)
			w.wait()
		}
		w.restart()
		time.Sleep(50 * time.Minute)
		w.drain()
		if len(w.gone) > 0 {
			t.Errorf("%d of %d lines expired after 50 minutes", len(w.gone), w.head-1)
		}
		w.ack(len(w.ranges))
	})
}

func TestGround_AFileSystemThatDoesNotSayHowMuchIsFreeIsNotFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	g := &ground{T: t, dir: filepath.Join(dir, "q"), out: map[string]int{}}
	g.open()
	g.append(100)
	g.check(0)
	g.close()
}

func TestGround_LossesAreRememberedAfterARestart(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(400)
	g.close()
	mustBe(t, os.Remove(filepath.Join(g.dir, segmentName(2))))
	g.open()
	lost := func(told bool) (n uint64) {
		w := NewWatch(g.q)
		defer w.Close()
		for _, l := range w.Lost() {
			if l.Acknowledged == told && l.Why == "damaged" {
				n += l.Len()
			}
		}
		return n
	}
	was := lost(false)
	if was == 0 || lost(true) > 0 {
		t.Fatalf("%d lost, and told %d", was, lost(true))
	}
	g.check(400)
	g.close()
	for range 2 {
		g.open()
		if told := lost(true); told != was || lost(false) > 0 {
			t.Errorf("after a restart: %d told and %d not, want %d told", told, lost(false), was)
		}
		g.close()
		v, err := Inspect(g.dir)
		mustBe(t, err)
		if len(v.Lost) != 1 || !v.Lost[0].Acknowledged || v.Lost[0].Len() != was || v.Waiting() > 0 {
			t.Errorf("the files say %+v, %d wait", v.Lost, v.Waiting())
		}
		mustBe(t, v.Close())
	}
	if l := readLosses(mustOpenDir(t, g.dir), time.Now().Add(KeepLosses+time.Hour)); len(l.all) > 0 {
		t.Errorf("too old, and remembered: %v", l)
	}
}

// Two file systems have the same inode numbers.
func TestLocked_KnowsOneFileSystemFromAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var dirs []string
	for range 2 {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
			t.Skip(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		dirs = append(dirs, filepath.Join(dir, "q"))
		mustBe(t, os.Mkdir(filepath.Join(dir, "q"), 0o700))
	}
	var st [2]unix.Stat_t
	mustBe(t, errors.Join(unix.Stat(dirs[0], &st[0]), unix.Stat(dirs[1], &st[1])))
	if st[0].Ino != st[1].Ino {
		t.Fatalf("inodes %d and %d: the test tests nothing", st[0].Ino, st[1].Ino)
	}
	d, err := ownDir(dirs[0])
	mustBe(t, err)
	defer d.Close()
	holder, _ := Locked(dirs[0])
	other, _ := Locked(dirs[1])
	if holder != os.Getpid() || other != 0 {
		t.Errorf("process %d has the one, and %d the other; want %d and 0", holder, other, os.Getpid())
	}
}

// The directory may go while a relay starts: between the lock and the first file.
func TestOpen_MakesADirectoryAgainThatIsRemovedMeanwhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	removed := false
	d, err := takeDir(t.Context(), dir, slog.New(slog.DiscardHandler))
	mustBe(t, err)
	mustBe(t, os.RemoveAll(dir))
	if _, _, err := open(d, Options{}); err == nil || !d.removed() {
		t.Fatalf("a queue in a directory that is not there: %v", err)
	}
	mustBe(t, d.Close())
	for range 20 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 1000 {
				if os.Remove(dir) == nil {
					removed = true
				}
			}
		}()
		g := &ground{T: t, dir: dir, out: map[string]int{}}
		g.open()
		<-done
		g.append(20)
		g.check(0)
		g.close()
		mustBe(t, os.RemoveAll(dir))
	}
	t.Logf("it was removed: %v", removed)
}

func TestHint_SaysWhatIsToBeDone(t *testing.T) {
	for want, err := range map[string]error{
		"LimitNOFILE": unix.EMFILE, "fs.file-max": unix.ENFILE, "df -i": unix.ENOSPC, "for writing": unix.EROFS,
		"chattr -i": unix.EPERM,
		"chown -R":  ErrForeign, "flock(2)": errNoLock, "--queue-limit": errFull, "check the disk": unix.EIO,
	} {
		if got := Hint(fmt.Errorf("open CURSOR: %w", err)); !strings.Contains(got, want) {
			t.Errorf("%v: %q does not say %q", err, got, want)
		}
	}
}

// A restore, or an editor, puts another file under a name.
func TestGround_AnotherFileInTheNewestSegmentsPlaceIsReplaced(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(100)
	for _, name := range []string{segmentName(1), cursorName} {
		other := filepath.Join(t.TempDir(), name)
		mustBe(t, os.WriteFile(other, []byte("another file"), 0o600))
		mustBe(t, os.Rename(other, filepath.Join(g.dir, name)))
		g.append(100)
	}
	g.close()
	g.open()
	g.check(0)
}

func TestGround_WhatTheConsumerReadsSurvivesItsRemoval(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	g.open() // nothing is in memory
	g.take(1)
	g.q.mu.Lock()
	end := g.q.reader.seg.next
	g.q.mu.Unlock()
	g.removeAll("*")
	g.append(20)
	g.close()
	g.open()
	g.check(600)
	for k := uint64(1); k < end; k++ {
		if line := fmt.Sprintf("q %d %s\n", k, noise(int(k), 1000)); g.out[line] == 0 {
			t.Fatalf("line %d of the segment that was read, which ended with %d, is lost", k, end-1)
		}
	}
}

// A consumer that lags reads the very file that is written.
func TestGround_AConsumerThatLagsContinuesInTheFileThatWasWrittenAgain(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(5000) // more than stays in memory
	g.take(1)
	g.q.mu.Lock()
	lags := g.q.reader.seg != nil && g.q.reader.seg.next == 0
	g.q.mu.Unlock()
	if !lags {
		t.Fatal("it reads no file that is written: the test tests nothing")
	}
	g.removeAll("*")
	g.append(5000)
	g.check(0)
	if _, err := os.Stat(filepath.Join(g.dir, damagedName)); err == nil {
		t.Error("something is kept as damaged")
	}
}

// A consumer that comes to the file that is written, and does not have it open, may come
// between its removal and the moment when the writer notices it.
func TestGround_WhatTheWriterHasOpenIsNotLostToAConsumerThatComesFirst(t *testing.T) {
	for what, change := range map[string]func(name string) error{
		"removed": os.Remove,
		"moved":   func(name string) error { return os.Rename(name, name+".bak") },
		"another file": func(name string) error {
			return errors.Join(os.Remove(name), os.WriteFile(name, []byte("another file"), 0o600))
		},
		"a folder":         odd["a directory with files"],
		"a link":           odd["a link to nothing"],
		"its whole folder": func(name string) error { return os.RemoveAll(filepath.Dir(name)) },
	} {
		t.Run(what, func(t *testing.T) {
			g := newGround(t, Options{Codec: raw})
			g.append(5000) // more than stays in memory
			g.q.mu.Lock()
			opened := g.q.reader.seg != nil
			g.q.mu.Unlock()
			if opened {
				t.Fatal("the consumer has a file open: the test tests nothing")
			}
			mustBe(t, change(filepath.Join(g.dir, segmentName(1))))
			g.check(0)
			g.logged("removed")
			if _, err := os.Stat(filepath.Join(g.dir, damagedName)); err == nil && !strings.HasPrefix(what, "a ") {
				t.Error("something is kept as damaged")
			}
		})
	}
}

func TestGround_TheConsumerMayMissWhatTheWriterHasOpenAgainAndAgain(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	q, w, _, err := load(d, g.o)
	mustBe(t, err)
	_, err = q.Append(t.Context(), []byte("line\n"), 1, Origin{})
	mustBe(t, err)
	w.step(time.Now(), false)
	for range 2 { // the second time after the block was found
		mustBe(t, q.Rewind(q.Stats().Cursor))
		q.ring = ring{}
		mustBe(t, q.reader.close())
		name := filepath.Join(g.dir, segmentName(w.seg.id))
		for _, back := range []bool{false, false, true} {
			mustBe(t, os.Rename(name, name+".bak"))
			if b, err := q.TryNext(); b != nil || err != nil {
				t.Fatalf("got %v, %v from a file that is not there", b, err)
			}
			if back {
				mustBe(t, os.Rename(name+".bak", name))
			}
			mustBe(t, w.inspectFiles(time.Now(), false))
		}
		if b, err := q.TryNext(); err != nil || b == nil || b.Gap() != nil {
			t.Fatalf("got %+v, %v, want the line", b, err)
		}
	}
	w.closeFiles()
	mustBe(t, errors.Join(q.reader.close(), d.Close()))
}

// The network is dead: the consumer has files open that it does not read.
func TestGround_AnIdleConsumersFileIsWrittenAgainOnceAndFromWhatHasAllLines(t *testing.T) {
	for what, o := range map[string]Options{
		"the newest file": {Limit: 64 << 20, Codec: raw}, // 8 MiB; 4 MiB stay in memory
		"an older file":   {Limit: 16 << 20, Codec: raw},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, o)
			g.append(6000)
			g.take(1)
			g.removeAll("*")
			g.append(3000) // also to another file
			g.log.Reset()
			time.Sleep(inspectInterval + time.Second) // nothing was removed since
			if s := g.log.String(); s != "" {
				t.Error(s)
			}
			g.close() // nothing is in memory
			g.open()
			g.take(1 << 30)
			lost := g.in - len(g.out)
			if what == "the newest file" && lost > 0 || uint64(lost) != g.gaps {
				t.Errorf("%d lines lost, %d in gaps", lost, g.gaps)
			}
		})
	}
}

// opening is a directory in which something happens whenever a file was opened.
type opening struct {
	*osDir
	after func()
}

func (d *opening) open(name string) (file, error) {
	f, err := d.osDir.open(name)
	d.after()
	return f, err
}

func TestGround_AFileThatIsWrittenAgainWhileItIsReadIsNotKeptOpen(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	fsys := &opening{d, func() {}}
	q, w, _, err := load(fsys, g.o)
	mustBe(t, err)
	_, err = q.Append(t.Context(), []byte("line\n"), 1, Origin{})
	mustBe(t, err)
	w.step(time.Now(), false)
	q.ring = ring{}
	name := segmentName(w.seg.id)
	fsys.after = func() {
		fsys.after = func() {}
		mustBe(t, os.Remove(filepath.Join(g.dir, name)))
		mustBe(t, w.reclaimSegments())
		q.missed = &missed{seq: q.next} // it is not read again at once
	}
	if b, err := q.TryNext(); b != nil || err != nil || q.reader.f != nil {
		t.Fatalf("got %+v, %v; open: %v", b, err, q.reader.f)
	}
	mustBe(t, w.inspectFiles(time.Now(), false))
	if b, err := q.TryNext(); err != nil || b == nil || b.Gap() != nil {
		t.Fatalf("got %+v, %v, want the line", b, err)
	}
	if ok, err := d.holds(name, q.reader.f); err != nil || !ok {
		t.Errorf("the consumer has a file open that is not there any more: %v", err)
	}
	w.closeFiles()
	mustBe(t, errors.Join(q.reader.close(), d.Close()))
}

func TestGround_IdentityIsMadeAgain(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(20)
	g.removeAll("*")
	g.append(20)
	if id, err := readIdentity(mustOpenDir(t, g.dir)); err != nil || len(id.pairs) != 1 ||
		id.pairs[0].sid != g.q.Stats().SID {
		t.Errorf("got %+v, %v", id, err)
	}
	g.check(0)
}

func TestGround_WhatCannotBeRemovedIsReportedAndKeepsNoLineWaiting(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.restart()
		w.append(5, 300)
		w.wait()
		w.deliver(1)
		w.setFault(func(_ int, call, name string) error {
			if name != segmentName(1) && name != spareName || call != "remove" && call != "rename" {
				return nil
			}
			return unix.EPERM
		})
		w.ack(1)
		time.Sleep(time.Minute)
		begun := time.Now()
		w.append(5, 300)
		if !w.wait() || time.Since(begun) > time.Second {
			t.Errorf("lines wait %v for a file that cannot be removed", time.Since(begun))
		}
		if got := w.q.Stats().Trouble.String(); !strings.Contains(got, "cannot remove what is delivered") {
			t.Errorf("trouble %q", got)
		}
		w.setFault(nil)
	})
}

// removing is a directory from which another process removes files right before it is
// listed.
type removing struct {
	*osDir
	before func()
}

func (d *removing) list(name string) ([]fs.DirEntry, error) {
	d.before()
	return d.osDir.list(name)
}

// unlisted is a directory that cannot be listed once.
type unlisted struct {
	*osDir
	failed bool
}

func (d *unlisted) list(name string) ([]fs.DirEntry, error) {
	if !d.failed {
		d.failed = true
		return nil, errInjected
	}
	return d.osDir.list(name)
}

func TestGround_ARemovedDirectoryIsReportedThoughTheNextStepFails(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(20)
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	fsys := &unlisted{d, true}
	q, w, _, err := load(fsys, g.o)
	mustBe(t, err)
	mustBe(t, os.RemoveAll(g.dir))
	fsys.failed = false
	if err := w.reclaim(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	mustBe(t, w.reclaim())
	g.logged("the queue directory was removed")
	g.log.Reset()
	mustBe(t, w.reclaim())
	if g.log.Len() > 0 {
		t.Errorf("reported again: %s", g.log.String())
	}
	w.closeFiles()
	mustBe(t, errors.Join(q.reader.close(), fsys.Close()))
}

func TestGround_WhatIsRemovedWhileTheWriterLooksIsWrittenAgain(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	for _, opened := range []string{"before the look", "during the look"} {
		d, err := ownDir(g.dir)
		mustBe(t, err)
		fsys := &removing{d, func() {}}
		q, w, _, err := load(fsys, g.o)
		mustBe(t, err)
		name := ""
		read := func() {
			_, err := q.TryNext()
			mustBe(t, err)
			name = filepath.Join(g.dir, segmentName(q.reader.seg.id))
		}
		fsys.before = func() { mustBe(t, os.Remove(name)) }
		if opened == "during the look" {
			fsys.before = func() { read(); mustBe(t, os.Remove(name)) }
		} else {
			read()
		}
		for range 2 {
			mustBe(t, w.reclaimSegments())
			fsys.before = func() {}
		}
		if _, err := os.Stat(name); err != nil || len(q.queued) > 0 {
			t.Errorf("opened %s: %v; %d gaps", opened, err, len(q.queued))
		}
		w.closeFiles()
		mustBe(t, errors.Join(q.reader.close(), d.Close()))
	}
}
