package buffer

import (
	"testing"
	"testing/synctest"
	"time"
)

// Histories that other queues lost or mixed up lines in, each by name.

func TestInterleaving_UndurableBlockReadBackAfterKillThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{Codec: raw})
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
				w := newWorld(t, seed, Options{Codec: raw})
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
			w := newWorld(t, seed, Options{Codec: raw})
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
		w := newWorld(t, 1, Options{Codec: raw})
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

// What nobody writes to after it was made again is on disk all the same.
func TestInterleaving_RemovedWhileItRunsThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{Codec: raw})
			w.mustStart()
			defer w.abandon()
			w.append(20, 3000)
			w.wait()
			time.Sleep(4 * inspectInterval) // it has nothing more to write
			w.fs.unlink(w.fs.segments()[0])
			time.Sleep(2 * inspectInterval)
			w.crash((*strictFS).powerCut, 0)
			w.drain()
			if len(w.gone) > 0 {
				t.Errorf("%d lines are lost", len(w.gone))
			}
		})
	}
}

// threeSegments is a queue that has delivered all and acknowledged nothing.
func threeSegments(t *testing.T) *world {
	w := newWorld(t, 1, Options{Codec: raw})
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
		w.idle()
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
			if i := w.identity(); len(i.pairs) != 2 { // the receiver, or the other place, makes a new stream
				t.Errorf("elsewhere %v: streams %v, want two", elsewhere, i.pairs)
			}
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
			t.Errorf("the copy continues in stream %s, as the original does", there)
		}
	})
}
