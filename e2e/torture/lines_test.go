package torture

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// Line n is its number in ten digits, a blank, and a text that n determines, so
// that one look tells whether a line is whole. Lengths repeat every period
// lines: where in a stream a line stands is arithmetic.
const period = 64

var (
	filler  = strings.Repeat(`{"host":"shop.example","path":"/orders/7?q=café","status":200,"agent":"Mozilla/5.0 (X11)","ms":48} `, 60)
	lengths [period]int       // with the newline
	starts  [period + 1]int64 // of the lines of a period
)

func init() {
	for k := range period {
		lengths[k] = 12 + k*97%400
		if k == period/2 {
			lengths[k] = 4000
		}
		starts[k+1] = starts[k] + int64(lengths[k])
	}
}

// appendLine appends line n with its newline.
func appendLine(b []byte, n uint64) []byte {
	b = fmt.Appendf(b, "%010d ", n)
	from := int(n * 31 % 512)
	b = append(b, filler[from:from+lengths[n%period]-12]...)
	return append(b, '\n')
}

// numberOf is the number of a line without its newline; false: it is none of
// ours, or not as it was sent.
func numberOf(line []byte) (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(line[:min(10, len(line))]), 10, 64)
	if err != nil || len(line)+1 != lengths[n%period] {
		return 0, false
	}
	from := int(n * 31 % 512)
	return n, line[10] == ' ' && string(line[11:]) == filler[from:from+len(line)-11]
}

// offset is how many bytes the lines below n take.
func offset(n uint64) int64 {
	return int64(n/period)*starts[period] + starts[n%period]
}

// lineAt: a stream that begins with line first holds, in size bytes, the lines
// below the one returned whole.
func lineAt(first uint64, size int64) uint64 {
	size += offset(first)
	k := sort.Search(period, func(k int) bool { return starts[k+1] > size%starts[period] })
	return uint64(size/starts[period])*period + uint64(k)
}

// piece is bytes from to to of the stream that begins with line first.
func piece(first uint64, from, to int64) []byte {
	n := lineAt(first, from)
	skip := from + offset(first) - offset(n)
	var b []byte
	for int64(len(b)) < skip+to-from {
		b = appendLine(b, n)
		n++
	}
	return b[skip : skip+to-from]
}

func TestLines_AreWhereArithmeticSays(t *testing.T) {
	const first = 1000
	var b []byte
	for n := uint64(first); n < first+3*period; n++ {
		if got := lineAt(first, int64(len(b))); got != n {
			t.Fatalf("lineAt(%d) = %d, want %d", len(b), got, n)
		}
		if got := lineAt(first, int64(len(b)+lengths[n%period]-1)); got != n {
			t.Fatalf("one byte short: %d, want %d", got, n)
		}
		line := appendLine(nil, n)
		if got, ok := numberOf(bytes.TrimSuffix(line, []byte("\n"))); got != n || !ok {
			t.Fatalf("numberOf(line %d) = %d, %t", n, got, ok)
		}
		line[len(line)/2] ^= 1
		if _, ok := numberOf(bytes.TrimSuffix(line, []byte("\n"))); ok {
			t.Fatalf("line %d with a flipped bit passes", n)
		}
		b = appendLine(b, n)
	}
	if got := piece(first, 777, 9999); !bytes.Equal(got, b[777:9999]) {
		t.Error("piece differs from the stream")
	}
}
