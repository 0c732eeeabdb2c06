package journal

import (
	"slices"
	"sort"
)

// Span is a range of numbers: from the first up to, and without, the second.
type Span [2]uint64

// Spans are a set of numbers: ascending, with at least one number between two.
type Spans []Span

// Count is how many numbers are in the set.
func (s Spans) Count() (n uint64) {
	for _, p := range s {
		n += p[1] - p[0]
	}
	return n
}

// End is the number after the highest one, or 0.
func (s Spans) End() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1][1]
}

// find gives the index of the first span that ends after seq.
func (s Spans) find(seq uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i][1] > seq })
}

func (s Spans) covers(from, to uint64) bool {
	i := s.find(from)
	return i < len(s) && s[i][0] <= from && to <= s[i][1]
}

// split calls f with consecutive pieces, each either in the set or not.
func (s Spans) split(from, to uint64, f func(from, to uint64, in bool)) {
	for i := s.find(from); from < to; {
		next, in := to, false
		if i < len(s) {
			if in = s[i][0] <= from; in {
				next = min(to, s[i][1])
				i++
			} else {
				next = min(to, s[i][0])
			}
		}
		f(from, next, in)
		from = next
	}
}

func (s *Spans) add(from, to uint64) {
	if from >= to {
		return
	}
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i][1] >= from })
	k := i
	for ; k < len(*s) && (*s)[k][0] <= to; k++ {
		from, to = min(from, (*s)[k][0]), max(to, (*s)[k][1])
	}
	*s = slices.Replace(*s, i, k, Span{from, to})
}

func (s *Spans) remove(from, to uint64) {
	i := s.find(from)
	k := i
	var rest Spans
	for ; k < len(*s) && (*s)[k][0] < to; k++ {
		if p := (*s)[k]; p[0] < from {
			rest = append(rest, Span{p[0], from})
		}
		if p := (*s)[k]; p[1] > to {
			rest = append(rest, Span{to, p[1]})
		}
	}
	*s = slices.Replace(*s, i, k, rest...)
}
