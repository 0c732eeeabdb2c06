package buffer

import (
	"cmp"
	"slices"
)

// gaps are blocks that stand for records which will never come: in the order of
// their numbers, and each once.
type gaps []*Block

func (g *gaps) add(b *Block) {
	k, there := slices.BinarySearchFunc(*g, b, func(a, b *Block) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.next(), b.next()))
	})
	if !there {
		*g = slices.Insert(*g, k, b)
	}
}

// remove takes out one gap.
func (g *gaps) remove(b *Block) {
	*g = slices.DeleteFunc(*g, func(c *Block) bool { return c == b })
}

// acknowledge takes out the gaps of which every record is below the cursor.
func (g *gaps) acknowledge(cursor uint64) {
	*g = slices.DeleteFunc(*g, func(b *Block) bool { return b.next() <= cursor })
}

// at is the gap that record seq is in; nil: it is in none.
func (g gaps) at(seq uint64) *Block {
	for _, b := range g {
		if b.Range().has(seq) {
			return b
		}
	}
	return nil
}

// without is what of r is in no gap.
func (g gaps) without(r Range) (left []Range) {
	for _, b := range g {
		if end := min(b.first, r.End); r.First < end {
			left = append(left, Range{r.First, end})
		}
		r.First = max(r.First, b.next())
	}
	if r.First < r.End {
		left = append(left, r)
	}
	return left
}

// queueGaps are the gaps of a queue that is open.
type queueGaps struct {
	durable gaps // not acknowledged
	pending gaps // on their way to the disk: nothing that they cover is given out
}

// written notes that b, which was pending, is durable.
func (g *queueGaps) written(b *Block) {
	g.pending.remove(b)
	g.durable.add(b)
}

// without is what of r is in no gap, and will be in none of the pending ones.
func (g *queueGaps) without(r Range) (left []Range) {
	for _, x := range g.durable.without(r) {
		left = append(left, g.pending.without(x)...)
	}
	return left
}
