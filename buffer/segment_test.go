package buffer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"wsrelay/internal/codec"
)

// lineBlock is a block of lines "00N\n", from first up to end.
func lineBlock(first, end uint64) *Block {
	b := &Block{header: header{kind: kindData, first: first, count: end - first}, buf: make([]byte, headerLen)}
	for seq := first; seq < end; seq++ {
		b.buf = fmt.Appendf(b.buf, "%03d\n", seq)
	}
	b.encode(codec.Raw, nil)
	return b
}

// segmentOfBlocks puts a segment with these blocks there, as a queue would.
func segmentOfBlocks(t *testing.T, fs *strictFS, id, base uint64, blocks ...*Block) {
	t.Helper()
	_, _, err := createSegment(fs, &segment{id: id, base: base, sid: "aaaaaaaaaaaaaaaa", nonce: id}, blocks)
	mustBe(t, err)
}

func TestQueue_ReadsASegmentNoFurtherThanTheBaseOfTheNext(t *testing.T) {
	for name, torn := range map[string]bool{"torn": true, "whole": false} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 8)) // the second was cut, once
			segmentOfBlocks(t, fs, 3, 6, lineBlock(6, 9))                  // the segment between is lost
			if torn {
				fs.damage(segmentName(1), headEnd+192+headerLen, func(b []byte) { b[0]++ })
			}
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			defer closeIn(t, q)
			for _, want := range []Range{{1, 4}, {4, 6}, {6, 9}} {
				b, err := q.Next(context.Background())
				if err != nil || b == nil || b.Range() != want || (b.Gap() != nil) != (torn && want.First == 4) {
					t.Fatalf("%s: got %+v, %v, want %v", name, b, err, want)
				}
				if lines, err := b.Lines(nil); b.Gap() == nil &&
					!bytes.Equal(lines, lineBlock(want.First, want.End).Encoded()) {
					t.Errorf("%s: %v has %q, %v", name, want, lines, err)
				}
			}
		})
	}
}

func TestRecovery_AVersionCountsOnlyWithItsChecksum(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4))
		for _, off := range []int{8, halfLen + 100, headAt} { // the version; anything in the other copies
			fs.damage(segmentName(1), off, func(b []byte) { b[0] ^= 0x80 })
		}
		q, rec := openIn(t, fs, Options{Limit: modelLimit})
		closeIn(t, q)
		if len(rec.Quarantined) != 1 {
			t.Errorf("quarantined %v", rec.Quarantined)
		}
	})
}

// A queue of a newer wsrelay stays as it is, whatever comes meanwhile.
func TestOpen_LeavesAQueueOfANewerVersionAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, segmentName(5))
	newer, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range [][]byte{newer[:halfLen], newer[halfLen:pageLen]} {
		binary.LittleEndian.PutUint32(page[8:], formatVersion+1)
		binary.LittleEndian.PutUint32(page[halfLen-4:], crc32.Checksum(page[:halfLen-4], castagnoli))
	}
	if err := os.WriteFile(name, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, cursorName)); err != nil { // it is not made either
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), []byte("no segment"), 0o600); err != nil { // nor is this quarantined
		t.Fatal(err)
	}
	before := filesIn(t, dir)
	for round := range uint64(2) {
		q, _ := mustOpen(t, dir, Options{})
		r, err := q.Append(t.Context(), goldenLines(0), 5, Origin{})
		if want := round*5 + 1; err != nil || r.First != want {
			t.Errorf("appended at %v, %v, want %d", r, err, want)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	after := filesIn(t, dir)
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
	if len(after) != len(before)+1 { // older
		t.Errorf("%d files, then %d", len(before), len(after))
	}
}

// filesIn is what the files in dir hold; of a folder, nothing.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !e.IsDir() {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}
