package buffer

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Histories that other queues lost or mixed up lines in, each by name.

func TestInterleaving_UndurableBlockReadBackAfterKillThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{Compress: CompressNone})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			crashBefore(w, "sync")
			w.append(5, 3000) // in the page cache, not on disk
			w.crash((*strictFS).kill, 0)
			w.deliver(100) // it reads well, and goes out
			w.crash((*strictFS).powerCut, 0)
			w.append(5, 3000)
			w.drain()
		})
	}
}

// crashBefore ends the process at its next call of that kind.
func crashBefore(w *world, kind string) {
	w.setFault(func(_ int, call, _ string) error {
		if call != kind {
			return nil
		}
		w.fs.dead = true
		return errDies
	})
}

func TestInterleaving_FailedSyncThenKill(t *testing.T) {
	for _, then := range []string{"rename", "create", "write", "sync", "syncDir", "never"} {
		for seed := range uint64(5) {
			inBubble(t, func() {
				w := newWorld(t, seed, Options{Compress: CompressNone})
				w.mustStart()
				defer w.abandon()
				w.append(5, 3000)
				w.wait()
				failed := false
				w.setFault(func(_ int, call, _ string) error {
					switch {
					case call == "sync" && !failed:
						failed = true
						return errInjected
					case failed && call == then:
						w.fs.dead = true
						return errDies
					}
					return nil
				})
				w.append(5, 3000)
				if then == "never" {
					w.wait()
				}
				synctest.Wait()
				w.end1((*strictFS).kill)
				w.resume(w.mustStart())
				w.fs.evict() // now the kernel drops what the failed sync left
				w.deliver(3)
				w.crash((*strictFS).powerCut, 0)
				w.append(5, 3000)
				w.drain()
			})
		}
	}
}

func TestInterleaving_KillBeforeTheDirectorySyncThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{Compress: CompressNone})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			crashBefore(w, "sync")
			w.append(5, 300)
			w.end1((*strictFS).kill)
			renamed := false
			w.setFault(func(_ int, call, _ string) error {
				if renamed && call == "syncDir" { // of the segment that took over
					w.fs.dead = true
					return errDies
				}
				renamed = renamed || call == "rename"
				return nil
			})
			_, _ = w.start()
			w.end1((*strictFS).kill)
			w.resume(w.mustStart())
			w.wait()
			w.deliver(100)
			w.crash((*strictFS).powerCut, 0)
			w.append(5, 3000)
			w.drain()
		})
	}
}

func TestInterleaving_NewSegmentThatFailedAfterItHadItsName(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Compress: CompressNone})
		w.o.Limit = 64 << 20
		w.fs.space = 6 << 20
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.setFault(func(_ int, call, _ string) error {
			if call == "syncDir" {
				return errInjected
			}
			return nil
		})
		fillUp(w)
		for w.next() { // all that is in the segment is acknowledged: another shall take its place
			w.ack(len(w.ranges))
		}
		time.Sleep(10 * time.Second)
		if n := len(w.fs.segments()); n != 2 {
			t.Fatalf("%d segments, want 2: the second has its name", n)
		}
		w.fs.space = 100 << 20 // and now there is no need
		w.setFault(nil)
		w.wait()
		w.crash((*strictFS).kill, 0)
		w.append(5, 300)
		w.drain()
	})
}

func TestInterleaving_PowerCutTearsWhatCursorHasNotSynced(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func() {
			w := threeSegments(t)
			defer w.abandon()
			w.fs.mu.Lock()
			w.fs.rnd = rand.New(rand.NewPCG(seed, 9))
			w.fs.mu.Unlock()
			for range 5 {
				w.append(2, 300)
				w.wait()
			}
			w.deliver(100)
			for len(w.ranges) > 1 { // CURSOR is written each second, synced when a segment goes
				w.ack(1)
				time.Sleep(2 * time.Second)
			}
			w.crash((*strictFS).powerCut, 0)
			w.drain()
			if len(w.gone) > 0 {
				t.Errorf("lost %v", w.gone)
			}
		})
	}
}

func TestInterleaving_FailedSyncOfCursorThenPowerCut(t *testing.T) {
	for seed := range uint64(10) {
		inBubble(t, func() {
			w := threeSegments(t)
			defer w.abandon()
			w.fs.rnd = rand.New(rand.NewPCG(seed, 9))
			failed := false
			w.setFault(func(_ int, call, name string) error {
				if call == "sync" && name == cursorName && !failed {
					failed = true
					return errInjected
				}
				return nil
			})
			w.ack(len(w.ranges))
			w.idle() // the segments go all the same, behind a cursor that is on disk
			if n := len(w.fs.segments()); n != 1 || !failed {
				t.Fatalf("%d segments, want 1; a sync failed: %v", n, failed)
			}
			w.fs.evict()
			w.crash((*strictFS).powerCut, 0)
			w.drain()
			if len(w.gone) > 0 {
				t.Errorf("lost %v", w.gone)
			}
		})
	}
}

func TestInterleaving_CursorThatIsOnDiskIsNotWrittenOver(t *testing.T) {
	inBubble(t, func() {
		w := threeSegments(t)
		defer w.abandon()
		removed, failed := 0, false
		w.setFault(func(_ int, call, name string) error {
			switch {
			case call == "remove":
				if removed++; removed == 2 { // the second of two segments stays a while
					return errInjected
				}
			case call == "sync" && name == cursorName && removed == 2: // the same again
				failed = true
				return errInjected
			case call == "write" && name == cursorName && failed:
				w.fs.dead = true
				return errDies // half of the slot
			}
			return nil
		})
		w.ack(2)
		w.idle()
		w.ack(1)
		w.idle()
		w.crash((*strictFS).kill, 0)
		w.drain()
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
}

func TestInterleaving_FailedSyncOfASealThenKill(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.idle()
		failed := false
		w.setFault(func(_ int, call, _ string) error {
			switch {
			case failed:
				w.fs.dead = true
				return errDies
			case call == "sync":
				failed = true
				return errInjected
			}
			return nil
		})
		w.skip(10) // a seal says so
		w.idle()
		w.end1((*strictFS).kill)
		w.resume(w.mustStart())
		w.release() // what the seal covers is freed
		w.fs.evict()
		w.crash((*strictFS).kill, 0)
		w.drain()
	})
}

func TestInterleaving_DivergedThenPowerCut(t *testing.T) {
	for seed := range uint64(10) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			w.deliver(1)
			if err := w.q.Diverge(1); err != nil {
				t.Fatal(err)
			}
			i := w.identity()
			want := i.sid(1) // given out from now on
			w.crash((*strictFS).powerCut, 0)
			i = w.identity()
			if got := i.sid(1); got != want {
				t.Errorf("stream %s, want %s", got, want)
			}
		})
	}
}

func TestInterleaving_DivergedWhileBlocksWaitForANewSegment(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.deliver(1)
		w.setFault(func(_ int, call, name string) error {
			if call == "write" && name != identityTmp {
				return errInjected
			}
			return nil
		})
		w.append(5, 300)
		if err := w.q.Diverge(1); err != nil {
			t.Fatal(err)
		}
		w.out, w.ranges = 1, nil
		clear(w.where) // the same lines come in another stream
		w.setFault(nil)
		w.drain()
	})
}

func TestInterleaving_DropOldestWhileTheDiskFailsAndTheConsumerGoesOn(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Compress: CompressNone, DropOldest: true})
		w.mustStart()
		defer w.abandon()
		for w.q.Stats().DiskBytes < modelLimit*9/10 {
			w.append(10, 24<<10)
			w.wait()
		}
		w.setFault(func(_ int, call, _ string) error { // the gap is written, and not yet durable
			w.q.mu.Lock()
			defer w.q.mu.Unlock()
			if call == "sync" && w.q.leaving.Len() > 0 {
				return errInjected
			}
			return nil
		})
		for range 5 {
			w.append(40, 24<<10)
			time.Sleep(time.Second)
		}
		w.deliver(3) // the gaps that are durable, and a part of what is about to go
		w.setFault(nil)
		w.drain()
		if w.q.Stats().Dropped == 0 {
			t.Error("nothing was dropped")
		}
	})
}

func TestInterleaving_DropOldestWhileTheDiskFailsAndThenIsFull(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Compress: CompressNone, DropOldest: true})
		w.mustStart()
		defer w.abandon()
		for w.q.Stats().DiskBytes < modelLimit*9/10 {
			w.append(10, 24<<10)
			w.wait()
		}
		begun := false
		w.setFault(func(_ int, call, _ string) error {
			w.q.mu.Lock()
			defer w.q.mu.Unlock()
			switch {
			case call == "sync" && w.q.leaving.Len() > 0: // the gap is written, and not durable
				begun = true
				return errInjected
			case call == "write" && begun: // and cannot be written again
				return unix.ENOSPC
			}
			return nil
		})
		for range 5 {
			w.append(40, 24<<10)
			time.Sleep(10 * time.Second)
		}
		w.deliver(1) // what the gap will stand for, if it is not held back
		w.setFault(nil)
		w.drain()
		if w.q.Stats().Dropped == 0 || !begun {
			t.Error("nothing was dropped")
		}
	})
}

func TestInterleaving_SegmentDeletedByAnAdministrator(t *testing.T) {
	for _, which := range []int{0, 1, 2} { // of three: the first, one in the middle, the newest
		inBubble(t, func() {
			w := threeSegments(t)
			defer w.abandon()
			w.stop()
			w.remove(w.fs.segments()[which])
			rec := w.mustStart()
			if rec.NewSID != (which == 2) { // numbers are used that nothing remembers
				t.Errorf("new stream: %v", rec.NewSID)
			}
			w.resume(rec)
			w.append(5, 300)
			w.drain()
			if len(w.gone) == 0 && which < 2 {
				t.Error("no gap names the lines")
			}
		})
	}
}

// threeSegments is a queue that has delivered all and acknowledged nothing.
func threeSegments(t *testing.T) *world {
	w := newWorld(t, 1, Options{Compress: CompressNone})
	w.mustStart()
	for range 3 {
		w.append(5, 300)
		w.wait()
		w.idle()
		w.deliver(100)
		if len(w.fs.segments()) < 3 {
			w.restart()
		}
	}
	if n := len(w.fs.segments()); n != 3 {
		t.Fatalf("%d segments, want 3", n)
	}
	return w
}

func TestInterleaving_NewestSegmentDeletedAndThenCursorDamaged(t *testing.T) {
	inBubble(t, func() {
		w := threeSegments(t)
		defer func() { w.abandon() }()
		w.setFault(func(_ int, call, _ string) error { // the acknowledged segments stay
			if call == "remove" || call == "rename" {
				return errInjected
			}
			return nil
		})
		w.ack(len(w.ranges))
		w.idle()
		w.end1((*strictFS).kill)
		w.remove(w.fs.segments()[2])
		w.setFault(func(_ int, call, name string) error {
			if call == "write" && name == spareName { // no seal says it
				return errInjected
			}
			return nil
		})
		w.resume(w.mustStart()) // CURSOR still knows how far the numbers went, and IDENTITY
		w.end1((*strictFS).kill)
		w.damage(cursorName, 0, 1<<20, func(b []byte) { clear(b) })
		rec := w.mustStart()
		if head := w.q.Stats().Head; head != 16 {
			t.Errorf("head %d, want 16: numbers would be used twice in a stream", head)
		}
		w.resume(rec)
		w.append(5, 300)
		w.drain()
	})
}

func TestInterleaving_SegmentDeletedWhileItIsRead(t *testing.T) {
	inBubble(t, func() {
		w := threeSegments(t)
		defer w.abandon()
		w.restart() // nothing is in memory
		w.remove(w.fs.segments()[1])
		w.drain()
		if len(w.gone) != 5 {
			t.Errorf("%d lines in gaps, want 5", len(w.gone))
		}
	})
}

func TestInterleaving_DirectoryRestoredFromASnapshotThenUsedOn(t *testing.T) {
	for _, elsewhere := range []bool{true, false} {
		inBubble(t, func() {
			w := threeSegments(t)
			defer w.abandon()
			b := w.backup()
			w.append(5, 300)
			w.drain()
			w.ack(2)
			w.idle()
			w.abandon()
			w.restore(b, elsewhere)
			w.resume(w.mustStart())
			w.append(5, 300)
			w.drain()
		})
	}
}

func TestInterleaving_DirectoryCopiedWhileLive(t *testing.T) {
	inBubble(t, func() {
		w := threeSegments(t)
		b := w.backup() // while the queue is open
		w.append(5, 300)
		w.drain() // these numbers are used here ...
		w.stop()
		sid := func() string { i := w.identity(); return i.sid(w.head) }
		w.mustStart()
		here := sid()
		w.abandon()
		w.restore(b, true)
		w.resume(w.mustStart())
		defer w.abandon()
		w.append(5, 300)
		w.drain() // ... and there
		if there := sid(); there == here {
			t.Errorf("the copy goes on in stream %s, as the original does", there)
		}
	})
}

func TestRecovery_SurvivesACrashAtEachStepOfTakingOver(t *testing.T) {
	crashInTakeOver(t, func(w *world) { crashBefore(w, "sync") }) // R12
}

func TestRecovery_SurvivesACrashAtEachStepOfWritingAgain(t *testing.T) {
	crashInTakeOver(t, func(w *world) { // F1, and then R12
		failed := 0
		w.setFault(func(n int, call, _ string) error {
			if call == "sync" && failed == 0 {
				failed = n
				return errInjected
			}
			return nil
		})
	})
}

// crashInTakeOver leaves undurable blocks as prepare says, and then crashes at
// the a-th call, and the recovery of that at its b-th.
func crashInTakeOver(t *testing.T, prepare func(*world)) {
	for _, end := range []func(*strictFS) *strictFS{(*strictFS).kill, (*strictFS).powerCut} {
		for a := 1; a < 40; a++ {
			for b := 0; b < 40; b += 1 + every(200) {
				inBubble(t, func() {
					w := newWorld(t, uint64(a*40+b), Options{Compress: CompressNone})
					w.mustStart()
					defer w.abandon()
					w.append(5, 3000)
					w.wait()
					prepare(w)
					w.fs.crashAt = w.fs.calls + a
					w.append(5, 3000)
					w.append(5, 3000)
					w.end1((*strictFS).kill)
					w.fs.crashAt = a
					_, _ = w.start()
					synctest.Wait()
					w.crash(end, b)
					w.deliver(2)
					w.crash((*strictFS).powerCut, 0)
					w.append(2, 100)
					w.drain()
				})
				if t.Failed() {
					t.Fatalf("crash at call %d, again at %d", a, b)
				}
			}
		}
	}
}
