package journal

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func (w *world) path(name string) string { return filepath.Join(w.fs.dir, name) }

func (w *world) read(name string) []byte {
	w.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.Fatalf("%v", err)
	}
	return b
}

// put replaces a file while no process has it.
func (w *world) put(name string, text []byte) {
	w.Helper()
	if err := os.WriteFile(w.path(name), text, 0o600); err != nil {
		w.Fatalf("%v", err)
	}
}

func (w *world) segments() []string {
	w.Helper()
	names, err := filepath.Glob(w.path(journalDir + "/*.seg"))
	if err != nil {
		w.Fatalf("%v", err)
	}
	return names
}

// stopped ends the process, has f change what is on the disk, and starts again.
func (w *world) stopped(f func()) {
	w.Helper()
	w.abandon()
	w.fs, w.db = w.fs.kill(), w.db.crash()
	f()
	w.mustStart()
}

func (w *world) restored(want int, lacking uint64) {
	w.Helper()
	if s := w.j.Stats(); s.Restored != want || s.Lacking != lacking {
		w.Fatalf("%+v, want restored %d, lacking %d", s, want, lacking)
	}
}

func TestRecovery_IsNoticedAsNothingAfterCrashes(t *testing.T) {
	with(t, nil, func(w *world) {
		for i := range uint64(10) {
			w.commit(w.batch("a", 1+20*i, 20, 30))
			if i%2 == 0 {
				w.wait()
			}
			w.crash(i%3 == 0, 0)
			w.restored(0, 0)
		}
		w.finish()
	})
}

// A crash between CHECKPOINT and the removal of its segment is none of a restore.
func TestRecovery_RemovesWhatACheckpointCovers(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 20, 30))
		w.wait()
		w.setFault(func(_ int, call, name string) error {
			if call == "remove" && name != checkpointName+".new" {
				return errInjected
			}
			return nil
		}, nil)
		w.commit(w.batch("a", 21, 20, 30))
		w.wait()
		if len(w.segments()) != 1 {
			t.Fatal("the segment was removed")
		}
		w.crash(false, 0)
		w.restored(0, 0)
		if n := len(w.segments()); n != 0 {
			t.Errorf("%d segments are left", n)
		}
		w.finish()
	})
}

// A crash between the mark and CHECKPOINT is none of a restore.
func TestRecovery_KnowsAMarkThatIsOneAhead(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 20, 30))
		w.wait()
		w.setFault(func(_ int, call, _ string) error {
			if call == "rename" {
				return errInjected
			}
			return nil
		}, nil)
		w.commit(w.batch("a", 21, 20, 30))
		_ = w.j.Wait(context.Background())
		if w.db.mark[:10] == string(w.read(checkpointName))[15:25] {
			t.Fatal("the mark is not ahead")
		}
		w.crash(false, 0)
		w.restored(0, 0)
		w.finish()
	})
}

func TestRecovery_OlderCheckpoint(t *testing.T) {
	for _, back := range []int{1, 3} {
		with(t, nil, func(w *world) {
			var checkpoints [][]byte
			for i := range uint64(5) {
				w.commit(w.batch("a", 1+20*i, 20, 30))
				w.wait()
				checkpoints = append(checkpoints, w.read(checkpointName))
			}
			w.stopped(func() { w.put(checkpointName, checkpoints[4-back]) })
			w.restored(1, 0)
			w.commit(w.batch("a", 1, 120, 30))
			w.other("a", 90)
			w.finish()
		})
	}
}

func TestRecovery_WithoutCheckpoint(t *testing.T) {
	for what, spoil := range map[string]func(w *world){
		"removed": func(w *world) { _ = os.Remove(w.path(checkpointName)) },
		"damaged": func(w *world) {
			w.put(checkpointName, bytes.Replace(w.read(checkpointName), []byte(`"lines":[[1`), []byte(`"lines":[[2`), 1))
		},
	} {
		with(t, nil, func(w *world) {
			w.commit(w.batch("a", 1, 60, 30), w.gap("a", 61, 5))
			w.wait()
			w.commit(w.batch("a", 66, 4, 30))
			w.stopped(func() { spoil(w) })
			w.restored(1, 0)
			w.commit(w.batch("a", 1, 60, 30), w.gap("a", 61, 5), w.batch("a", 66, 10, 30))
			w.finish()
			w.crash(true, 0)
			w.restored(0, 0)
			w.finish()
			if files, _ := os.ReadDir(w.path(damagedDir)); (len(files) == 1) != (what == "damaged") {
				t.Errorf("%s: %v is quarantined", what, files)
			}
		})
	}
}

func TestRecovery_OlderDatabase(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 20, 30), w.gap("a", 21, 5))
		w.commit(w.batch("b", 1, 5, 30))
		w.wait()
		old := w.db.crash()
		w.db.dead = false
		w.commit(w.batch("a", 26, 30, 30))
		w.wait()
		w.commit(w.batch("a", 56, 10, 30)) // still in the journal
		w.stopped(func() { w.db = old })
		w.restored(1, 30)
		w.wait()
		gap := slices.IndexFunc(w.db.all(), func(r fakeRow) bool { return r.Gap > 0 && r.Seq == 26 })
		if gap < 0 || w.db.all()[gap].Gap != 30 {
			t.Errorf("no gap names what is missing: %v", w.db.all())
		}
		lost := ID{"a", 26, 30}
		w.tried[lost], w.acked[lost], w.lines[lost] = true, true, "restored"
		for i := range uint64(10) { // a sender that has them, sends them again
			delete(w.acked, ID{"a", 26 + i, 0})
			delete(w.tried, ID{"a", 26 + i, 0})
		}
		w.commit(w.batch("a", 26, 10, 30))
		w.commit(w.batch("a", 56, 10, 30))
		w.crash(true, 0)
		w.restored(0, 20)
		for i := range uint64(20) { // the others are lost, and named
			delete(w.acked, ID{"a", 36 + i, 0})
			delete(w.tried, ID{"a", 36 + i, 0})
		}
		w.finish()
	})
}

func TestRecovery_EmptiedDatabase(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 40, 30))
		w.wait()
		w.commit(w.batch("a", 41, 10, 30))
		w.stopped(func() { w.db = newFakeDB(9) })
		w.restored(1, 40)
		w.wait()
		rows := w.db.all()
		if len(rows) != 11 {
			t.Errorf("%d rows, want what the journal has and a gap", len(rows))
		}
		if s := w.j.Streams()[0]; s.Lacks.Count() != 40 || !s.Gaps.covers(1, 41) {
			t.Errorf("%+v", s)
		}
	})
}

func TestRecovery_RemovedSegment(t *testing.T) {
	for _, added := range []int{0, 1} { // without any, no CHECKPOINT has named the segments
		with(t, nil, func(w *world) {
			w.setFault(nil, func(call string) error {
				if call == "Add" && w.db.calls["Add"] > added {
					return errInjected
				}
				return nil
			})
			for i := range uint64(9) {
				w.commit(w.batch("a", 1+20*i, 20, 100))
			}
			_ = w.j.Wait(context.Background())
			if len(w.segments()) < 3 {
				t.Fatalf("%v", w.segments())
			}
			w.setFault(nil, nil)
			w.stopped(func() {
				for _, name := range w.segments()[:2] {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			})
			if s := w.j.Stats(); s.Restored != 1 {
				t.Errorf("%+v: nothing was noticed", s)
			}
		})
	}
}

// A store that was copied as a whole is another store, and each is right for
// itself: no segment has the name of one in the other.
func TestRecovery_RestoredDirectoryNeverRepeatsAName(t *testing.T) {
	with(t, nil, func(w *world) {
		names := map[string]bool{}
		for range 5 {
			w.stopped(func() {
				for _, name := range w.segments() {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
				_ = os.Remove(w.path(checkpointName))
				w.db = newFakeDB(3)
			})
			clear(w.acked)
			clear(w.tried)
			w.commit(w.batch("a", 1, 5, 10))
			for _, name := range w.segments() {
				if name = filepath.Base(name); names[name] {
					t.Errorf("%s again", name)
				} else {
					names[name] = true
				}
			}
		}
	})
}

// One flipped bit in a segment costs the record that it is in, and is noticed.
func TestRecovery_SurvivesDamage(t *testing.T) {
	var bytes []int
	for n := range headLen { // of the first record
		bytes = append(bytes, segHead+n)
	}
	for n := 1; n < 3000; n += 97 {
		bytes = append(bytes, n)
	}
	for _, n := range bytes {
		with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
			w.setFault(nil, func(string) error { return errInjected })
			for i := range uint64(30) {
				w.commit(w.batch("a", 1+i, 1, 20))
			}
			w.stopped(func() {
				name := strings.TrimPrefix(w.segments()[0], w.fs.dir)
				b := w.read(name)
				b[n] ^= 4
				w.put(name, b)
			})
			w.setFault(nil, nil)
			w.wait()
			rows := len(w.db.all())
			there := Spans{}
			for _, r := range w.db.all() {
				there.add(r.Seq, r.Seq+1)
			}
			if there.Count() != uint64(rows) || there.End() > 31 {
				t.Errorf("bit in byte %d: %d rows of the lines %v", n, rows, there)
			}
			s := w.j.Stats()
			files, _ := os.ReadDir(w.path(damagedDir))
			switch {
			case rows == 30 && s.Damaged == 0 && len(files) == 0: // in what is only allocated
			case rows >= 29 && 0 < s.Damaged && s.Damaged < 200 && len(files) == 1: // a failed Add may have it
			case rows == 29 && w.db.all()[28].Seq == 29: // the last record: no later one shows that it was durable
			default:
				t.Errorf("bit in byte %d: %d rows, %+v, %v", n, rows, s, files)
			}
		})
	}
}

// What was read of the last segment may be in the page cache only.
func TestRecovery_BelievesNoPageCache(t *testing.T) {
	for seed := range uint64(8) { // what a failed sync leaves on the disk is chance
		believesNoPageCache(t, seed)
	}
}

func believesNoPageCache(t *testing.T, seed uint64) {
	with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
		w.fs.rnd = rand.New(rand.NewPCG(seed, 1))
		w.setFault(nil, func(call string) error {
			if call == "Add" {
				return errInjected
			}
			return nil
		})
		w.commit(w.batch("a", 1, 3, 20))
		failed := 0
		w.setFault(func(_ int, call, _ string) error {
			if call == "sync" || call == "create" {
				failed++
				return errInjected
			}
			return nil
		}, w.db.fault)
		w.commit(w.batch("a", 4, 3, 20))
		if failed < 2 {
			t.Fatal("no sync failed")
		}
		fault := w.db.fault
		w.abandon()
		w.setFault(nil, nil)
		w.fs, w.db = w.fs.kill(), w.db.crash()
		w.setFault(nil, fault)
		w.mustStart() // the lines can be read, and no sync will write them
		w.commit(w.batch("a", 1, 6, 20))
		w.crash(true, 0)
		w.finish()
	})
}

// An Add that fails may have added anything: nothing of it is added twice.
func TestApplier_AddsWhatAFailedAddHasNot(t *testing.T) {
	with(t, nil, func(w *world) {
		n := 0
		w.setFault(nil, func(call string) error {
			if n++; call == "Add" && n%2 == 0 || call == "Count" && n%3 == 0 || call == "Each" && n%5 == 0 {
				return errInjected
			}
			return nil
		})
		for i := range uint64(20) {
			w.commit(w.batch("a", 1+20*i, 20, 30), w.gap("a", 1000+i, 1))
			_ = w.j.Wait(context.Background())
		}
		w.finish()
	})
}

// A journal that was restored from before its newest segments looks as a crash leaves
// it, also where the crash came between the mark and CHECKPOINT: but for rows of a
// segment that it does not have.
func TestRecovery_AJournalOlderByASegment(t *testing.T) {
	for what, checkpoints := range map[string]bool{"and by a checkpoint": true, "alone": false} {
		t.Run(what, func(t *testing.T) {
			with(t, nil, func(w *world) {
				w.commit(w.batch("a", 1, 20, 30))
				w.wait()
				w.commit(w.batch("a", 21, 20, 30))
				checkpoint, nodes, segments := w.read(checkpointName), maps.Clone(w.fs.names), map[string][]byte{}
				for _, path := range w.segments() {
					name := journalDir + "/" + filepath.Base(path)
					segments[name] = w.read(name)
				}
				w.crash(false, 0)
				if checkpoints {
					w.wait()
				}
				w.commit(w.batch("a", 41, 20, 30))
				w.flushed(60)
				w.stopped(func() {
					for _, path := range w.segments() {
						_ = os.Remove(path)
					}
					for name, text := range segments {
						w.put(name, text)
						w.fs.names[name] = nodes[name]
					}
					w.put(checkpointName, checkpoint)
				})
				w.restored(1, 0)
				w.commit(w.batch("a", 41, 20, 30)) // nothing of it is new
				w.finish()
			})
		})
	}
}

// flushed has the database bring its rows to the disk without a barrier, as it also does
// unasked, once it has n.
func (w *world) flushed(n int) {
	w.Helper()
	for len(w.db.all()) < n {
		time.Sleep(time.Millisecond)
	}
	w.db.mu.Lock()
	w.db.disk, w.db.mem = append(w.db.disk, w.db.mem...), nil
	w.db.mu.Unlock()
}

// A segment of which less can be read than the database has of it: an older copy of
// it was restored, or it is damaged.
func TestRecovery_ASegmentShorterThanItsRows(t *testing.T) {
	for what, spoil := range map[string]func(now, older []byte) []byte{
		"older copy": func(_, older []byte) []byte { return older },
		"cut short":  func(_, older []byte) []byte { return bytes.TrimRight(older, "\x00") },
		"emptied":    func(_, older []byte) []byte { return older[:segHead] },
		"damaged in a later record": func(now, older []byte) []byte {
			now[len(bytes.TrimRight(older, "\x00"))+headLen+100] ^= 4
			return now
		},
	} {
		t.Run(what, func(t *testing.T) {
			with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
				w.damaged = strings.HasPrefix(what, "damaged")
				w.commit(w.batch("a", 1, 20, 30), w.gap("a", 100, 5))
				name := journalDir + "/" + filepath.Base(w.segments()[0])
				older := w.read(name)
				w.commit(w.batch("a", 21, 20, 30), w.gap("a", 105, 5))
				w.commit(w.batch("a", 41, 20, 30))
				w.flushed(62)
				w.stopped(func() { w.put(name, spoil(w.read(name), older)) })
				w.restored(1, 0)
				w.commit(w.batch("a", 1, 20, 30), w.gap("a", 100, 5)) // nothing of it is new
				w.commit(w.batch("a", 21, 20, 30), w.gap("a", 105, 5))
				w.commit(w.batch("a", 41, 20, 30))
				w.finish()
			})
		})
	}
}

// As many rows as an older copy has lines, but others: what the database lacks is
// added, and what it has beyond the copy is known.
func TestRecovery_ASegmentWithOtherRowsThanItsOwn(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
		w.commit(w.batch("a", 1, 20, 30))
		name := journalDir + "/" + filepath.Base(w.segments()[0])
		older := w.read(name)
		w.commit(w.batch("a", 21, 20, 30))
		w.flushed(40)
		w.stopped(func() {
			w.put(name, older)
			w.db.disk = slices.DeleteFunc(w.db.disk, func(r fakeRow) bool { return r.Seq <= 3 || r.Seq > 23 })
		})
		w.restored(1, 0)
		for i := range uint64(17) { // nobody has these any more
			delete(w.acked, ID{"a", 24 + i, 0})
			delete(w.tried, ID{"a", 24 + i, 0})
		}
		w.commit(w.batch("a", 1, 40, 30))
		w.finish()
	})
}

// The same in one that has a successor: as many rows as can be read from it, but others.
func TestRecovery_ADamagedSegmentThatIsNotTheLast(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
		w.damaged = true
		w.setFault(nil, func(call string) error {
			if call == "Barrier" {
				return errInjected
			}
			return nil
		})
		w.commit(w.batch("a", 1, 1, 30))
		w.commit(w.batch("a", 2, 1, 30))
		w.flushed(2)
		w.j.seal(w.j.segs[0])
		w.commit(w.batch("a", 3, 1, 30))
		if len(w.segments()) != 2 {
			t.Fatalf("%v", w.segments())
		}
		w.setFault(nil, nil)
		name := journalDir + "/" + filepath.Base(w.segments()[0])
		w.stopped(func() {
			now := w.read(name)
			now[segHead+headLen] ^= 4
			w.put(name, now)
			w.db.disk = slices.DeleteFunc(w.db.disk, func(r fakeRow) bool { return r.Seq == 2 })
		})
		w.restored(1, 0)
		w.commit(w.batch("a", 1, 3, 30)) // nothing of it is new
		w.finish()
	})
}
