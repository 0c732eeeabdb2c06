package harness

import (
	"bytes"
	"testing"
)

func TestLines_AreWhereArithmeticSays(t *testing.T) {
	const first = 1000
	var b []byte
	for n := uint64(first); n < first+3*period; n++ {
		if got := LineAt(first, int64(len(b))); got != n {
			t.Fatalf("LineAt(%d) = %d, want %d", len(b), got, n)
		}
		if got := LineAt(first, int64(len(b)+lengths[n%period]-1)); got != n {
			t.Fatalf("one byte short: %d, want %d", got, n)
		}
		line := AppendLine(nil, n)
		if got, ok := NumberOf(bytes.TrimSuffix(line, []byte("\n"))); got != n || !ok {
			t.Fatalf("NumberOf(line %d) = %d, %t", n, got, ok)
		}
		line[len(line)/2] ^= 1
		if _, ok := NumberOf(bytes.TrimSuffix(line, []byte("\n"))); ok {
			t.Fatalf("line %d with a flipped bit passes", n)
		}
		b = AppendLine(b, n)
	}
	if got := Piece(first, 777, 9999); !bytes.Equal(got, b[777:9999]) {
		t.Error("piece differs from the stream")
	}
}
