package sqlite

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// finder gathers the newest hits.
type finder struct {
	*snapshot
	limit, cut int
	hits       []Hit
	recent     map[int64][]run // by stream, those that may have a newer line than the hits; nil: all may
}

// recentRuns is how many runs a finder looks through at most, to pass by what it
// need not read: a few hundredths of a second's work, that saves much more where
// there are many streams.
const recentRuns = 100_000

func (f *finder) run() error {
	if f.limit < 1 {
		return nil
	}
	streams, err := f.streams()
	if err != nil {
		return err
	}
	for _, st := range streams {
		since := int64(math.MinInt64) // older lines are of no use
		if len(f.hits) == f.limit {
			since = f.hits[f.limit-1].Time.UnixMilli()
		}
		if since > st.newest {
			return nil // nor has any stream that follows a newer line
		}
		more, err := f.stream(st, since)
		f.hits = append(f.hits, more...)
		slices.SortStableFunc(f.hits, func(a, b Hit) int { return b.Time.Compare(a.Time) })
		f.hits = f.hits[:min(len(f.hits), f.limit)]
		if err == nil && len(f.hits) == f.limit && since == math.MinInt64 {
			err = f.findRecent(f.hits[f.limit-1].Time.UnixMilli())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// findRecent finds out which runs may have lines as new as that, unless there are
// too many to look through.
func (f *finder) findRecent(since int64) error {
	recent, n := map[int64][]run{}, 0
	err := f.each("SELECT first, minute FROM runs WHERE minute >= ? LIMIT ?", []any{since / minute, recentRuns + 1},
		func(scan func(...any) error) error {
			var r run
			err := scan(&r.first, &r.minute)
			recent[r.first>>seqBits] = append(recent[r.first>>seqBits], r)
			n++
			return err
		})
	if n <= recentRuns {
		f.recent = recent
	}
	return err
}

// narrow gives the part of a stream's documents that holds all that are as new as
// that.
func (f *finder) narrow(st stream, sp span, since int64) span {
	if f.recent == nil {
		return sp
	}
	first := int64(math.MaxInt64)
	for _, r := range f.recent[st.number] {
		if r.minute >= since/minute {
			first = min(first, r.first)
		}
	}
	return span{max(sp.first, first), sp.last}
}

// stream gives the newest hits of one stream, of those that are as new as that,
// the newest first, also those that it has when an error ends it.
func (f *finder) stream(st stream, since int64) (hits []Hit, err error) {
	sp, err := f.within(st)
	if sp = f.narrow(st, sp, since); err != nil || sp.first > sp.last {
		return nil, err
	}
	n, previous := 0, int64(0)
	err = f.visit(st, sp, func(d *document) error {
		if d.id > previous {
			n = 0 // here begins what is not in the index: count anew
		}
		previous = d.id
		switch {
		case n == f.limit:
			return errEnough
		case f.query.matches(d):
			hits = append(hits, d.hit(f.cut))
			n++
		}
		return nil
	})
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Compare(b.UID, a.UID) })
	return hits[:min(len(hits), f.limit)], err
}

// hit gives the document as a hit, with Request.Cut.
func (d *document) hit(cut int) Hit {
	h := Hit{UID: d.uid(), Time: time.UnixMilli(d.at).UTC(), Host: d.host, Size: len(d.line)}
	if cut == 0 {
		h.Line = string(d.line)
		return h
	}
	s := Summarize(d.line[:min(len(d.line), maxSearched)])
	for _, part := range []*string{&s.Host, &s.Program, &s.Message, &s.Severity} {
		*part = strings.Clone((*part)[:min(len(*part), cut)]) // without the memory of the line
	}
	h.Line, h.Summary = string(d.line[:min(len(d.line), cut)]), &s
	return h
}
