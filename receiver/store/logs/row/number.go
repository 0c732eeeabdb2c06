package row

import (
	"fmt"
	"strconv"
)

// seqBase is added to each number of a line, so that who looks for 404 in every
// field does not find line 404 of each stream. It and the numbers behind it are
// exact as the floating point numbers as which the library compares them.
const seqBase = 1_000_000_000_000_000

// skeletonMark stands before the number of a skeleton, for the same reason.
const skeletonMark = 'k'

// SeqValue is the value of wsrelay.seq for the line seq.
func SeqValue(seq uint64) string { return strconv.FormatUint(seqBase+seq, 10) }

// Seq gives the number of a line of its wsrelay.seq.
func Seq(value string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n < seqBase {
		return 0, fmt.Errorf("a row has no number of a line: %q", value)
	}
	return n - seqBase, nil
}
