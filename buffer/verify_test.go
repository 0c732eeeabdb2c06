package buffer

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inFiles puts what fs holds into a real directory.
func inFiles(t *testing.T, fs *strictFS) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name := range fs.names {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), fs.bytes(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func verify(t *testing.T, fs *strictFS) (Report, string) {
	t.Helper()
	var out strings.Builder
	r, err := Verify(inFiles(t, fs), &out)
	if err != nil {
		t.Fatal(err)
	}
	return r, out.String()
}

// identify writes the IDENTITY of segmentOfBlocks.
func identify(t *testing.T, fs *strictFS) {
	t.Helper()
	i := identity{home: fs.place, pairs: []pair{{1, "aaaaaaaaaaaaaaaa"}}}
	if err := i.write(fs); err != nil {
		t.Fatal(err)
	}
}

// crashed has the lines 1 to 9 durable, 10 to 12 torn, and a cursor.
func crashed(t *testing.T) *strictFS {
	t.Helper()
	fs := newStrictFS(1)
	blocks := []*Block{lineBlock(1, 4), lineBlock(4, 7), lineBlock(7, 10), lineBlock(10, 13)}
	for _, b := range blocks {
		b.durable = b.first
	}
	segmentOfBlocks(t, fs, 1, 1, blocks...)
	identify(t, fs)
	fs.damage(segmentName(1), headEnd+3*192+headerLen, func(b []byte) { b[0]++ })
	f, err := fs.create(cursorName)
	if err != nil {
		t.Fatal(err)
	}
	c := cursor{generation: 1, acked: 4, segment: 1}
	if err := c.write(f); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestVerify_FindsNoFaultWithTheTailOfACrash(t *testing.T) {
	fs := crashed(t)
	if r, out := verify(t, fs); r.Problems > 0 || r.Head != 10 || r.Cursor != 4 || r.Blocks != 3 {
		t.Errorf("before the recovery: %+v\n%s", r, out)
	}
	inBubble(t, func() {
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		if _, err := q.Append(context.Background(), []byte("010\n"), 1, Origin{}); err != nil {
			t.Fatal(err)
		}
		closeIn(t, q)
	})
	if r, out := verify(t, fs); r.Problems > 0 || r.Head != 11 || r.Cursor != 4 || r.Segments != 2 {
		t.Errorf("and after: %+v\n%s", r, out)
	}
}

func TestVerify_NamesDamageOnce(t *testing.T) {
	fs := crashed(t)
	fs.damage(segmentName(1), headEnd+192+headerLen, func(b []byte) { b[0]++ })
	r, out := verify(t, fs)
	if want := (Range{4, 7}); r.Problems != 2 || len(r.Missing) != 1 || r.Missing[0] != want {
		t.Errorf("%+v, want %v missing\n%s", r, want, out)
	}
	inBubble(t, func() { // the gap that stands for it is in each further segment
		for range 3 {
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			closeIn(t, q)
			fs = fs.kill()
		}
	})
	r, out = verify(t, fs)
	if want := (Range{4, 7}); len(r.Missing) != 0 || len(r.Gaps) != 1 || r.Gaps[0] != want {
		t.Errorf("%+v, want a gap %v\n%s", r, want, out)
	}
}

func TestVerify_FindsTheCursorInTheBlocks(t *testing.T) {
	fs := newStrictFS(1)
	acked := lineBlock(7, 10)
	acked.acked = 7
	identify(t, fs)
	segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), acked) // 4 to 6 had their receipt, and are gone
	writeFile(t, fs, cursorName, make([]byte, 8192))
	if r, out := verify(t, fs); r.Cursor != 7 || len(r.Missing) > 0 || r.Problems != 1 {
		t.Errorf("%+v: want a problem with CURSOR alone\n%s", r, out)
	}
}

// FuzzVerify lets Verify, Dump and Look see arbitrary files.
func FuzzVerify(f *testing.F) {
	for _, b := range [][]byte{nil, make([]byte, 9000), []byte(strings.Repeat("WSRB", 3000))} {
		f.Add(b, b, false)
		f.Add(b, b, true)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, seg, cur []byte, forge bool) {
		if forge {
			seg, cur = forged(seg), forgedSlot(cur)
		}
		for name, b := range map[string][]byte{segmentName(1): seg, cursorName: cur} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Verify(dir, io.Discard); err != nil {
			t.Fatal(err)
		}
		if _, err := Dump(dir, io.Discard); err != nil {
			t.Fatal(err)
		}
		v, err := Inspect(dir)
		if err != nil {
			return // a newer version
		}
		n := 0
		_ = v.Blocks(func(b *Block) error {
			if n++; n > 100 {
				return io.EOF
			}
			_, _ = b.Lines(nil) // the checksum is right, the content need not be
			return nil
		})
	})
}
