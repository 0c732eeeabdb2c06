package buffer

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestScanner_WalksOverWhatIsDamaged: of three blocks the second is damaged, in
// its header or in its payload.
func TestScanner_WalksOverWhatIsDamaged(t *testing.T) {
	for name, damage := range map[string]struct {
		at    int64
		found int
	}{"header": {0, 2}, "payload": {headerLen, 3}} {
		fs := newStrictFS(1)
		segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 8), lineBlock(8, 10))
		file := fs.bytes(segmentName(1))
		second := headEnd + lineBlock(1, 4).span()
		file[second+damage.at]++
		seg, err := readSegment(bytes.NewReader(file), 1)
		mustBe(t, err)
		scan := newScanner(bytes.NewReader(file), seg, int64(len(file)))
		data := 0
		for h, err := range scan.blocks() {
			mustBe(t, err)
			b, err := scan.sound(h)
			mustBe(t, err)
			if h.kind == kindData {
				data++
			}
			if (b == nil) != (h.first == 4) {
				t.Errorf("%s: the block of %d is %v", name, h.first, b)
			}
			if h.first == 8 && (scan.expect != 4 || scan.good != second || scan.off <= second) {
				t.Errorf("%s: found %d at %d, expected %d, all is well up to %d, want %d", name, h.first, scan.off,
					scan.expect, scan.good, second)
			}
		}
		if data != damage.found || scan.expect != 10 || scan.good != scan.off {
			t.Errorf("%s: found %d blocks, the next is %d, all is well up to %d of %d", name, data, scan.expect,
				scan.good, scan.off)
		}
	}
}

func TestScanner_StaysAtWhatItHasFound(t *testing.T) {
	fs := newStrictFS(1)
	segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(6, 8), newSeal(8))
	file := fs.bytes(segmentName(1))
	seg, err := readSegment(bytes.NewReader(file), 1)
	mustBe(t, err)
	scan := newScanner(bytes.NewReader(file), seg, int64(len(file)))
	for _, c := range []struct{ seq, first, expect uint64 }{{2, 1, 1}, {3, 1, 1}, {4, 6, 4}, {7, 6, 4}} {
		if h, err := scan.find(c.seq); err != nil || h.first != c.first || scan.expect != c.expect {
			t.Errorf("looked for %d: at %d, expect %d, %v", c.seq, h.first, scan.expect, err)
		}
	}
	if h, err := scan.find(8); !errors.Is(err, io.EOF) {
		t.Errorf("found %v, %v", h, err)
	}
	if next, err := scan.end(); err != nil || next != 8 {
		t.Errorf("ends at %d, %v", next, err)
	}
}
