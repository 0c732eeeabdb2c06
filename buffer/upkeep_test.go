package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// badPageFile cannot be read in one page, as pread(2) reports it: short before it.
type badPageFile struct {
	file
	bad int64
}

func (f *badPageFile) ReadAt(b []byte, off int64) (int, error) {
	end := off + int64(len(b))
	if off < f.bad+pageLen && f.bad < end {
		n := 0
		if off < f.bad {
			n, _ = f.file.ReadAt(b[:f.bad-off], off)
		}
		return n, unix.EIO
	}
	return f.file.ReadAt(b, off)
}

func TestGround_CopyLeavesOutNoMoreThanTheBadPage(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	from, err := d.create("from")
	mustBe(t, err)
	to, err := d.create("to")
	mustBe(t, err)
	text := bytes.Repeat([]byte("x"), 1<<20)
	mustBe(t, from.writeAt(text, 0))
	mustBe(t, copyFile(to, &badPageFile{from, 20 * pageLen}, 1<<20))
	got := make([]byte, 1<<20)
	_, _ = to.ReadAt(got, 0)
	if n := bytes.Count(got, []byte{0}); n != pageLen {
		t.Errorf("%d bytes were left out, want %d", n, pageLen)
	}
}

// immutable is the fault of a first segment that cannot be removed, as after chattr +i.
func immutable(_ int, call, name string) error {
	if call == "remove" && name == segmentName(1) || call == "rename" && name == spareName {
		return unix.EPERM
	}
	return nil
}

// The other segments can be removed.
func TestGround_OneSegmentThatCannotBeRemovedDoesNotFillTheQueue(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.mayFail(immutable)
		for k := range 300 {
			w.append(10, 10<<10)
			if !w.wait() {
				t.Errorf("after %d rounds, all acknowledged, lines wait: %s; held %d, %v", k, w.q.Stats().Trouble, w.fs.held(), w.fs.segments())
				break
			}
			w.deliver(100)
			w.ack(len(w.ranges))
		}
		w.mayFail(nil)
	})
}

func TestGround_DropOldestContinuesWithOthers(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw, DropOldest: true})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.mayFail(immutable)
		for k := range 100 {
			w.append(10, 10<<10)
			if !w.wait() {
				t.Errorf("after %d rounds lines wait: %s; held %d, %v", k, w.q.Stats().Trouble, w.fs.held(), w.fs.segments())
				break
			}
		}
		w.mayFail(nil)
	})
}

// A folder in the place of a segment that is acknowledged by then.
func TestGround_AFolderInASegmentsPlaceIsNoTroubleForever(t *testing.T) {
	t.Parallel()
	g := newGround(t, manySegments)
	g.append(600)
	mustBe(t, odd["a directory with files"](filepath.Join(g.dir, segmentName(2))))
	g.take(1 << 30)
	time.Sleep(7 * time.Second)
	names, _ := filepath.Glob(filepath.Join(g.dir, "*.seg"))
	t.Log(names)
	if tr := g.q.Stats().Trouble; tr != nil || len(names) > 1 {
		t.Errorf("trouble %v; %v", tr, names)
	}
}

// What is looked at now and then cannot be looked at.
func TestGround_AFailingInspectionIsNotLoggedAgainAndAgain(t *testing.T) {
	inBubble(t, func() {
		var log bytes.Buffer
		w := newWorld(t, 1, Options{Codec: raw, Log: slog.New(slog.NewTextHandler(&log, nil))})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.idle()
		w.setFault(func(_ int, call, _ string) error {
			if call == "list" {
				return unix.EACCES
			}
			return nil
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n := strings.Count(log.String(), "cannot write to the queue")
		again := strings.Count(log.String(), "works again")
		w.setFault(nil)
		if n > 1 || again > 0 {
			t.Errorf("%d times trouble, %d times recovered, in two minutes", n, again)
		}
	})
}

// At the end what cannot be written again keeps no line from the disk.
func TestGround_CloseWritesLinesThoughAnInspectionFails(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw, Sync: 0})
		w.mustStart()
		w.append(5, 300)
		w.wait()
		w.idle()
		w.mayFail(func(_ int, call, _ string) error {
			if call == "list" {
				return unix.EACCES
			}
			return nil
		})
		for w.q.Stats().Trouble == nil {
			time.Sleep(10 * time.Millisecond)
		}
		for range 200 { // all wait when it is closed
			_, err := w.q.Append(context.Background(), []byte(fmt.Sprintf("x%s\n", noise(1, 9000))), 1, Origin{})
			mustBe(t, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := w.q.Close(ctx)
		s := w.q.Stats()
		t.Log(err, s.Head, s.Durable)
		if s.Durable < s.Head {
			t.Errorf("%d lines are not on disk: %v", s.Head-s.Durable, err)
		}
	})
}

// IDENTITY of another queue, or an old one, is put in the place of the running queue's.
func TestGround_AnotherIdentityIsReplaced(t *testing.T) {
	t.Parallel()
	other := newGround(t, manySegments)
	other.close()
	for _, how := range []string{"cp", "mv"} {
		g := newGround(t, manySegments)
		g.append(300)
		b, err := os.ReadFile(filepath.Join(other.dir, identityName))
		mustBe(t, err)
		if how == "mv" {
			mustBe(t, os.Remove(filepath.Join(g.dir, identityName)))
		}
		mustBe(t, os.WriteFile(filepath.Join(g.dir, identityName), b, 0o600))
		time.Sleep(inspectInterval + time.Second)
		g.append(20)
		g.close()
		rec := g.open()
		t.Log(rec.Quarantined)
		g.check(0)
	}
}

// hooked calls something before a file is created.
type hooked struct {
	*osDir
	before func(name string)
}

func (d *hooked) create(name string) (file, error) {
	d.before(name)
	return d.osDir.create(name)
}

func TestGround_DivergeWhileIdentityIsMadeAgain(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	fsys := &hooked{d, func(string) {}}
	q, w, _, err := load(fsys, g.o)
	mustBe(t, err)
	for range 3 {
		_, err = q.Append(t.Context(), []byte("line\n"), 1, Origin{})
		mustBe(t, err)
	}
	w.step(time.Now(), true)
	b, err := q.TryNext()
	if err != nil || b == nil {
		t.Fatal(b, err)
	}
	mustBe(t, os.Remove(filepath.Join(g.dir, identityName)))
	done := make(chan error, 1)
	fsys.before = func(_ string) {
		fsys.before = func(string) {}
		go func() { done <- q.Diverge(2) }()
		time.Sleep(100 * time.Millisecond) // until it is through, or waits
	}
	mustBe(t, w.reclaim())
	mustBe(t, <-done)
	mustBe(t, w.reclaim())
	id, err := readIdentity(d)
	mustBe(t, err)
	if id.sid(2) != q.ident.sid(2) {
		t.Errorf("on disk the stream of 2 is %s, and not %s: %+v", id.sid(2), q.ident.sid(2), id)
	}
	w.closeFiles()
	mustBe(t, errors.Join(q.reader.close(), d.Close()))
}

// openDeleted are the files of dir that are gone and that this process has open.
func openDeleted(t *testing.T, dir string) (names []string) {
	fds, err := os.ReadDir("/proc/self/fd")
	mustBe(t, err)
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if strings.HasPrefix(to, dir) && strings.HasSuffix(to, " (deleted)") {
			names = append(names, to)
		}
	}
	return names
}

func TestGround_ARemovedSegmentIsNotKeptOpen(t *testing.T) {
	t.Parallel()
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	g.open()
	g.take(1 << 30) // from files
	for range 3 {   // from memory
		g.append(400)
		g.take(1 << 30)
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	if names := openDeleted(t, g.dir); len(names) > 0 {
		t.Errorf("open, and deleted: %v", names)
	}
}

func TestGround_PurgeReportsNoDamage(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	g.log.Reset()
	n, err := Purge(g.dir, g.o)
	mustBe(t, err)
	t.Log(n, g.log.String())
	if strings.Contains(g.log.String(), "damaged on disk") || strings.Contains(g.log.String(), "removed or replaced") {
		t.Error("it reports damage")
	}
}

func TestGround_AGapOfWhatWasGivenOutSaysSo(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	g.open()
	first, err := g.q.Next(t.Context())
	mustBe(t, err)
	for range 10 { // on to another segment
		_, err := g.q.Next(t.Context())
		mustBe(t, err)
	}
	mustBe(t, os.Remove(filepath.Join(g.dir, segmentName(1))))
	mustBe(t, g.q.Rewind(first.Range().First)) // the connection broke
	b, err := g.q.Next(t.Context())
	mustBe(t, err)
	if b.Gap() == nil || !b.Gap().Maybe {
		t.Errorf("got %v %+v, want a gap of which some may have been delivered", b.Range(), b.Gap())
	}
}

func TestGround_DivergeWithinAGap(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	g.close()
	mustBe(t, os.Remove(filepath.Join(g.dir, segmentName(1))))
	g.open()
	b, err := g.q.Next(t.Context())
	mustBe(t, err)
	if b.Gap() == nil {
		t.Fatal("no gap")
	}
	old := b.SID()
	seq := b.Range().First + 3
	mustBe(t, g.q.Diverge(seq))
	at := b.Range().First
	for range 3 {
		b, err := g.q.Next(t.Context())
		mustBe(t, err)
		if b.Range().First != at || b.SID() == old {
			t.Errorf("got %v of stream %s, want what begins at %d of another than %s", b.Range(), b.SID(), at, old)
		}
		at = b.Range().End
	}
}

var _ = fs.ErrNotExist

// unremovable is a directory of which some files cannot be removed.
type unremovable struct {
	*osDir
	name string
}

func (d *unremovable) remove(name string) error {
	if name == d.name {
		return &fs.PathError{Op: "remove", Path: name, Err: unix.EPERM}
	}
	return d.osDir.remove(name)
}

func (d *unremovable) rename(from, to string) error {
	if from == d.name {
		return &fs.PathError{Op: "rename", Path: from, Err: unix.EPERM}
	}
	return d.osDir.rename(from, to)
}

func TestGround_AConsumerThatWaitsDoesNotSpinWhereAFileCannotBeRemoved(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(20)
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	q, _, err := open(&unremovable{d, segmentName(1)}, g.o)
	mustBe(t, err)
	g.q = q
	g.append(20) // a second segment
	g.take(1 << 30)
	for end := time.Now().Add(3 * time.Second); g.q.Stats().Trouble == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	t.Log(g.q.Stats().Trouble)
	wakes := 0
	for end := time.After(2 * time.Second); ; wakes++ {
		select {
		case <-g.q.Ready():
			if b, err := g.q.TryNext(); b != nil || err != nil {
				t.Fatal(b, err)
			}
			continue
		case <-end:
		}
		break
	}
	if wakes > 20 {
		t.Errorf("the consumer of an empty queue woke up %d times in 2 s", wakes)
	}
	mustBe(t, errors.Join(q.Close(t.Context()), d.Close()))
}

// fullWrites is a directory where damaged/ takes no bytes for a while.
type fullWrites struct {
	*osDir
	full bool
}

func (d *fullWrites) create(name string) (file, error) {
	f, err := d.osDir.create(name)
	if err == nil && d.full && strings.HasPrefix(name, damagedName) {
		return &noWrites{f}, nil
	}
	return f, err
}

type noWrites struct{ file }

func (f *noWrites) writeAt([]byte, int64) error { return unix.ENOSPC }

func TestGround_WhatWasNotQuarantinedDoesNotCount(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.close()
	d, err := ownDir(g.dir)
	mustBe(t, err)
	fsys := &fullWrites{d, true}
	q, w, _, err := load(fsys, g.o)
	mustBe(t, err)
	line := make([]byte, 16<<20)
	for range 20 { // the relay tries again, as long as the disk is full
		if _, err := q.Quarantine("s", 1, line, "oversize"); err == nil {
			t.Fatal("it was kept")
		}
	}
	fsys.full = false
	if _, err := q.Quarantine("s", 1, line, "oversize"); err != nil {
		t.Errorf("nothing was kept yet, and there is space: %v", err)
	}
	w.closeFiles()
	mustBe(t, d.Close())
}

// A counter must not go back.
func TestGround_LossesNeverBecomeFewer(t *testing.T) {
	var l losses
	l.add(Lost{Range: Range{1, 1_000_001}, Why: "damaged"})
	for k := range uint64(maxLost) { // refused lines, each alone
		l.add(Lost{Range: Range{2_000_000 + 2*k, 2_000_001 + 2*k}, Why: "oversize", Acknowledged: true})
	}
	n := uint64(0)
	for _, x := range l.report(nil) {
		n += x.Len()
	}
	if n < 1_000_000+maxLost {
		t.Errorf("%d lines are lost, and %d were", n, 1_000_000+maxLost)
	}
}

// hookWriter calls a function at the first write.
type hookWriter struct {
	bytes.Buffer
	do func()
}

func (w *hookWriter) Write(b []byte) (int, error) {
	if do := w.do; do != nil {
		w.do = nil
		do()
	}
	return w.Buffer.Write(b)
}

// The running wsrelay delivers and removes segments while verify runs.
func TestGround_VerifyBesideARunningQueueFindsNoProblem(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(600)
	time.Sleep(1500 * time.Millisecond) // the seal, the cursor
	w := &hookWriter{do: func() {
		g.take(1 << 30)
		names := []string{"", ""}
		for end := time.Now().Add(5 * time.Second); len(names) > 1 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			names, _ = filepath.Glob(filepath.Join(g.dir, "*.seg"))
		}
	}}
	r, err := Verify(g.dir, w)
	if err != nil || r.Problems > 0 || len(r.Missing) > 0 {
		t.Errorf("%v, %+v\n%s", err, r, w.String())
	}
}

// LOST is removed, or everything.
func TestGround_LOSTIsMadeAgain(t *testing.T) {
	g := newGround(t, manySegments)
	_, err := g.q.Quarantine("s", 1, []byte("line"), "oversize")
	mustBe(t, err)
	g.append(20)
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(filepath.Join(g.dir, lostName)); err != nil {
		t.Fatal(err)
	}
	g.removeAll("*")
	g.append(20)
	g.close()
	if l := readLosses(mustOpenDir(t, g.dir), time.Now()); len(l.all) != 1 {
		t.Errorf("%d losses are remembered, want 1", len(l.all))
	}
}

// A status reader continues with a segment that was written again.
func TestGround_WatchDoesNotKeepARemovedFile(t *testing.T) {
	g := newGround(t, Options{Codec: raw})
	g.append(100)
	w := NewWatch(g.q)
	defer w.Close()
	_, err := w.Oldest()
	mustBe(t, err)
	g.removeAll("*.seg")
	g.append(20)
	_, err = w.Oldest()
	mustBe(t, err)
	if names := openDeleted(t, g.dir); len(names) > 0 {
		t.Errorf("open, and deleted: %v", names)
	}
	// now the cursor stands where only the new file has blocks
	g.append(3000)
	for g.q.Stats().Cursor < 2000 {
		g.take(1)
	}
	at, err := w.Oldest()
	mustBe(t, err)
	s := g.q.segs[len(g.q.segs)-1]
	if at.UnixMilli() == s.created {
		t.Errorf("oldest is the segment's beginning, %v", at)
	}
}

// CURSOR alone cannot be written: a bad page, or chattr +i.
func TestGround_ACursorThatCannotBeSavedKeepsNoLineWaiting(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.deliver(1)
		w.setFault(func(_ int, call, name string) error {
			if name == cursorName && call == "write" {
				return unix.EIO
			}
			return nil
		})
		w.ack(1)
		time.Sleep(time.Minute)
		var most time.Duration
		for range 20 {
			begun := time.Now()
			w.append(5, 300)
			w.wait()
			most = max(most, time.Since(begun))
			time.Sleep(700 * time.Millisecond)
		}
		t.Log(w.q.Stats().Trouble)
		if most > time.Second {
			t.Errorf("lines wait %v for a cursor that cannot be saved", most)
		}
		w.setFault(nil)
	})
}

// A file is written again where there is no space for it.
func TestGround_WhatCannotBeWrittenAgainTakesNoSpace(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		for range 20 {
			w.append(20, 5000)
			w.wait()
		}
		w.restart()
		w.deliver(1) // from the first file
		held := w.fs.held()
		w.mayFail(nil)
		w.fs.mu.Lock()
		first := w.fs.names[segmentName(1)]
		w.fs.alter(func(m map[string]*inode) { delete(m, segmentName(1)) })
		size := int64(len(first.now))
		w.fs.space = held - size + size/2
		w.fs.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		w.fs.mu.Lock()
		spare, free := w.fs.names[spareName], w.fs.freeLocked()
		w.fs.space = 1 << 40
		w.fs.mu.Unlock()
		t.Log(w.q.Stats().Trouble, size, free)
		if spare != nil && len(spare.now) > 0 {
			t.Errorf("a part of a copy takes %d bytes of the full disk; %d are free", len(spare.now), free)
		}
		w.hurtAll(Range{1, w.head})
	})
}

// foreignFiles is a directory of ours with files that belong to root, as after a restore
// by root: they cannot be opened, and can be removed.
type foreignFiles struct {
	*osDir
	names map[string]bool
}

func (d *foreignFiles) refuse(name string) error {
	if d.names[name] {
		return &fs.PathError{Op: "open", Path: name, Err: unix.EACCES}
	}
	return nil
}

func (d *foreignFiles) open(name string) (file, error) {
	if err := d.refuse(name); err != nil {
		return nil, err
	}
	return d.osDir.open(name)
}

func (d *foreignFiles) openForWriting(name string) (file, error) {
	if err := d.refuse(name); err != nil {
		return nil, err
	}
	return d.osDir.openForWriting(name)
}

func (d *foreignFiles) create(name string) (file, error) {
	delete(d.names, name)
	return d.osDir.create(name)
}

func (d *foreignFiles) rename(from, to string) error {
	delete(d.names, to)
	return d.osDir.rename(from, to)
}

func TestGround_FilesThatBelongToRootAreReplaced(t *testing.T) {
	t.Parallel()
	for _, name := range []string{spareName, cursorName, identityName} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t, manySegments)
			g.append(100)
			g.close()
			mustBe(t, os.WriteFile(filepath.Join(g.dir, spareName), nil, 0o600))
			d, err := ownDir(g.dir)
			mustBe(t, err)
			q, _, err := open(&foreignFiles{d, map[string]bool{name: true}}, g.o)
			if err != nil {
				t.Fatal(err)
			}
			g.q = q
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err = q.Append(ctx, []byte("line\n"), 1, Origin{})
			mustBe(t, err)
			if err := q.WaitDurable(ctx, 102); err != nil {
				t.Errorf("%v: %s", err, q.Stats().Trouble)
			}
			time.Sleep(1500 * time.Millisecond)
			if tr := q.Stats().Trouble; tr != nil {
				t.Error(tr)
			}
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			mustBe(t, errors.Join(q.Close(ctx), d.Close()))
		})
	}
}

// Nothing can be changed, and spare is no file.
func TestGround_AnOddSpareOnAReadOnlyFileSystemIsNoReasonNotToOpen(t *testing.T) {
	g := newGround(t, manySegments)
	g.append(100)
	g.close()
	_ = os.Remove(filepath.Join(g.dir, spareName))
	mustBe(t, os.Symlink("/none", filepath.Join(g.dir, spareName)))
	mustBe(t, unix.Mount(g.dir, g.dir, "", unix.MS_BIND, ""))
	defer unix.Unmount(g.dir, unix.MNT_DETACH)
	mustBe(t, unix.Mount("", g.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	d, err := ownDir(g.dir)
	mustBe(t, err)
	defer d.Close()
	q, w, _, err := load(d, g.o)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := q.TryNext(); b == nil || err != nil {
		t.Errorf("got %v, %v", b, err)
	}
	w.closeFiles()
}

// A copied queue, on a full disk: what it has can be delivered.
func TestGround_AFullDiskIsNoReasonNotToOpenACopy(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		w.append(5, 300)
		w.wait()
		w.idle()
		w.stop()
		w.fs.place = "elsewhere"
		w.fs.setFault(func(_ int, call, _ string) error {
			if call == "write" || call == "create" {
				return unix.ENOSPC
			}
			return nil
		})
		q, wr, _, err := load(w.fs, w.o)
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := q.TryNext(); b == nil || err != nil {
			t.Errorf("got %v, %v", b, err)
		}
		wr.closeFiles()
	})
}

// CURSOR of another queue, or an older one, is copied over the running queue's.
func TestGround_AnotherCursorIsReplaced(t *testing.T) {
	t.Parallel()
	other := newGround(t, manySegments)
	other.append(900)
	other.take(1 << 30)
	other.close()
	foreign, err := os.ReadFile(filepath.Join(other.dir, cursorName))
	mustBe(t, err)
	for _, what := range []string{"another queue's", "an older one"} {
		g := newGround(t, manySegments)
		g.append(600)
		if what == "an older one" {
			time.Sleep(1500 * time.Millisecond)
			foreign, err = os.ReadFile(filepath.Join(g.dir, cursorName))
			mustBe(t, err)
			g.take(4)
		}
		mustBe(t, os.WriteFile(filepath.Join(g.dir, cursorName), foreign, 0o600)) // cp
		time.Sleep(inspectInterval + 2*time.Second)
		g.close()
		g.open()
		t.Log(what)
		g.check(0)
	}
}
