package buffer

import (
	"testing"
	"time"
)

// What a gap is about to replace, and what has to wait for it.

func TestQueue_ReturnsNothingThatIsDroppedWhileItReads(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7))
		segmentOfBlocks(t, fs, 2, 7, lineBlock(7, 10))
		segmentOfBlocks(t, fs, 3, 10)
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true})
		if err != nil {
			t.Fatal(err)
		}
		read, syncs := false, 0
		fs.setFault(func(_ int, call, name string) error {
			switch {
			case call == "read" && name == segmentName(1) && !read:
				read = true
				fs.mu.Unlock()
				defer fs.mu.Lock()
				if _, err := w.dropOldest(); err == nil {
					t.Error("the gap is durable: it must only be written")
				}
			case call == "sync":
				if syncs++; syncs > 1 { // of the segment that the gap goes to
					return errInjected
				}
			}
			return nil
		})
		if b, err := q.TryNext(); b != nil || err != nil || !read {
			t.Fatalf("got %v, %v, while a gap is about to take its place", b, err)
		}
		fs.setFault(nil)
		w.step(time.Now(), false)
		for _, want := range []Range{{1, 7}, {7, 10}} {
			if b, err := q.TryNext(); err != nil || b.Range() != want || (b.Gap() != nil) != (want.First == 1) {
				t.Errorf("got %v, %v, want %v", b.Range(), err, want)
			}
		}
	})
}

// Another gap becomes durable while one is only written.
func TestQueue_ReturnsNothingThatIsDroppedBesideAnotherGap(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4))
		segmentOfBlocks(t, fs, 2, 4, lineBlock(4, 7), lineBlock(7, 10))
		segmentOfBlocks(t, fs, 3, 10)
		fs.damage(segmentName(1), headEnd+headerLen, func(b []byte) { b[0]++ })
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true})
		if err != nil {
			t.Fatal(err)
		}
		askForGap(t, q, w)
		w.encodeAppended(time.Now())
		if err := w.writeAll(); err != nil {
			t.Fatal(err)
		}
		w.off = q.segmentSize() // the next gap goes to another segment: this one is synced
		syncs := 0
		fs.setFault(func(_ int, call, _ string) error {
			if call == "sync" {
				if syncs++; syncs > 2 { // of the old segment, of the new one
					return errInjected
				}
			}
			return nil
		})
		if _, err := w.dropOldest(); err == nil {
			t.Error("the gap is durable: it must only be written")
		}
		if b, err := q.TryNext(); err != nil || b.Gap() == nil || b.Range() != (Range{1, 4}) {
			t.Fatalf("got %v, %v, want the gap of what is damaged", b, err)
		}
		if b, err := q.TryNext(); b != nil || err != nil {
			t.Errorf("got %v, %v, while a gap is about to take its place", b, err)
		}
		fs.setFault(nil)
		w.step(time.Now().Add(time.Second), false)
		if b, err := q.TryNext(); b == nil || b.Gap() == nil || b.Range() != (Range{4, 10}) || q.Stats().Dropped != 6 {
			t.Errorf("got %v, %v, %d dropped, want the other gap", b, err, q.Stats().Dropped)
		}
	})
}

// askForGap finds damage, before and after the writer has inspected the files.
func askForGap(t *testing.T, q *Queue, w *writer) {
	t.Helper()
	for range 2 {
		if b, err := q.TryNext(); b != nil || err != nil {
			t.Fatalf("got %v, %v, want nothing yet", b, err)
		}
		if err := w.inspectFiles(time.Now(), false); err != nil {
			t.Fatal(err)
		}
	}
}

// A gap that recovery took over, and could not make durable yet, counts.
func TestQueue_DropsNothingBeforeRecoveryIsFinished(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		gap := newGap(Range{1, 4}, Gap{Why: "damaged"}, "aaaaaaaaaaaaaaaa", time.Now())
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7))
		segmentOfBlocks(t, fs, 2, 7, gap) // and no seal
		fs.setFault(func(_ int, call, name string) error {
			if call == "write" && name == spareName {
				return errInjected
			}
			return nil
		})
		q, w, _, err := load(fs, Options{Limit: modelLimit, DropOldest: true, MaxAge: time.Hour})
		if err != nil || len(q.gaps.pending) == 0 {
			t.Fatal(err, q.gaps.pending)
		}
		fs.setFault(nil)
		time.Sleep(2 * time.Hour)
		if dropped, err := w.dropOldest(); dropped || err != nil {
			t.Errorf("dropped: %v, %v", dropped, err)
		}
		w.step(time.Now(), false) // takes over
		time.Sleep(2 * time.Hour)
		w.step(time.Now(), false)
		for _, want := range []Range{{1, 4}, {4, 7}} {
			if b, err := q.TryNext(); err != nil || b.Gap() == nil || b.Range() != want {
				t.Errorf("got %v, %v, want a gap %v", b, err, want)
			}
		}
		if q.Stats().Dropped != 3 {
			t.Errorf("%d dropped, want 3: the others were lost before", q.Stats().Dropped)
		}
	})
}

func TestWriter_ExpiresNothingBeforeItsNextTry(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4))
		segmentOfBlocks(t, fs, 2, 4)
		_, w, _, err := load(fs, Options{Limit: modelLimit, MaxAge: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		fs.setFault(func(int, string, string) error { calls++; return errInjected })
		now := time.Now().Add(2 * time.Hour)
		wake := w.step(now, false)
		tried := calls
		w.step(now, false) // a caller wakes it
		if calls != tried || tried == 0 || !wake.After(now) {
			t.Errorf("%d calls, then %d, before it wants to try again in %v", tried, calls-tried, wake.Sub(now))
		}
	})
}

// What cannot be removed, or dropped, does not keep lines from the disk.
func TestWriter_WritesWhileOldFilesCannotGo(t *testing.T) {
	for name, o := range map[string]Options{"acknowledged": {}, "expired": {MaxAge: time.Minute}} {
		inBubble(t, func() {
			w := newWorld(t, 1, o)
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			w.restart()
			w.append(5, 300)
			w.wait()
			if o.MaxAge == 0 {
				w.deliver(1)
				w.ack(1)
			}
			hit := false
			w.setFault(func(_ int, call, name string) error {
				if call == "remove" || call == "rename" && name == spareName || hit && call == "rename" {
					hit = true
					return errInjected
				}
				return nil
			})
			time.Sleep(time.Hour)
			w.append(5, 300)
			if !w.wait() || !hit {
				t.Errorf("%s: not durable (a fault: %v): %s", name, hit, w.q.Stats().Trouble)
			}
		})
	}
}
