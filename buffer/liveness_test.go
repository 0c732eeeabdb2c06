package buffer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A queue that is full must come free again by what its consumer does.

// fillUp appends until the queue has no space, and drops what does not fit from
// the test's books: nobody waits for it.
func fillUp(w *world) {
	for w.q.Stats().Trouble == nil {
		before := w.head
		w.append(10, 24<<10)
		if w.head == before {
			time.Sleep(time.Second)
		}
		synctest.Wait()
	}
}

func TestQueue_GivesGapsWhileItIsFull(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		w.append(10, 1000)
		w.wait()
		fillUp(w)
		w.q.mu.Lock()
		w.q.ring = ring{} // the consumer lags: it reads the file
		w.q.mu.Unlock()
		w.fs.mu.Lock()
		w.fs.space -= w.fs.freeLocked() - 64<<10 // not even a small block of lines has space
		w.fs.mu.Unlock()
		name := w.fs.segments()[0]
		w.damage(name, headEnd+headerLen+100, 1, func(b []byte) { b[0] ^= 1 })
		w.deliver(1)
		if len(w.gone) != 10 {
			t.Errorf("%d lines in gaps, want 10", len(w.gone))
		}
		w.fs.mu.Lock()
		w.fs.space = 1 << 40
		w.fs.mu.Unlock()
		w.drain()
	})
}

func TestQueue_ContinuesWhereItsNewestSegmentFillsTheFileSystem(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.o.Limit = 64 << 20 // segments of 8 MiB
		w.fs.space = 6 << 20
		w.mustStart()
		defer w.abandon()
		for range amount(10, 10, 2) {
			fillUp(w)
			w.drain()
			w.ack(len(w.ranges))
			time.Sleep(10 * time.Second)
			if err := w.q.WaitAcked(context.Background(), w.head); err != nil {
				t.Fatal(err)
			}
			if s := w.q.Stats(); s.Trouble != nil {
				t.Fatalf("all is acknowledged, and still: %s", s.Trouble)
			}
		}
	})
}

func TestQueue_GivesNothingWhileItsRecoveryIsNotFinished(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		for range 3 {
			w.append(5, 300)
			w.wait()
		}
		w.idle()
		w.stop()
		name := w.fs.segments()[0]
		_, blocks := blocksIn(w, name, w.fs.bytes(name))
		w.damage(name, int(blocks[1].off)+200, 1, func(b []byte) { b[0] ^= 1 })
		w.setFault(func(_ int, call, _ string) error {
			if call == "write" {
				return errInjected
			}
			return nil
		})
		w.resume(w.mustStart())
		defer w.abandon()
		if b, err := w.q.TryNext(); b != nil || err != nil {
			t.Errorf("got %v, %v while the gap is not durable", b, err)
		}
		w.setFault(nil)
		w.drain()
		if len(w.gone) != 5 {
			t.Errorf("%d lines in gaps, want 5", len(w.gone))
		}
	})
}
