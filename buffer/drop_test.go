package buffer

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// drained is what comes out of q: lines, and numbers that gaps stand for.
func drained(t *testing.T, q *Queue) (lines, lost uint64) {
	t.Helper()
	out := q.Stats().Cursor
	for {
		b, err := q.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			if head := q.Stats().Head; out != head {
				t.Fatalf("came to %d, head is %d", out, head)
			}
			return lines, lost
		}
		if b.Range().First != out {
			t.Fatalf("got %v, want %d", b.Range(), out)
		}
		if b.Gap() != nil {
			lost += b.Range().Len()
		} else {
			raw, err := b.Lines(nil)
			if err != nil {
				t.Fatal(err)
			}
			lines += uint64(bytes.Count(raw, []byte("\n")))
		}
		out = b.Range().End
		if err := q.Ack(out, Receipt{Seq: out}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueue_DropOldestNamesExactlyWhatItDropped(t *testing.T) {
	dir := t.TempDir()
	o := Options{Limit: MinLimit, DropOldest: true, Codec: raw}
	q, _ := mustOpen(t, dir, o)
	var written uint64
	pad := strings.Repeat("x", 980)
	for written < 200<<10 { // 200 MiB
		var b []byte
		for range 1000 {
			b = fmt.Appendf(b, "%18d %s\n", written+1, pad)
			written++
		}
		if _, err := q.Append(t.Context(), b, 1000, Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.WaitDurable(t.Context(), written+1); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.DiskBytes > MinLimit+q.segmentSize() {
		t.Errorf("%d bytes on disk, limit %d", s.DiskBytes, int64(MinLimit))
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q, rec := mustOpen(t, dir, o) // the gaps are on disk
	if len(rec.Gaps) > 0 {
		t.Errorf("recovery made gaps %v", rec.Gaps)
	}
	lines, lost := drained(t, q)
	t.Logf("%d lines written, %d arrived, gaps name %d", written, lines, lost)
	if lines+lost != written || lost == 0 || lines == 0 {
		t.Errorf("%d arrived + %d lost, want %d", lines, lost, written)
	}
}

func TestQueue_MaxAgeDropsOldSegmentsOnly(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, _, err := open(fs, Options{Limit: 1 << 20, MaxAge: time.Hour, Codec: raw})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close(context.Background())
		line := []byte(strings.Repeat("y", 50<<10) + "\n")
		for range 12 { // segments of 128 KiB, a line each 20 minutes
			if _, err := q.Append(context.Background(), line, 1, Origin{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Minute)
		}
		if _, err := q.Append(context.Background(), line, 1, Origin{}); err != nil {
			t.Fatal(err)
		}
		if err := q.WaitDurable(context.Background(), 14); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lines, lost := drained(t, q)
		if lines+lost != 13 || lost < 6 || lines < 3 {
			t.Errorf("%d lines, %d lost of 13", lines, lost)
		}
	})
}

func TestInterleaving_SegmentDroppedThenPowerCut(t *testing.T) {
	for seed := range uint64(amount(20, 20, 3)) {
		inBubble(t, func() {
			w := newWorld(t, seed, Options{Codec: raw, DropOldest: true})
			w.mustStart()
			defer w.abandon()
			for w.q.Stats().DiskBytes < modelLimit*9/10 {
				w.append(10, 24<<10)
				w.wait()
			}
			dropped := false
			w.setFault(func(_ int, call, name string) error {
				if dropped {
					w.fs.dead = true
					return errDies
				}
				dropped = call == "remove" || call == "rename" && name == spareName
				return nil
			})
			for range 5 {
				w.append(40, 24<<10)
				time.Sleep(time.Second)
			}
			if !dropped {
				t.Error("nothing was dropped")
			}
			w.crash((*strictFS).powerCut, 0)
			w.drain()
		})
	}
}

func TestInterleaving_DropOldestWhileTheDiskFailsAndTheConsumerContinues(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw, DropOldest: true})
		w.mustStart()
		defer w.abandon()
		for w.q.Stats().DiskBytes < modelLimit*9/10 {
			w.append(10, 24<<10)
			w.wait()
		}
		w.setFault(func(_ int, call, _ string) error { // the gap is written, and not yet durable
			w.q.mu.Lock()
			defer w.q.mu.Unlock()
			if call == "sync" && len(w.q.gaps.pending) > 0 {
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
		w := newWorld(t, 1, Options{Codec: raw, DropOldest: true})
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
			case call == "sync" && len(w.q.gaps.pending) > 0: // the gap is written, and not durable
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

// A gap of what is damaged and one of what is dropped never overlap.
func TestQueue_DropsNothingThatIsAboutToBecomeAGap(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7))
		segmentOfBlocks(t, fs, 2, 7, lineBlock(7, 10))
		segmentOfBlocks(t, fs, 3, 10)
		fs.damage(segmentName(1), headEnd+headerLen, func(b []byte) { b[0]++ })
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true})
		if err != nil {
			t.Fatal(err)
		}
		askForGap(t, q, w)
		if dropped, err := w.dropOldest(); !dropped || err != nil {
			t.Fatal(dropped, err)
		}
		w.step(time.Now(), false)
		if first, err := q.TryNext(); err != nil || first.Range() != (Range{1, 4}) || first.Gap() == nil ||
			first.Gap().Why != "damaged" {
			t.Fatalf("got %v, %v, want the gap of what is damaged", first, err)
		}
		for _, want := range []Range{{4, 7}, {7, 10}} {
			if b, err := q.TryNext(); err != nil || b.Range() != want || (b.Gap() != nil) != (want.First == 7) {
				t.Errorf("got %v, %v, want %v", b, err, want)
			}
		}
	})
}

func TestQueue_DropsNothingThatIsUnderWay(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7))
		segmentOfBlocks(t, fs, 2, 7, lineBlock(7, 10))
		segmentOfBlocks(t, fs, 3, 10)
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true})
		if err != nil {
			t.Fatal(err)
		}
		takeFirst(t, q)
		if dropped, err := w.dropOldest(); !dropped || err != nil || q.Stats().Dropped != 3 {
			t.Errorf("dropped %v, %v: %d lines, want 3", dropped, err, q.Stats().Dropped)
		}
		if names := fs.segments(); len(names) == 0 || names[0] != segmentName(1) {
			t.Errorf("left %v: the consumer is in the first", names)
		}
	})
}

// A segment of two streams gets two gaps; the second may have to wait.
func TestQueue_RetriesTheSecondOfTwoGaps(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		i := identity{home: fs.home(), pairs: []pair{{1, "aaaaaaaaaaaaaaaa"}, {4, "bbbbbbbbbbbbbbbb"}}}
		if err := i.write(fs); err != nil {
			t.Fatal(err)
		}
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7))
		segmentOfBlocks(t, fs, 2, 7, lineBlock(7, 10))
		segmentOfBlocks(t, fs, 3, 10)
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true})
		if err != nil {
			t.Fatal(err)
		}
		writes := 0
		fs.setFault(func(_ int, call, _ string) error {
			if call == "write" {
				if writes++; writes == 3 { // a header, a gap
					return unix.ENOSPC
				}
			}
			return nil
		})
		if _, err := w.dropOldest(); err == nil {
			t.Fatal("no error from the full disk")
		}
		fs.setFault(func(_ int, call, _ string) error {
			if call == "sync" {
				return errInjected
			}
			return nil
		})
		if _, err := w.dropOldest(); err == nil {
			t.Fatal("no error from the broken disk")
		}
		if b, err := q.TryNext(); b != nil || err != nil {
			t.Errorf("got %v, %v: the first gap is written, and not durable", b, err)
		}
		fs.setFault(nil)
		if _, err := w.dropOldest(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []Range{{1, 4}, {4, 7}} {
			if b, err := q.TryNext(); err != nil || b.Range() != want || b.Gap() == nil || b.Gap().Why != "overflow" {
				t.Errorf("got %+v, %v, want a gap %v", b, err, want)
			}
		}
	})
}
