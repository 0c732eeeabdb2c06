package journal

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/internal/fsutil"
	"wsrelay/receiver"
)

// Damage to the first record of a group of two, in the last segment. Later groups
// show that it was durable.
func TestRecovery_DamageInAGroupOfRecordsCostsWhatIsDamaged(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
		w.damaged = true
		w.setFault(nil, func(string) error { return errInjected })
		w.commit(w.batch("a", 1, 1, 20), w.batch("a", 2, 1, 20))
		for i := range uint64(30) {
			w.commit(w.batch("a", 3+i, 1, 20))
		}
		w.stopped(func() {
			name := strings.TrimPrefix(w.segments()[0], w.fs.dir)
			b := w.read(name)
			b[segHead+headLen+5] ^= 4
			w.put(name, b)
		})
		w.setFault(nil, nil)
		w.wait()
		there := Spans{}
		for _, r := range w.db.all() {
			there.add(r.Seq, r.Seq+1)
		}
		s := w.j.Stats()
		if there.Count() < 31 || s.Damaged == 0 {
			t.Errorf("of 32 acknowledged lines %v are there; %+v", there, s)
		}
	})
}

// An asynchronous database, a record is damaged after its row was added and
// before the segment is final; restart.
func TestAsync_ADamagedRecordKeepsNoSegmentForEver(t *testing.T) {
	for _, restart := range []bool{true, false} {
		inBubble(t, func() {
			db := &lateDB{rnd: nil, seen: map[string]lateSeen{}}
			away := !restart
			path := t.TempDir()
			open := func() (*Journal, *os.File) {
				dir, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				j, err := Open(dir, path, noFaults{db, &away}, Options{Limit: 64 << 20, Reserve: 1, age: 20 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				return j, dir
			}
			j, dir := open()
			damage := func() {
				b, err := os.ReadFile(j.path + "/" + j.segs[0].path())
				if err != nil {
					t.Fatal(err)
				}
				f, _ := os.OpenFile(j.path+"/"+j.segs[0].path(), os.O_RDWR, 0)
				_, _ = f.WriteAt([]byte{b[segHead+headLen+5] ^ 4}, segHead+headLen+5)
				_ = f.Close()
			}
			for i := range uint64(10) {
				if _, err := j.Commit(context.Background(), []receiver.Batch{{
					SID: "s", Host: "h", Seq: 1 + i, At: time.Now(),
					Lines: [][]byte{numbered("s", 1+i)},
				}}); err != nil {
					t.Fatal(err)
				}
			}
			if restart {
				synctest.Wait()
				damage()
				if err := errors.Join(j.Close(), dir.Close()); err != nil {
					t.Fatal(err)
				}
				j, dir = open()
			} else {
				damage() // before it was read for the database
				db.mu.Lock()
				away = false
				db.mu.Unlock()
			}
			time.Sleep(time.Hour)
			s := j.Stats()
			if s.Held != 0 || s.Err != nil {
				t.Errorf("restart %v: an hour later the segment is still there: %+v", restart, s)
			}
			_ = errors.Join(j.Close(), dir.Close())
		})
	}
}

// noFaults is a lateDB whose Add never fails.
type noFaults struct {
	*lateDB
	away *bool
}

func (d noFaults) Add(_ context.Context, segment string, batches []receiver.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if *d.away {
		return errInjected
	}
	seen, ok := d.seen[segment]
	if !ok {
		seen.starts = d.starts
	}
	seen.at = time.Now()
	d.seen[segment] = seen
	for i := range batches {
		b := &batches[i]
		for k, line := range b.Lines {
			d.rows = append(d.rows, lateRow{fakeRow{ID{b.SID, b.Seq + uint64(k), 0}, segment, string(line)}, time.Now()})
		}
	}
	return nil
}

// The first page of a segment, or a run of 256 KiB, cannot be read.
func TestRecovery_ABadFirstPageIsNoReasonNotToOpen(t *testing.T) { badRange(t, 0, pageSize, 60, 300) }

func TestRecovery_ABadRunIsNoReasonNotToOpen(t *testing.T) { badRange(t, 512<<10, 1<<20, 2000, 1000) }

func badRange(t *testing.T, from, to int64, lines, size int) {
	with(t, func(o *Options) { o.segment = 16 << 20; o.Limit = 64 << 20 }, func(w *world) {
		w.damaged = true
		w.setFault(nil, func(string) error { return errInjected })
		for i := range uint64(lines) {
			w.commit(w.batch("a", 1+i, 1, size))
		}
		w.abandon()
		w.fs, w.db = w.fs.kill(), newFakeDB(1)
		dir, err := os.Open(w.fs.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		j, err := Open(dir, w.fs.dir, w.db, Options{
			Reserve: 1, wrap: func(f fileSystem) fileSystem { return badRanges{f, from, to} },
		})
		if err != nil {
			t.Errorf("the store cannot be opened: %v", err)
			return
		}
		_ = j.Wait(context.Background())
		s := j.Stats()
		_ = j.Close()
		t.Logf("%d rows of %d, %+v", len(w.db.all()), lines, s)
		w.db = newFakeDB(1)
	})
}

type badRanges struct {
	fileSystem
	from, to int64
}

func (b badRanges) open(name string) (file, error) {
	f, err := b.fileSystem.open(name)
	if err == nil && strings.HasSuffix(name, ".seg") {
		f = badRangeFile{f, b.from, b.to}
	}
	return f, err
}

func (b badRanges) holds(name string, f file) (bool, error) {
	if bad, ok := f.(badRangeFile); ok {
		f = bad.file
	}
	return b.fileSystem.holds(name, f)
}

type badRangeFile struct {
	file
	from, to int64
}

func (f badRangeFile) ReadAt(b []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(b)) > f.from {
		return 0, errInjected
	}
	n, err := f.file.ReadAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// The database is emptied twice. What it lacks the second time is named, too.
func TestRecovery_ADatabaseThatIsEmptiedTwice(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 40, 30))
		w.wait()
		for k := range uint64(2) {
			w.stopped(func() { w.db = newFakeDB(9 + k) })
			w.restored(1, 40)
			w.wait()
			gaps := 0
			for _, r := range w.db.all() {
				if r.Gap > 0 {
					gaps++
				}
			}
			if gaps != 1 {
				t.Errorf("emptied for the %dth time: %d gaps in the database: %v", k+1, gaps, w.db.all())
			}
		}
	})
}

// A segment that was removed long ago is there again (a backup copied over the
// directory, or a removal that no sync made durable). The owner of a stream stays.
func TestRecovery_AnOldSegmentThatIsThereAgainChangesNoOwner(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 10, 30))
		if _, err := w.j.SetOwner(context.Background(), "a", "", "ann"); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(w.segments()[0], w.fs.dir)
		old := w.read(name)
		w.wait()
		if _, err := w.j.SetOwner(context.Background(), "a", "ann", "bob"); err != nil {
			t.Fatal(err)
		}
		w.commit(w.batch("a", 11, 10, 30))
		w.wait()
		w.commit(w.batch("a", 21, 10, 30))
		w.wait()
		w.stopped(func() {
			w.put(name, old)
			w.fs.names[strings.TrimPrefix(name, "/")] = &node{disk: old}
		})
		t.Logf("%+v", w.j.Stats())
		if got, _ := w.j.Owner(context.Background(), "a"); got != "bob" {
			t.Errorf("the owner is %q, want bob", got)
		}
		w.wait()
		w.compare()
	})
}

// The newest segment that is gone is there again, and the process was restarted
// before its successor was made.
func TestRecovery_TheNewestGoneSegmentThatIsThereAgain(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 10, 30))
		name := strings.TrimPrefix(w.segments()[0], w.fs.dir)
		old := w.read(name)
		w.wait()
		w.stopped(func() {})
		w.setFault(nil, func(string) error { return errInjected })
		w.commit(w.batch("a", 11, 10, 30))
		w.stopped(func() {
			w.put(name, old)
			w.fs.names[strings.TrimPrefix(name, "/")] = &node{disk: old}
			w.db = newFakeDB(7) // and the database is emptied: the segment has what it lacks
		})
		s := w.j.Stats()
		w.setFault(nil, nil)
		w.wait2()
		if s.Damaged != 0 || s.Waiting < 0 {
			t.Errorf("%+v", s)
		}
		there := Spans{}
		for _, r := range w.db.all() {
			if r.Gap == 0 {
				there.add(r.Seq, r.Seq+1)
			}
		}
		if !there.covers(1, 21) {
			t.Errorf("the database has %v, and the segments have 1 to 20", there)
		}
	})
}

// CHECKPOINT promises lines of the last segment, of which the database has no row;
// that segment is an older copy of itself, or its last record is damaged.
func TestRecovery_ALastSegmentThatLacksWhatCheckpointPromises(t *testing.T) {
	for _, how := range []string{"older copy", "damaged", "cut"} {
		with(t, nil, func(w *world) {
			w.damaged = true
			w.commit(w.batch("a", 1, 30, 100)) // fills a segment
			synctest.Wait()
			fill := w.j.Stats()
			w.db.mu.Lock()
			marks := w.db.calls["SetMark"]
			w.db.mu.Unlock()
			w.setFault(nil, func(call string) error {
				switch {
				case call == "Barrier":
					time.Sleep(time.Second)
				case call == "SetMark" && w.db.calls[call] > marks+1: // no row of the next segment is added
					return errInjected
				}
				return nil
			})
			w.commit(w.batch("a", 31, 1, 30))
			name := strings.TrimPrefix(w.segments()[1], w.fs.dir)
			old := w.read(name)
			for seq := range uint64(9) {
				w.commit(w.batch("a", 32+seq, 1, 30)) // in it
			}
			w.j.mu.Lock()
			end := w.j.segs[1].end
			w.j.mu.Unlock()
			time.Sleep(time.Second)
			synctest.Wait() // CHECKPOINT
			if n := len(w.segments()); n != 1 || fill.Waiting != 0 {
				t.Fatalf("%d segments, %+v", n, fill)
			}
			w.setFault(nil, nil)
			w.stopped(func() {
				switch b := w.read(name); how {
				case "older copy":
					w.put(name, old)
				case "cut":
					w.put(name, b[:end-1])
				default:
					b[end-5] ^= 4
					w.put(name, b)
				}
			})
			s := w.j.Stats()
			w.wait2()
			named := Spans{}
			for _, r := range w.db.all() {
				named.add(r.Seq, r.Seq+max(r.Gap, 1))
			}
			if !named.covers(1, 41) && s.Restored == 0 && s.Damaged == 0 {
				res, err := w.j.Commit(context.Background(), []receiver.Batch{w.batch("a", 40, 1, 30)})
				t.Errorf("%s: lines and gaps %v of 1 to 40; nothing is said: %+v; line 40 again: %+v %v", how, named, s, res, err)
			}
		})
	}
}

// markFile keeps the mark in a file of the store's directory, as both real databases do.
type markFile struct {
	*fakeDB
	path string
}

func (m markFile) SetMark(s string) error {
	if err := fsutil.ReplaceFile(m.path, []byte(s)); err != nil {
		return err
	}
	return m.fakeDB.SetMark(s)
}

// J6 on a disk that is full to the last byte, with a mark that is a file there.
func TestFull_TheMarkIsSetOnADiskWithoutAByte(t *testing.T) {
	path := tmpfs(t, "8m")
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	w := newWorld(t, t.TempDir(), 1)
	if w.j, err = Open(dir, path, markFile{w.db, path + "/MARK"}, Options{Limit: 4 << 20, Reserve: 64 << 10, retry: 1}); err != nil {
		t.Fatal(err)
	}
	defer w.j.Close()
	for i := range uint64(20) {
		w.commit(w.batch("a", 1+100*i, 100, 200))
	}
	fillUp(t, path)
	for end := time.Now().Add(10 * time.Second); w.j.Wait(context.Background()) != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if s := w.j.Stats(); s.Held != 0 {
		t.Errorf("the full disk keeps the journal from being emptied: %+v", s)
	}
}

// The database has the lines of a segment under the name of another one (a store was
// restored, its sender sent them again, and then the newer journal was put back). The
// process is killed after it noticed, before the segment is gone.
func TestRecovery_KilledAfterARestoreWasNoticed(t *testing.T) {
	for _, kill := range []bool{false, true} {
		with(t, nil, func(w *world) {
			w.setFault(nil, func(string) error { return errInjected })
			w.commit(w.batch("a", 1, 10, 30))
			w.abandon()
			w.fs, w.db = w.fs.kill(), newFakeDB(3)
			for seq := uint64(1); seq <= 10; seq++ {
				id := ID{"a", seq, 0}
				w.db.disk = append(w.db.disk, fakeRow{id, "0123456789abcdef-0000000001", w.lines[id]})
			}
			w.db.mark = "another - 0123456789abcdef-0000000001"
			if kill {
				w.setFault(nil, func(call string) error {
					if call == "Count" {
						return errInjected
					}
					return nil
				})
			}
			w.mustStart()
			w.restored(1, 0)
			if kill {
				synctest.Wait()
				w.setFault(nil, nil)
				w.stopped(func() {})
			}
			w.wait2()
			if n := len(w.db.all()); n != 10 {
				t.Errorf("killed %v: %d rows of 10 lines", kill, n)
			}
		})
	}
}

// A disk that copies on write is full when the process starts again.
func TestFull_OpensOnADiskThatCopiesOnWrite(t *testing.T) {
	with(t, nil, func(w *world) {
		w.setFault(nil, func(string) error { return errInjected })
		w.commit(w.batch("a", 1, 10, 30))
		w.abandon()
		w.fs, w.db = w.fs.kill(), w.db.crash()
		full := true
		w.setFault(func(_ int, call, name string) error {
			if full && call == "remove" && name == reserveName {
				full = false // its space is free
			}
			if full && (call == "write" || call == "allocate") {
				return unix.ENOSPC
			}
			return nil
		}, nil)
		if err := w.start(); err != nil {
			t.Errorf("the store cannot be opened: %v", err)
		}
	})
}

// A barrier reports that rows are missing that were added.
func TestBarrier_WhatItMissesIsAddedAgain(t *testing.T) {
	with(t, nil, func(w *world) {
		missed := false
		w.setFault(nil, func(call string) error {
			if call != "Barrier" || missed {
				return nil
			}
			missed, w.db.mem = true, w.db.mem[:len(w.db.mem)/2]
			return errInjected
		})
		w.commit(w.batch("a", 1, 40, 30))
		for w.j.Wait(context.Background()) != nil {
			time.Sleep(time.Second)
		}
		if n := len(w.db.all()); !missed || n != 40 {
			t.Errorf("%d rows of 40 lines", n)
		}
	})
}
