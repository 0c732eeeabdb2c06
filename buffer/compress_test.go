package buffer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"wsrelay/internal/codec"
)

// slowFS is a file system whose writes take as long as their bytes, at a rate.
type slowFS struct {
	*strictFS
	rate int
}

func (s slowFS) create(name string) (file, error) { return s.slow(s.strictFS.create(name)) }
func (s slowFS) openForWriting(name string) (file, error) {
	return s.slow(s.strictFS.openForWriting(name))
}

func (s slowFS) slow(f file, err error) (file, error) { return slowFile{f, s.rate}, err }

func (s slowFS) holds(name string, f file) (bool, error) {
	return s.strictFS.holds(name, f.(slowFile).file)
}

type slowFile struct {
	file
	rate int
}

func (f slowFile) writeAt(b []byte, off int64) error {
	time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(f.rate))
	return f.file.writeAt(b, off)
}

// stored appends n bytes as fast as they are taken, and gives how many of them were
// stored in each encoding.
func stored(t *testing.T, fs fileSystem, o Options, n int) map[codec.Codec]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of the bubble's
	defer cancel()
	var piece bytes.Buffer // S2 leaves three fifths of it, zstd two
	lines := 0
	for ; piece.Len() < 256<<10; lines++ {
		sum := sha256.Sum256(fmt.Append(nil, lines))
		fmt.Fprintln(&piece, hex.EncodeToString(sum[:]), hex.EncodeToString(sum[8:]))
	}
	q, _, err := open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(ctx)
	var last Range
	for ; n > 0; n -= piece.Len() {
		if last, err = q.Append(ctx, piece.Bytes(), lines, Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.WaitDurable(ctx, last.End); err != nil {
		t.Fatal(err)
	}
	by := map[codec.Codec]int{}
	for next := uint64(1); next < last.End; {
		b, err := q.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		by[b.Codec()] += b.RawLen()
		next = b.Range().End
	}
	t.Logf("%d MiB raw, %d MiB s2, %d MiB zstd", by[codec.Raw]>>20, by[codec.S2]>>20, by[codec.Zstd]>>20)
	return by
}

func TestWriter_AutoEncodesMoreWhereTheDiskLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes 160 MiB")
	}
	inBubble(t, func() {
		by := stored(t, slowFS{newStrictFS(1), 20e6}, Options{}, 160<<20)
		if by[codec.Zstd] < 100<<20 {
			t.Errorf("%d of 160 MiB as zstd", by[codec.Zstd]>>20)
		}
	})
}

func TestWriter_AutoStoresTheFewestBytesWhereSpaceIsScarce(t *testing.T) {
	inBubble(t, func() {
		by := stored(t, newStrictFS(1), Options{Limit: 32 << 20}, 80<<20)
		if by[codec.Zstd] < 16<<20 {
			t.Errorf("%d of 80 MiB as zstd in a queue of at most 32 MiB", by[codec.Zstd]>>20)
		}
	})
}
