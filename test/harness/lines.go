package harness

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
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

// AppendLine appends line n with its newline.
func AppendLine(b []byte, n uint64) []byte {
	b = fmt.Appendf(b, "%010d ", n)
	from := int(n * 31 % 512)
	b = append(b, filler[from:from+lengths[n%period]-12]...)
	return append(b, '\n')
}

// NumberOf is the number of a line without its newline; false: it is none of
// ours, or not as it was sent.
func NumberOf(line []byte) (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(line[:min(10, len(line))]), 10, 64)
	if err != nil || len(line)+1 != lengths[n%period] {
		return 0, false
	}
	from := int(n * 31 % 512)
	return n, line[10] == ' ' && string(line[11:]) == filler[from:from+len(line)-11]
}

// Offset is how many bytes the lines below n take.
func Offset(n uint64) int64 {
	return int64(n/period)*starts[period] + starts[n%period]
}

// LineAt is the line that comes next in a stream that began with line first
// and holds size bytes: the lines below are in it whole.
func LineAt(first uint64, size int64) uint64 {
	size += Offset(first)
	k := sort.Search(period, func(k int) bool { return starts[k+1] > size%starts[period] })
	return uint64(size/starts[period])*period + uint64(k)
}

// Piece is bytes from to to of the stream that begins with line first.
func Piece(first uint64, from, to int64) []byte {
	n := LineAt(first, from)
	skip := from + Offset(first) - Offset(n)
	var b []byte
	for int64(len(b)) < skip+to-from {
		b = AppendLine(b, n)
		n++
	}
	return b[skip : skip+to-from]
}
