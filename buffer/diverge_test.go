package buffer

import (
	"bytes"
	"fmt"
	"testing"
)

func TestQueue_DivergeGivesANewStreamFromThatNumberOn(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, Options{})
	var lines []byte
	for k := range 10 {
		lines = fmt.Appendf(lines, "line %d\n", k+1)
	}
	r, err := q.Append(t.Context(), lines, 10, Origin{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := q.Next(t.Context())
	if err != nil || b.Range() != r {
		t.Fatalf("got %v %v, want %v", b.Range(), err, r)
	}
	old := b.SID()
	if err := q.Diverge(4); err != nil {
		t.Fatal(err)
	}
	if err := q.Diverge(11); err == nil {
		t.Error("diverged at a number that was never given out")
	}
	fresh := ""
	for range 2 { // now, and after a restart, which begins at the cursor again
		want, sid := uint64(4), ""
		if fresh != "" {
			want, sid = 1, old
		}
		for want < 11 {
			b, err := q.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want == 4 {
				if fresh == "" {
					fresh = b.SID()
				}
				sid = fresh
			}
			got, err := b.Lines(nil)
			if err != nil || b.Range().First != want || b.SID() != sid ||
				!bytes.HasPrefix(got, fmt.Appendf(nil, "line %d\n", want)) {
				t.Fatalf("got %v of %s %q, %v; want what begins at %d of %s", b.Range(), b.SID(), got, err, want, sid)
			}
			want = b.Range().End
		}
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		q, _ = mustOpen(t, dir, Options{})
	}
	if fresh == old || len(fresh) != 16 {
		t.Errorf("streams %q and %q", old, fresh)
	}
}

func TestQueue_DivergeSkipsNothing(t *testing.T) {
	inBubble(t, func() {
		q, _ := threeBlocks(t)
		defer closeIn(t, q)
		for range 2 {
			if b, err := q.TryNext(); err != nil || b == nil {
				t.Fatal(b, err)
			}
		}
		if err := q.Rewind(1); err != nil {
			t.Fatal(err)
		}
		if err := q.Diverge(5); err != nil { // a nak of what went out before
			t.Fatal(err)
		}
		for _, want := range []Range{{1, 4}, {4, 5}, {5, 7}, {7, 10}} {
			if b, err := q.TryNext(); err != nil || b.Range() != want {
				t.Fatalf("got %v, %v, want %v", b.Range(), err, want)
			}
		}
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

func TestInterleaving_DivergedAndAgainWithACrashAtEachStep(t *testing.T) {
	for _, at := range []string{"create", "write", "sync", "rename", "syncDir"} {
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
				want := i.sid(1)
				if b, err := w.q.TryNext(); err != nil || b.SID() != want {
					t.Fatal(b, err)
				}
				crashBefore(w, at)
				if err := w.q.Diverge(3); err == nil {
					t.Fatal("diverged in spite of the crash")
				}
				w.crash((*strictFS).powerCut, 0)
				i = w.identity()
				if got := i.sid(1); got != want {
					t.Errorf("cut before %s: stream %s, want %s", at, got, want)
				}
			})
		}
	}
}

// A segment says whose its numbers are, should IDENTITY be lost.
func TestQueue_PutsEachStreamIntoItsOwnSegments(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		w.mustStart()
		defer w.abandon()
		w.append(5, 300)
		w.wait()
		w.deliver(1)
		if err := w.q.Diverge(3); err != nil {
			t.Fatal(err)
		}
		w.append(5, 300)
		w.wait()
		names := w.fs.segments()
		seg, _ := blocksIn(t, names[len(names)-1], w.fs.bytes(names[len(names)-1]))
		i := w.identity()
		if want := i.sid(6); seg.base != 6 || seg.sid != want || want == i.sid(1) {
			t.Errorf("the newest segment begins at %d, of stream %s, want 6 of %s", seg.base, seg.sid, want)
		}
	})
}
