package buffer

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
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
	o := Options{Limit: MinLimit, DropOldest: true, Compress: CompressNone}
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

func TestQueue_MaxAgeGivesUpOldSegmentsOnly(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, _, err := open(fs, Options{Limit: 1 << 20, MaxAge: time.Hour, Compress: CompressNone})
		if err != nil {
			t.Fatal(err)
		}
		q.unlock = nopCloser{}
		defer q.Close(context.Background()) //nolint:errcheck // the end of the test
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
