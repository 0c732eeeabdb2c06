package buffer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"wsrelay/internal/codec"
)

// One test for each lesson that other queues' bug trackers teach; the issue is
// named. See there for what went wrong.

// lesson runs f on a queue with five blocks that are durable and recorded, in
// two segments, of which the first two are acknowledged.
func lesson(t *testing.T, f func(*world)) {
	t.Helper()
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		for k := range 5 {
			w.append(4, 300)
			w.wait()
			w.deliver(1)
			if k == 2 {
				w.ack(2)
				w.idle()
				w.restart()
			}
		}
		w.idle()
		f(w)
	})
}

// changed stops the process, changes the files, and looks at all that is left.
func (w *world) changed(change func()) {
	w.Helper()
	w.stop()
	change()
	w.resume(w.mustStart())
	w.append(3, 300)
	w.drain()
}

func truncate(fs *strictFS, name string, n int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.names[name]
	i.now, i.disk = i.now[:n:n], i.disk[:min(n, len(i.disk)):n]
}

// VictoriaMetrics #11192, #687, #702.
func TestLesson_AShortTailOrAnUnreadableCursorCostsNothingElse(t *testing.T) {
	lesson(t, func(w *world) {
		w.changed(func() {
			name := w.fs.segments()[1]
			n := len(w.fs.bytes(name))
			w.scarred = true
			w.hit(name, int64(n-300), int64(n))
			truncate(w.fs, name, n-300)
		})
		if len(w.gone) > 4 {
			t.Errorf("%d lines lost", len(w.gone))
		}
	})
	lesson(t, func(w *world) {
		w.changed(func() {
			w.scarred = true
			w.lostCursor()
			truncate(w.fs, cursorName, 100)
		})
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
}

// vector pull request 25570.
func TestLesson_AMissingFirstSegmentIsHarmless(t *testing.T) {
	lesson(t, func(w *world) {
		w.deliver(10)
		w.ack(len(w.ranges) - 1)
		w.idle()
		acked := w.acked
		if n := len(w.fs.segments()); n != 1 {
			t.Fatalf("%d segments, want 1", n)
		}
		w.crash((*strictFS).powerCut, 0)
		w.drain()
		if len(w.gone) > 0 || w.acked != acked {
			t.Errorf("lost %v; cursor %d, want %d", w.gone, w.acked, acked)
		}
	})
}

// vector #17644, #18336, #19759; nsq #1033; fluent-bit #5265, #11847.
func TestLesson_DamageStopsNeitherTheStartNorDelivery(t *testing.T) {
	lesson(t, func(w *world) {
		w.changed(func() {
			for _, name := range w.fs.segments() {
				w.damage(name, headEnd, 1<<20, func(b []byte) { clear(b) })
			}
			w.damage(cursorName, 0, 1<<20, func(b []byte) { clear(b) })
			w.damage(identityName, 0, 1<<20, func(b []byte) { clear(b) })
			w.unsure = 1
		})
	})
}

// vector #22489; fluent-bit #6995: the source may move on only after that.
func TestLesson_NothingIsDurableBeforeTheSyncReturned(t *testing.T) {
	lesson(t, func(w *world) {
		was, end := w.head, w.q.IntakeEnd(w.intake)
		w.setFault(func(_ int, call, _ string) error {
			if call != "sync" {
				return nil
			}
			if s := w.q.Stats(); s.Durable != was || w.q.IntakeEnd(w.intake) != end {
				t.Errorf("durable up to %d, %d, want %d, %d", s.Durable, w.q.IntakeEnd(w.intake), was, end)
			}
			return errInjected
		})
		w.append(4, 300)
		if w.wait() {
			t.Error("durable without a sync")
		}
		if b, err := w.q.TryNext(); b != nil && b.Range().First >= was {
			t.Errorf("given out: %v, %v", b.Range(), err)
		}
	})
}

// vector #13044; prometheus #7835, #7245.
func TestLesson_AFullDiskIsOrdinary(t *testing.T) {
	lesson(t, func(w *world) {
		for _, err := range []error{unix.ENOSPC, errShort} {
			w.setFault(func(_ int, call, _ string) error {
				if canFail(call, err) {
					return err
				}
				return nil
			})
			w.append(4, 3000)
			if w.wait() {
				t.Error("durable on a full disk")
			}
			w.setFault(nil)
			if !w.wait() {
				t.Error("not durable once there is space")
			}
		}
		w.crash((*strictFS).powerCut, 0)
		w.drain()
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
}

// beats #39861.
func TestLesson_RawAndStoredLengthsAreTwoThings(t *testing.T) {
	for _, c := range []codec.Codec{codec.Zstd, codec.S2} {
		dir := t.TempDir()
		q, _ := mustOpen(t, dir, Options{Codec: &c})
		want := goldenLines(1)
		if _, err := q.Append(t.Context(), want, 5, Origin{}); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		q, _ = mustOpen(t, dir, Options{})
		b, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Lines(nil)
		if err != nil || string(got) != string(want) || b.RawLen() != len(want) || len(b.Encoded()) >= len(want) {
			t.Errorf("%q, %v: %d raw, %d stored", got, err, b.RawLen(), len(b.Encoded()))
		}
	}
}

// beats #32560.
func TestLesson_ARestartDoesNotRepeatWhatWasAcknowledged(t *testing.T) {
	lesson(t, func(w *world) {
		w.deliver(10)
		w.ack(1)
		acked := w.acked
		w.restart()
		b, err := w.q.TryNext()
		if err != nil || b.Range().First != acked {
			t.Errorf("got %v, %v, want what begins at %d", b.Range(), err, acked)
		}
	})
}

// go-diskqueue #28: a stored write position that is wrong. There is none here:
// the end is where the valid blocks end.
func TestLesson_WhatFollowsTheLastBlockDoesNotMatter(t *testing.T) {
	lesson(t, func(w *world) {
		w.changed(func() {
			name := w.fs.segments()[1]
			f, err := w.fs.open(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.writeAt(make([]byte, 100_000), int64(len(w.fs.bytes(name)))); err != nil {
				t.Fatal(err)
			}
		})
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
}

// syslog-ng #4069.
func TestLesson_AnotherLimitDoesNotChangeWhatIsStored(t *testing.T) {
	for _, factor := range []int64{4, -4} {
		lesson(t, func(w *world) {
			w.changed(func() {
				if factor > 0 {
					w.o.Limit *= factor
				} else {
					w.o.Limit /= -factor
				}
			})
			if len(w.gone) > 0 {
				t.Errorf("lost %v", w.gone)
			}
		})
	}
}

// syslog-ng #5714, #1734, #3353: the queue's part is that Close keeps all that
// was appended, and says so if it could not.
func TestLesson_CloseKeepsAllThatWasAppended(t *testing.T) {
	lesson(t, func(w *world) {
		w.o.Sync = 1 << 40
		w.restart()
		w.append(20, 100)
		head := w.head
		w.restart()
		if s := w.q.Stats(); s.Durable != head {
			t.Errorf("durable up to %d, want %d", s.Durable, head)
		}
		w.setFault(func(_ int, call, _ string) error {
			if call == "write" {
				return unix.ENOSPC
			}
			return nil
		})
		w.append(20, 100)
		if w.stop() {
			t.Error("Close says nothing of lines that are not on disk")
		}
	})
}

// rsyslog #5771.
func TestLesson_SegmentsAreEnough(t *testing.T) {
	lesson(t, func(w *world) {
		w.changed(func() {
			w.scarred, w.moved = true, true
			w.lostCursor()
			w.fs.alter(func(m map[string]*inode) { delete(m, cursorName); delete(m, identityName) })
		})
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
}

// etcd #14098: a length that points past the data. (#6368, syncs of the
// directory: scripts/mutate.)
func TestLesson_ALengthPastTheEndOfTheFileIsNoBlock(t *testing.T) {
	seg := &segment{id: 1, base: 1, sid: "aaaaaaaaaaaaaaaa", nonce: 5}
	b := &Block{
		header: header{kind: kindData, first: 1, count: 1, stored: maxStored, raw: maxRaw, segment: 1},
		buf:    make([]byte, headerLen),
	}
	b.put(b.buf, seg.nonce)
	file := append(seg.page(), b.buf...)
	if h, err := newScanner(bytes.NewReader(file), seg, int64(len(file))).seek(); !errors.Is(err, io.EOF) {
		t.Errorf("got %+v, %v, and would make space for it", h, err)
	}
}

// pebble #580, #3865.
func TestLesson_ARecycledSegmentDoesNotShowItsFormerLife(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		defer w.abandon()
		lives := map[*inode]bool{}
		again := 0
		for k := range 60 {
			w.append(1, 60_000)
			w.wait()
			w.deliver(10)
			w.ack(10)
			synctest.Wait()
			w.fs.mu.Lock()
			if i := w.fs.names[spareName]; i != nil && !lives[i] {
				lives[i] = true
				again++
			}
			w.fs.mu.Unlock()
			if k%20 == 19 {
				w.crash((*strictFS).kill, 0)
			}
		}
		if again == 0 {
			t.Fatal("no segment was written again")
		}
		w.drain()
		if len(w.gone) > 0 {
			t.Errorf("lost %v", w.gone)
		}
	})
	old := &Block{header: header{kind: kindData, first: 1, count: 1, segment: 1}, buf: make([]byte, headerLen)}
	old.put(old.buf, 5)
	if _, ok := getHeader(old.buf, 6); ok {
		t.Error("a block of another life passes")
	}
}

// otel #35899, #20266: a store without fsync. A file whose sync fails for ever
// leaves nothing that is called durable.
func TestLesson_WithoutFsyncNothingIsPromised(t *testing.T) {
	lesson(t, func(w *world) {
		w.setFault(func(_ int, call, _ string) error {
			if call == "sync" || call == "syncDir" {
				return errInjected
			}
			return nil
		})
		was := w.q.Stats().Durable
		w.append(4, 300)
		if w.wait() || w.q.Stats().Durable != was {
			t.Errorf("durable up to %d, want %d", w.q.Stats().Durable, was)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := w.q.WaitDurable(ctx, w.head); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
