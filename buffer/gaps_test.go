package buffer

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func gapOf(first, end uint64) *Block {
	return &Block{header: header{kind: kindGap, first: first, count: end - first}, gap: &Gap{Why: "damaged"}}
}

// drawGaps are some that do not overlap, in any order, and the numbers in them.
func drawGaps(t *rapid.T) (all []*Block, in map[uint64]*Block) {
	in = map[uint64]*Block{}
	seq := uint64(1)
	for range rapid.IntRange(0, 6).Draw(t, "gaps") {
		first := seq + rapid.Uint64Range(0, 3).Draw(t, "before")
		b := gapOf(first, first+rapid.Uint64Range(1, 4).Draw(t, "records"))
		all = append(all, b)
		for seq = first; seq < b.next(); seq++ {
			in[seq] = b
		}
	}
	return rapid.Permutation(all).Draw(t, "order"), in
}

func numbers(ranges []Range) (all []uint64) {
	for _, r := range ranges {
		for seq := r.First; seq < r.End; seq++ {
			all = append(all, seq)
		}
	}
	return all
}

func TestGaps_AnswerAsASetOfNumbersWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, in := drawGaps(t)
		var g gaps
		for _, b := range all {
			g.add(b)
			g.add(gapOf(b.first, b.next())) // as another segment lists it
		}
		if len(g) != len(all) || !slices.IsSortedFunc(g, func(a, b *Block) int { return int(a.first) - int(b.first) }) {
			t.Fatalf("%d gaps became %v", len(all), g)
		}
		r := Range{rapid.Uint64Range(0, 45).Draw(t, "first"), rapid.Uint64Range(0, 45).Draw(t, "end")}
		var left []uint64
		for seq := r.First; seq < r.End; seq++ {
			if g.at(seq) != in[seq] {
				t.Fatalf("%d is in %v, want %v", seq, g.at(seq), in[seq])
			}
			if in[seq] == nil {
				left = append(left, seq)
			}
		}
		if got := g.without(r); !slices.Equal(numbers(got), left) ||
			slices.ContainsFunc(got, func(r Range) bool { return r.Len() == 0 }) {
			t.Errorf("%v without %v is %v, want the numbers %v", r, g, got, left)
		}
		cursor := rapid.Uint64Range(0, 45).Draw(t, "cursor")
		g.acknowledge(cursor)
		for _, b := range all {
			if slices.Contains(g, b) != (b.next() > cursor) {
				t.Errorf("cursor %d: %v is there: %v", cursor, b.Range(), b.next() <= cursor)
			}
		}
	})
}

func TestQueueGaps_APendingOneCountsUntilItIsWrittenOrTakenBack(t *testing.T) {
	var q queueGaps
	durable, pending, other := gapOf(3, 5), gapOf(5, 7), gapOf(9, 10)
	q.durable.add(durable)
	q.pending.add(pending)
	q.pending.add(other)
	if got := q.without(Range{1, 12}); !slices.Equal(got, []Range{{1, 3}, {7, 9}, {10, 12}}) {
		t.Errorf("without both: %v", got)
	}
	q.written(pending)
	if q.durable.at(5) != pending || q.pending.at(5) != nil || q.pending.at(9) != other {
		t.Errorf("written: durable %v, pending %v", q.durable, q.pending)
	}
	q.pending.remove(other)
	if got := q.without(Range{1, 12}); !slices.Equal(got, []Range{{1, 3}, {7, 12}}) {
		t.Errorf("one taken back: %v", got)
	}
}
