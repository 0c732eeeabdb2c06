package sqlite

import (
	"cmp"
	"slices"
	"time"
)

// finder gathers the newest hits.
type finder struct {
	*snapshot
	limit, cut int
	hits       []Hit
}

func (f *finder) run() error {
	if f.limit < 1 {
		return nil
	}
	streams, err := f.streams()
	if err != nil {
		return err
	}
	for _, st := range streams {
		if len(f.hits) == f.limit && f.hits[f.limit-1].Time.UnixMilli() > st.newest {
			return nil // nor has any stream that follows a newer line
		}
		more, err := f.stream(st)
		f.hits = append(f.hits, more...)
		slices.SortStableFunc(f.hits, func(a, b Hit) int { return b.Time.Compare(a.Time) })
		f.hits = f.hits[:min(len(f.hits), f.limit)]
		if err != nil {
			return err
		}
	}
	return nil
}

// stream gives the newest hits of one stream, the newest first, also those that
// it has when an error ends it.
func (f *finder) stream(st stream) (hits []Hit, err error) {
	sp, err := f.within(st)
	if err != nil {
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

func (d *document) hit(cut int) Hit {
	line := d.line
	if cut > 0 && len(line) > cut {
		line = line[:cut]
	}
	return Hit{d.uid(), time.UnixMilli(d.at).UTC(), d.host, string(line), len(d.line)}
}
