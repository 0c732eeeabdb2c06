package buffer

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/internal/codec"
)

var update = flag.Bool("update", false, "write the newest of the golden files anew: only where the format has changed")

// The golden files: as the first wsrelay wrote them, and with head blocks and
// durable in CURSOR.
const (
	golden = "testdata/v1"
	newest = "testdata/v1-head"
)

// goldenLines are the lines of round k.
func goldenLines(k int) (lines []byte) {
	for n := range 5 {
		lines = fmt.Appendf(lines, "round %d line %d %s\n", k, n, strings.Repeat("ab", 40))
	}
	return lines
}

// writeGolden makes a queue of four rounds of five lines, in each codec, of
// which the second is lost, and the gap says so.
func writeGolden(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(newest); err != nil {
		t.Fatal(err)
	}
	for k, c := range []codec.Codec{codec.Raw, codec.Raw, codec.Zstd, codec.S2} {
		q, _ := mustOpen(t, newest, Options{Codec: &c})
		r, err := q.Append(t.Context(), goldenLines(k), 5, Origin{Intake: 9, End: int64(k+1) * 1000})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.WaitDurable(t.Context(), r.End); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(newest, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	q, _ := mustOpen(t, newest, Options{})
	for range 2 { // the first round, and the gap
		if _, err := q.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestFormat_ReadsAQueueOfVersion1(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for _, golden := range []string{golden, newest} {
		t.Run(filepath.Base(golden), func(t *testing.T) { readGolden(t, golden) })
	}
}

func readGolden(t *testing.T, golden string) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	q, rec := mustOpen(t, dir, Options{})
	defer q.Close(context.Background())
	if end, _, ok := rec.Intake(9); !ok || end != 4000 || len(rec.Gaps) > 0 || len(rec.Quarantined) > 0 {
		t.Errorf("intake at %d (%v), gaps %v, quarantined %v", end, ok, rec.Gaps, rec.Quarantined)
	}
	for k, want := range []codec.Codec{codec.Raw, codec.Raw, codec.Zstd, codec.S2} {
		b, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := (Range{uint64(k)*5 + 1, uint64(k)*5 + 6}); b.Range() != want {
			t.Fatalf("got %v, want %v", b.Range(), want)
		}
		if k == 1 {
			if b.Gap() == nil || b.Gap().Why != "damaged" {
				t.Errorf("got gap %+v", b.Gap())
			}
			continue
		}
		if lines, err := b.Lines(nil); err != nil || !bytes.Equal(lines, goldenLines(k)) || b.Codec() != want {
			t.Errorf("round %d: codec %d, %v, %q", k, b.Codec(), err, lines)
		}
	}
	if s := q.Stats(); s.Head != 21 || s.Cursor != 1 {
		t.Errorf("head %d cursor %d, want 21 1", s.Head, s.Cursor)
	}
}

func TestFormat_EncodesWhatItDecodes(t *testing.T) {
	for _, golden := range []string{golden, newest} {
		t.Run(filepath.Base(golden), func(t *testing.T) { encodeGolden(t, golden) })
	}
}

func encodeGolden(t *testing.T, golden string) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(golden, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kinds := map[kind]int{}
	names, err := filepath.Glob(filepath.Join(golden, "*.seg"))
	if err != nil || len(names) < 3 {
		t.Fatalf("segments %v, %v", names, err)
	}
	for _, name := range names {
		name = filepath.Base(name)
		b := read(name)
		seg, blocks := blocksIn(t, name, b)
		if seg == nil || len(blocks) == 0 {
			t.Fatalf("%s: no segment, or no blocks", name)
		}
		if got := seg.page(); !bytes.Equal(got, b[:pageLen]) {
			t.Errorf("%s: the header encodes to other bytes", name)
		}
		for _, p := range blocks {
			kinds[p.kind]++
			got := make([]byte, headerLen)
			p.put(got, seg.nonce)
			if !bytes.Equal(got, b[p.off:p.off+headerLen]) {
				t.Errorf("%s: the block at %d encodes to other bytes", name, p.off)
			}
		}
	}
	if (kinds[kindHead] > 0) != (golden == newest) || kinds[kindData] < 3 || kinds[kindGap] == 0 ||
		kinds[kindSeal] == 0 {
		t.Errorf("kinds %v: one is missing", kinds)
	}
	cur := read(cursorName)
	slots := 0
	for off := 0; off+slotLen <= len(cur); off += slotStride {
		if c, ok := getSlot(cur[off : off+slotLen]); ok {
			slots++
			if !bytes.Equal(c.slot(), cur[off:off+slotLen]) {
				t.Errorf("the slot at %d of CURSOR encodes to other bytes", off)
			}
		}
	}
	ident, err := readIdentity(mustOpenDir(t, golden))
	if err != nil || !bytes.Equal(ident.text(), read(identityName)) || len(ident.pairs) == 0 || slots == 0 {
		t.Errorf("identity %+v, %v; %d slots", ident, err, slots)
	}
}
