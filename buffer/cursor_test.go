package buffer

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func TestCursor_SaysWhatItWasTold(t *testing.T) {
	want := cursor{
		generation: 1, acked: 2, durable: 3, segment: 4, receipt: Receipt{Seq: 5, UID: "uid", RT: "token"},
		intakes: intakes{{Intake: 6, End: 7}, {Intake: 8, End: 9, Unfinished: true}},
	}
	if got, ok := getSlot(want.slot()); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
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
			w.idle() // the segments go all the same, after a cursor that is on disk
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
