package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// openIn opens the queue in fs, which the test closes.
func openIn(t *testing.T, fs *strictFS, o Options) (*Queue, *Recovery) {
	t.Helper()
	q, rec, err := open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return q, rec
}

func closeIn(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestRecovery_FindsTheCursorInTheBlocks(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		w.mustStart()
		defer w.abandon()
		for range 2 {
			w.append(5, 300)
			w.wait()
			w.idle() // CURSOR is written, and not for the next second
			w.deliver(1)
			w.ack(1)
			w.idle()
		}
		w.append(5, 300)
		w.wait()
		w.deliver(1)
		w.ack(1)
		acked := w.acked
		w.append(5, 300) // its header says what was acknowledged
		w.wait()
		w.end1((*strictFS).kill)
		w.fs.alter(func(m map[string]*inode) { delete(m, cursorName) })
		w.moved = false
		w.mustStart()
		if got := w.q.Stats().Cursor; got != acked {
			t.Errorf("cursor %d, want %d", got, acked)
		}
	})
}

func TestRecovery_SealsNumbersThatOnlyCursorKnows(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, w, _, err := load(fs, Options{Limit: modelLimit})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{}); err != nil {
				t.Fatal(err)
			}
			w.encodeAppended(time.Now()) // and no seal: no header says that the last five are durable
			if err := errors.Join(w.writeAll(), w.sync(time.Now())); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if b, err := q.TryNext(); err != nil || b == nil {
				t.Fatal(b, err)
			}
		}
		if err := errors.Join(q.Ack(11, Receipt{}), w.saveCursor(time.Now(), true)); err != nil {
			t.Fatal(err)
		}
		fs = fs.kill()
		name := segmentName(1)
		_, blocks := blocksIn(t, name, fs.bytes(name))
		fs.damage(name, int(blocks[1].off), func(b []byte) { b[0]++ })
		q, _ = openIn(t, fs, Options{Limit: modelLimit})
		closeIn(t, q)
		fs = fs.kill()
		if err := fs.remove(cursorName); err != nil {
			t.Fatal(err)
		}
		q, _ = openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		if got := q.Stats().Head; got != 11 {
			t.Errorf("head %d, want 11: numbers would be used twice", got)
		}
	})
}

// The intake may have freed what CURSOR says is on disk: if the block is not
// there any more, that is a loss.
func TestRecovery_NamesWhatIsMissingOfWhatCursorSaysIsDurable(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, w, _, err := load(fs, Options{Limit: modelLimit})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{Intake: 7, End: 50}); err != nil {
			t.Fatal(err)
		}
		w.encodeAppended(time.Now())
		if err := errors.Join(w.writeAll(), w.sync(time.Now()), w.saveCursor(time.Now(), true)); err != nil {
			t.Fatal(err)
		}
		fs = fs.kill()
		fs.damage(segmentName(1), headEnd, func(b []byte) { b[0]++ })
		q, rec := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		end, _, _ := rec.Intake(7)
		if head := q.Stats().Head; end != 50 || len(rec.Gaps) != 1 || rec.Gaps[0] != (Range{1, 6}) || head != 6 {
			t.Errorf("the intake continues at %d, gaps %v, head %d; want 50, all five, 6", end, rec.Gaps, head)
		}
	})
}

func TestRecovery_KnowsHowFarAnIntakeIs(t *testing.T) {
	for name, forget := range map[string]func(*world){
		"block": func(*world) {},
		"seal":  func(w *world) { w.idle(); w.skip(10); w.idle() }, // bytes that are no line
		"segment": func(w *world) { // which lists what was before it
			w.idle()
			w.restart()
			_, _ = w.q.Append(context.Background(), []byte("other\n"), 1, Origin{Intake: 99, End: 6})
			_ = w.q.WaitDurable(context.Background(), 7)
			w.idle()
			w.fs.alter(func(m map[string]*inode) { delete(m, segmentName(1)); delete(m, cursorName) })
		},
		"CURSOR": func(w *world) {
			w.idle()
			w.stop()
			w.fs.alter(func(m map[string]*inode) { delete(m, segmentName(1)) })
			w.mustStart()
		},
	} {
		inBubble(t, func() {
			w := newWorld(t, 1, Options{})
			w.mustStart()
			defer w.abandon()
			w.append(5, 300)
			w.wait()
			forget(w)
			w.end1((*strictFS).kill)
			rec := w.mustStart()
			if end, _, ok := rec.Intake(w.intake); !ok || end != w.end {
				t.Errorf("%s: the intake is at %d (%v), want %d", name, end, ok, w.end)
			}
		})
	}
}

func TestRecovery_KnowsThatTheLastLineContinues(t *testing.T) {
	for name, after := range map[string]func(*Queue){
		"block": func(*Queue) {},
		"seal":  func(*Queue) { time.Sleep(3 * time.Second) },
		"segment and CURSOR": func(q *Queue) {
			time.Sleep(3 * time.Second)
			_, _ = q.Append(context.Background(), []byte("other\n"), 1, Origin{Intake: 99, End: 6})
		},
	} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			if _, err := q.Append(context.Background(), []byte("piece\n"), 1,
				Origin{Intake: 5, End: 5, Unfinished: true}); err != nil {
				t.Fatal(err)
			}
			after(q)
			if err := q.WaitDurable(context.Background(), q.Stats().Head); err != nil {
				t.Fatal(err)
			}
			fs = fs.kill()
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = q.Close(ctx) // it is dead
			q, rec := openIn(t, fs, Options{Limit: modelLimit})
			if end, unfinished, ok := rec.Intake(5); end != 5 || !unfinished || !ok {
				t.Errorf("%s: at %d, unfinished %v, known %v", name, end, unfinished, ok)
			}
			closeIn(t, q)
		})
	}
}

// A hole in what was never promised: what stands after it is read again, if
// the spool has it, and kept otherwise (R5).
func TestRecovery_ReadsAgainOnlyWhatTheSpoolHas(t *testing.T) {
	for name, c := range map[string]struct {
		living LiveInput
		head   uint64
		gaps   []Range
		last   uint64 // intake
	}{
		"the spool has it":            {LiveInput{Intake: 7, Mark: 12}, 4, nil, 7},
		"the spool is freed":          {LiveInput{Intake: 7, Mark: 13}, 10, []Range{{4, 7}}, 7},
		"the pipe is another":         {LiveInput{Intake: 8}, 10, []Range{{4, 7}}, 7},
		"there is no spool at all":    {LiveInput{}, 10, []Range{{4, 7}}, 7},
		"another pipe's lines follow": {LiveInput{Intake: 7, Mark: 12}, 10, []Range{{4, 7}}, 9},
	} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			var blocks []*Block
			for first := uint64(1); first < 10; first += 3 {
				b := lineBlock(first, first+3)
				b.intake, b.end = 7, int64(first+2)*4 // 12, 24, 36
				blocks = append(blocks, b)
			}
			blocks[2].intake = c.last
			segmentOfBlocks(t, fs, 1, 1, blocks...)
			fs.damage(segmentName(1), headEnd+192, func(b []byte) { b[0]++ })
			q, rec := openIn(t, fs, Options{Limit: modelLimit, LiveInput: c.living})
			defer closeIn(t, q)
			if got := q.Stats().Head; got != c.head || len(rec.Gaps) != len(c.gaps) || len(c.gaps) > 0 &&
				rec.Gaps[0] != c.gaps[0] {
				t.Errorf("%s: head %d, gaps %v; want %d, %v", name, got, rec.Gaps, c.head, c.gaps)
			}
		})
	}
}

func TestRecovery_SetsASegmentOfAForeignStreamAside(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		recorded(w)
		segmentOfBlocks(t, w.fs, 50, 1, lineBlock(1, 4)) // of another queue
		w.scarred, w.beyond = true, true
		rec := w.mustStart()
		defer w.abandon()
		w.resume(rec)
		w.drain()
		if len(rec.Quarantined) != 1 || !strings.HasPrefix(rec.Quarantined[0], "damaged/"+segmentName(50)) ||
			len(w.gone) > 0 {
			t.Errorf("quarantined %v, lost %v", rec.Quarantined, w.gone)
		}
	})
}

func TestRecovery_KeepsDamagedBytesOnceAndNotForEver(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		var blocks []*Block
		for n := range uint64(2 * keepFiles) {
			blocks = append(blocks, lineBlock(3*n+1, 3*n+4))
		}
		segmentOfBlocks(t, fs, 1, 1, blocks...)
		segmentOfBlocks(t, fs, 2, blocks[len(blocks)-1].next())
		for k := 0; k < len(blocks); k++ {
			fs.damage(segmentName(1), headEnd+192*k+headerLen, func(b []byte) { b[0]++ })
		}
		for range 2 {
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			for range blocks {
				if b, err := q.Next(context.Background()); err != nil || b.Gap() == nil {
					t.Fatal(b, err)
				}
			}
			closeIn(t, q)
			if kept, err := fs.list(damagedName); err != nil || len(kept) != keepFiles {
				t.Errorf("kept %v, %v, want %d", kept, err, keepFiles)
			}
		}
		want := fs.bytes(segmentName(1))[headEnd : headEnd+192]
		if got := fs.bytes(damagedName + fmt.Sprintf("/0000000000000001-%d", headEnd)); !bytes.Equal(got, want) {
			t.Errorf("kept %q, want %q", got, want)
		}
	})
}

func TestScanner_TakesNoBlockThatIsNotThisSegmentsNext(t *testing.T) {
	seg := &segment{id: 1, base: 10, sid: "aaaaaaaaaaaaaaaa", nonce: 5}
	for name, c := range map[string]struct {
		header
		want int
	}{
		"the next":              {header{kind: kindData, first: 10, count: 1, segment: 1}, 1},
		"behind a hole":         {header{kind: kindData, first: 90, count: 1, segment: 1}, 1},
		"of another segment":    {header{kind: kindData, first: 10, count: 1, segment: 2}, 0},
		"number that goes back": {header{kind: kindData, first: 9, count: 1, segment: 1}, 0},
		"no records":            {header{kind: kindData, first: 10, segment: 1}, 0},
		"beyond all numbers":    {header{kind: kindData, first: ^uint64(0), count: 2, segment: 1}, 0},
		"too large":             {header{kind: kindData, first: 10, count: 1, raw: maxRaw + 1, segment: 1}, 0},
	} {
		b := &Block{header: c.header, buf: make([]byte, headerLen)}
		b.put(b.buf, seg.nonce)
		if _, got := blocksIn(t, segmentName(1), append(seg.page(), b.buf...)); len(got) != c.want {
			t.Errorf("%s: %d blocks, want %d", name, len(got), c.want)
		}
	}
}

// A gap that is acknowledged is in no further segment: there the header says
// that it was.
func TestRecovery_FindsTheCursorInTheHeaderOfAnEmptySegment(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, w, _, err := load(fs, Options{Limit: modelLimit})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{}); err != nil {
			t.Fatal(err)
		}
		w.step(time.Now(), false)
		if b, err := q.TryNext(); err != nil || b == nil {
			t.Fatal(b, err)
		}
		if err := q.Ack(6, Receipt{}); err != nil {
			t.Fatal(err)
		}
		if err := w.rotate(nil); err != nil {
			t.Fatal(err)
		}
		fs = fs.powerCut()
		for _, name := range []string{cursorName, segmentName(1)} {
			if err := fs.remove(name); err != nil {
				t.Fatal(err)
			}
		}
		q, rec := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		if got := q.Stats().Cursor; got != 6 || len(rec.Gaps) > 0 {
			t.Errorf("cursor %d, gaps %v; want 6, none", got, rec.Gaps)
		}
	})
}

func TestRecovery_NamesAllThatIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		blocks []*Block
		hurt   int // which of them
		want   Range
	}{
		"in front":      {[]*Block{lineBlock(4, 7)}, -1, Range{1, 4}},
		"in the middle": {[]*Block{lineBlock(1, 4), lineBlock(4, 7), lineBlock(7, 10), newSeal(10)}, 1, Range{4, 7}},
		"at the end":    {[]*Block{lineBlock(1, 4), lineBlock(4, 7), newSeal(7)}, 1, Range{4, 7}},
	} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			if seal := c.blocks[len(c.blocks)-1]; seal.kind == kindSeal {
				seal.durable = seal.first
			}
			segmentOfBlocks(t, fs, 1, c.blocks[0].first, c.blocks...)
			if c.hurt >= 0 {
				fs.damage(segmentName(1), headEnd+192*c.hurt+headerLen, func(b []byte) { b[0]++ })
			}
			q, rec := openIn(t, fs, Options{Limit: modelLimit})
			defer closeIn(t, q)
			if len(rec.Gaps) != 1 || rec.Gaps[0] != c.want {
				t.Errorf("%s: %v, want %v", name, rec.Gaps, c.want)
			}
		})
	}
}

// A gap may be in the page cache only, as any block may.
func TestRecovery_CopiesAGapThatNoSealCovers(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			gap, seal := newGap(Range{1, 4}, Gap{Why: "overflow"}, "aaaaaaaaaaaaaaaa", time.Now()), newSeal(7)
			gap.durable, seal.durable = 7, 7
			blocks := []*Block{lineBlock(4, 7), gap}
			if sealed {
				blocks = append(blocks, seal)
			}
			segmentOfBlocks(t, fs, 1, 4, blocks...)
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			defer closeIn(t, q)
			if n := len(fs.segments()); (n == 1) != sealed {
				t.Errorf("sealed: %v; %d segments", sealed, n)
			}
		})
	}
}

func TestRecovery_GivesAGapWholeThatTheCursorStandsIn(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		rest := lineBlock(7, 10)
		rest.acked = 4
		segmentOfBlocks(t, fs, 1, 7, newGap(Range{1, 7}, Gap{Why: "overflow"}, "aaaaaaaaaaaaaaaa", time.Now()), rest)
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		if b, err := q.TryNext(); err != nil || b.Range() != (Range{1, 7}) || q.Stats().Cursor != 1 {
			t.Errorf("got %v, %v, cursor %d", b.Range(), err, q.Stats().Cursor)
		}
	})
}

func TestRecovery_EndsAGapWhereItsStreamEnds(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		i := identity{home: fs.home(), pairs: []pair{{1, "aaaaaaaaaaaaaaaa"}, {4, "bbbbbbbbbbbbbbbb"}}}
		if err := i.write(fs); err != nil {
			t.Fatal(err)
		}
		segmentOfBlocks(t, fs, 1, 7, lineBlock(7, 10)) // the segments before are lost
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		for k, want := range []Range{{1, 4}, {4, 7}} {
			if b, err := q.TryNext(); err != nil || b.Gap() == nil || b.Range() != want || b.SID() != i.pairs[k].sid {
				t.Errorf("got %v of %s, %v, want a gap %v", b.Range(), b.SID(), err, want)
			}
		}
	})
}
