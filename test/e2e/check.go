package e2e

import (
	"encoding/json"
	"iter"
	"slices"
)

// Verdict is what the documents of a store say about the lines of a Feeder.
type Verdict struct {
	Sent      int
	Received  [kinds]int // documents by kind, doubled ones too
	Lost      int        // lines without a document
	Doubled   int        // documents beyond the first of a line
	Altered   int        // documents of our programs that are not a line that was sent
	Unordered int        // documents behind a later line of their kind
}

// OK reports whether every line is there once, in order, byte for byte.
func (v Verdict) OK() bool { return v.Lost+v.Doubled+v.Altered+v.Unordered == 0 }

// Total is the number of documents that were received.
func (v Verdict) Total() int {
	return v.Received[Access] + v.Received[Supervisor] + v.Received[Syslog]
}

// Check compares the documents, given in the store's order, with the first
// sent lines of a Feeder. Documents of other programs do not count.
func Check(documents iter.Seq2[[]byte, error], sent int) (Verdict, error) {
	v := Verdict{Sent: sent}
	seen, last := make([]bool, sent), [kinds]int{-1, -1, -1}
	for document, err := range documents {
		if err != nil {
			return v, err
		}
		var d struct{ Program, Message string }
		_ = json.Unmarshal(document, &d) // what is not JSON is not from this chain
		kind := Kind(slices.Index(programs[:], d.Program))
		if kind < 0 {
			continue
		}
		v.Received[kind]++
		n, ok := numberOf(d.Message)
		line := n*int(kinds) + int(kind)
		switch {
		case !ok || line >= sent || d.Message != kind.Message(n):
			v.Altered++
		case seen[line]:
			v.Doubled++
		case n < last[kind]:
			v.Unordered++
			seen[line] = true
		default:
			seen[line], last[kind] = true, n
		}
	}
	for _, there := range seen {
		if !there {
			v.Lost++
		}
	}
	return v, nil
}
