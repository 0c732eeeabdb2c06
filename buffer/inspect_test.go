package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stock fills a queue over several segments, and gives what it holds.
func stock(t *testing.T, q *Queue, from, n int) (lines []string) {
	t.Helper()
	for k := range n {
		line := fmt.Sprintf("%d %s\n", from+k, strings.Repeat("x", 1000))
		lines = append(lines, line)
		if _, err := q.Append(t.Context(), []byte(line), 1, Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.WaitDurable(t.Context(), q.Stats().Head); err != nil {
		t.Fatal(err)
	}
	return lines
}

// small makes several segments of a few MiB.
var small = Options{Limit: 8 << 20, Codec: raw}

// ackTo acknowledges the blocks below seq.
func ackTo(t *testing.T, q *Queue, seq uint64) {
	t.Helper()
	for q.Stats().Cursor < seq {
		b, err := q.TryNext()
		if err != nil || b == nil {
			t.Fatal(b, err)
		}
		if err := q.Ack(b.Range().End, Receipt{Seq: b.Range().End, UID: "uid"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Rewind(q.Stats().Cursor); err != nil {
		t.Fatal(err)
	}
}

func TestLook_AgreesWithTheQueueBesideItAndAfterIt(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, small)
	stock(t, q, 0, 3000)
	ackTo(t, q, 1500)
	watch := NewWatch(q)
	defer watch.Close()
	compare := func(when string) {
		t.Helper()
		v, err := Inspect(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := q.Stats()
		if v.Cursor != s.Cursor && when != "beside it" || v.Head != s.Head || v.SID != s.SID ||
			(v.PID == os.Getpid()) != (when == "beside it") {
			t.Errorf("%s: cursor %d, head %d, sid %s, pid %d; the queue has %+v", when, v.Cursor, v.Head, v.SID, v.PID, s)
		}
		want, err := watch.Oldest()
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Oldest()
		if err != nil {
			t.Fatal(err)
		}
		if d := got.Sub(want).Abs(); want.IsZero() || d > time.Minute || time.Since(want) > time.Minute {
			t.Errorf("%s: oldest %v, the queue has %v", when, got, want)
		}
	}
	compare("beside it")
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	compare("after it")
	if v, err := Inspect(dir); err != nil || v.Receipt.UID != "uid" || v.PendingBytes < int64(v.Head-v.Cursor)*1000 ||
		v.PendingBytes > int64(v.Head-v.Cursor)*1100 {
		t.Errorf("%+v, %v", v.Stats, err)
	}
	if _, err := Inspect(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory without a queue: %v", err)
	}
}

func TestWatch_TellsWhenTheLineAtTheCursorCame(t *testing.T) {
	q, _ := mustOpen(t, t.TempDir(), small)
	watch := NewWatch(q)
	defer watch.Close()
	if at, err := watch.Oldest(); err != nil || !at.IsZero() {
		t.Errorf("nothing waits, and the oldest came at %v, %v", at, err)
	}
	stock(t, q, 0, 1000)
	for q.Stats().Cursor < q.Stats().Head {
		b, err := q.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if at, err := watch.Oldest(); err != nil || !at.Equal(b.At()) {
			t.Fatalf("oldest %v, %v; want %v", at, err, b.At())
		}
		if err := q.Ack(b.Range().End, Receipt{}); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := watch.Oldest(); err != nil || !at.IsZero() {
		t.Errorf("all is acknowledged, and the oldest came at %v, %v", at, err)
	}
}

// told is what v's blocks hold: lines, or "gap FIRST-END WHY".
func told(t *testing.T, dir string) (all []string) {
	t.Helper()
	v, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := v.Cursor
	err = v.Blocks(func(b *Block) error {
		if b.Range().First < at || b.SID() == "" {
			t.Errorf("block %v after %d, of stream %q", b.Range(), at, b.SID())
		}
		at = b.Range().End
		if g := b.Gap(); g != nil {
			all = append(all, fmt.Sprintf("gap %d-%d %s", b.Range().First, at, g.Why))
			return nil
		}
		raw, err := b.Lines(nil)
		for line := range bytes.Lines(raw) {
			all = append(all, string(line))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("%s: %d lines, want %d", what, len(got), len(want))
	}
}

func TestLook_GivesTheBacklogInOrder(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, small)
	lines := stock(t, q, 0, 4000)
	equal(t, "beside it", told(t, dir), lines)
	ackTo(t, q, 2000)
	cursor := q.Stats().Cursor
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "from the cursor on", told(t, dir), lines[cursor-1:])

	q, _ = mustOpen(t, dir, small)
	lines = append(lines, stock(t, q, 4000, 500)...)
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "of two runs", told(t, dir), lines[cursor-1:])
}

func TestPurge_LeavesAGapWithExactNumbersAndSpace(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, small)
	stock(t, q, 0, 4000)
	ackTo(t, q, 1000)
	cursor := q.Stats().Cursor
	if _, err := Purge(dir, small); !errors.Is(err, ErrLocked) {
		t.Errorf("beside a running one: %v", err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	lines, err := Purge(dir, small)
	if want := 4001 - cursor; err != nil || lines != want {
		t.Fatalf("purged %d lines, %v; want %d", lines, err, want)
	}
	equal(t, "after it", told(t, dir), []string{fmt.Sprintf("gap %d-4001 purged", cursor)})
	if names, _ := filepath.Glob(filepath.Join(dir, "*.seg")); len(names) != 1 {
		t.Errorf("files left: %v", names)
	}
	if lines, err := Purge(dir, small); err != nil || lines != 0 {
		t.Errorf("the second time: %d, %v", lines, err)
	}

	q, rec := mustOpen(t, dir, small)
	if rec.NewSID || len(rec.Gaps) > 0 {
		t.Errorf("recovery after it: %+v", rec)
	}
	stock(t, q, 4000, 10)
	if lines, lost := drained(t, q); lines != 10 || lost != 4001-cursor {
		t.Errorf("%d lines and %d lost, want 10 and %d", lines, lost, 4001-cursor)
	}
}

func TestPurge_MakesNoQueueOfWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := Purge(dir, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it made %v", left)
	}
}

func TestPurge_SurvivesAPowerCutAtEachFileCall(t *testing.T) {
	for n := 1; ; n += amount(1, 1, 5) {
		s := newStrictFS(uint64(n))
		q, _, err := open(s, small)
		if err != nil {
			t.Fatal(err)
		}
		stock(t, q, 0, 1500)
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crashAt = s.calls + n
		purged := false
		if q, w, _, err := load(s, small); err == nil {
			_, err = w.purge(q)
			purged = err == nil
			w.closeFiles()
		}
		q, rec, err := open(s.powerCut(), small)
		if err != nil {
			t.Fatal(err)
		}
		lines, lost := drained(t, q)
		if lines+lost != 1500 || lines > 0 && lost > 0 || purged && lines > 0 {
			t.Errorf("crash at call %d: %d lines, %d lost; purged %v, gaps %v", n, lines, lost, purged, rec.Gaps)
		}
		_ = q.Close(t.Context())
		if purged {
			return
		}
	}
}
