package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// Histogram is how many lines there are over time, in bars of the same width.
type Histogram struct {
	From     time.Time // of the first bar, a multiple of Width
	Width    time.Duration
	Counts   []int64
	Complete bool      // false: the budget was used up
	Since    time.Time // then: bars before the one that holds this lack lines
}

// widths are the widths that a bar can have; after them come multiples of the
// last.
var widths = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Histogram counts the lines that match, in at most the given number of bars
// over the query's time; an end that it leaves open is that of the store. The
// newest are counted first, until the budget is used up (0: there is none).
func (r *Reader) Histogram(ctx context.Context, q *Query, bars int, budget time.Duration) (Histogram, error) {
	var h Histogram
	err := r.snapshot(ctx, q, budget, func(s *snapshot) error {
		from, to, err := s.bounds()
		if err == nil && from.Before(to) {
			h = layOut(from, to, max(1, bars))
			err = (&counter{snapshot: s, h: &h}).run()
		}
		h.Complete, err = s.inTime(err)
		return err
	})
	if err != nil {
		return Histogram{}, fmt.Errorf("histogram: %w", err)
	}
	return h, nil
}

// layOut gives the narrowest bars of which so many are enough.
func layOut(from, to time.Time, bars int) Histogram {
	last := widths[len(widths)-1]
	for i := 0; ; i++ {
		width := last * time.Duration(i-len(widths)+2)
		if i < len(widths) {
			width = widths[i]
		}
		w := width.Milliseconds()
		first, end := from.UnixMilli()/w, (to.UnixMilli()+w-1)/w
		if n := end - first; n <= int64(bars) {
			return Histogram{From: time.UnixMilli(first * w).UTC(), Width: width, Counts: make([]int64, n)}
		}
	}
}

// bounds gives the time that the query can be about.
func (s *snapshot) bounds() (from, to time.Time, err error) {
	var first, last sql.NullInt64
	err = s.tx.QueryRowContext(s.ctx, "SELECT (SELECT min(minute) FROM runs), (SELECT max(minute) FROM runs)").Scan(&first, &last)
	if err != nil || !first.Valid {
		return from, to, err
	}
	from, to = time.UnixMilli(first.Int64*minute), time.UnixMilli((last.Int64+1)*minute)
	if !s.query.From.IsZero() {
		from = s.query.From
	}
	if !s.query.To.IsZero() {
		to = s.query.To
	}
	return from, to, nil
}

// counter fills in a histogram.
type counter struct {
	*snapshot
	h       *Histogram
	exact   bool // what the index has fits the query
	streams map[int64]stream
}

// run is a run of documents.
type run struct {
	span
	minute int64
}

// stretch is how many runs are looked up at once.
const stretch = 10_000

func (c *counter) run() error {
	streams, err := c.snapshot.streams()
	if err != nil {
		return err
	}
	c.streams = map[int64]stream{}
	for _, st := range streams {
		c.streams[st.number] = st
	}
	_, c.exact = c.query.expression()
	from, to := c.query.minutes()
	// Pages by (minute, first), the key of the index.
	for next := (run{minute: to, span: span{first: 1<<63 - 1}}); ; {
		runs, err := c.runs(from, next)
		if err != nil {
			return err
		}
		if len(runs) < stretch {
			return c.countAll(runs)
		}
		next = runs[len(runs)-1]
		if err := c.countAll(runs); err != nil {
			return err
		}
	}
}

// countAll counts the documents of the runs, the newest bar first. Runs that are
// one span of documents of one bar are counted at once.
func (c *counter) countAll(runs []run) error {
	slices.SortFunc(runs, func(a, b run) int {
		return cmp.Or(cmp.Compare(c.bar(b.minute*minute), c.bar(a.minute*minute)), cmp.Compare(b.first, a.first))
	})
	for len(runs) > 0 {
		n := c.alike(runs)
		if err := c.count(span{runs[n-1].first, runs[0].last}, runs[0].minute); err != nil {
			return err
		}
		c.h.Since = time.UnixMilli(runs[n-1].minute * minute).UTC()
		runs = runs[n:]
	}
	return nil
}

// runs gives the runs from a minute on up to right before a run, the newest
// minute first.
func (c *counter) runs(from int64, before run) (runs []run, err error) {
	err = c.each(`SELECT first, last, minute FROM runs WHERE minute >= ? AND (minute, first) < (?, ?)
		ORDER BY minute DESC, first DESC LIMIT ?`, []any{from, before.minute, before.first, stretch},
		func(scan func(...any) error) error {
			var r run
			if err := scan(&r.first, &r.last, &r.minute); err != nil {
				return err
			}
			runs = append(runs, r)
			return nil
		})
	return runs, err
}

// alike says how many of the runs, from the first on, are one span of documents
// that belong to one bar.
func (c *counter) alike(runs []run) int {
	n := 1
	for n < len(runs) && runs[n].last+1 == runs[n-1].first && c.whole(runs[n].minute) && c.whole(runs[0].minute) &&
		c.bar(runs[n].minute*minute) == c.bar(runs[0].minute*minute) {
		n++
	}
	return n
}

// bar gives the number of the bar of a time; it may not be there.
func (c *counter) bar(at int64) int {
	return int((at - c.h.From.UnixMilli()) / c.h.Width.Milliseconds())
}

// whole reports whether all of a minute belongs to one bar and to the query.
func (c *counter) whole(m int64) bool {
	from, to := c.query.From, c.query.To
	return c.h.Width >= time.Minute &&
		(from.IsZero() || from.UnixMilli() <= m*minute) && (to.IsZero() || (m+1)*minute <= to.UnixMilli())
}

// count counts documents that stand one behind the other, all of one bar if
// their minute is whole.
func (c *counter) count(sp span, m int64) error {
	st, ok := c.streams[sp.first>>seqBits]
	switch {
	case !ok:
		return nil // not a stream that the query asks for
	case !c.exact || !c.whole(m):
		return c.visit(st, sp, func(d *document) error { c.add(d); return nil })
	case c.query.root == nil:
		c.h.Counts[c.bar(m*minute)] += sp.last - sp.first + 1
		return nil
	}
	var n int64
	err := c.tx.QueryRowContext(c.ctx, "SELECT count(*) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?",
		c.fts, sp.first, sp.last).Scan(&n)
	if err != nil {
		return err
	}
	c.h.Counts[c.bar(m*minute)] += n
	rest, err := c.unindexed(sp)
	for i := 0; i < len(rest) && err == nil; i++ {
		err = c.scan(st, rest[i], func(d *document) error { c.add(d); return nil })
	}
	return err
}

func (c *counter) add(d *document) {
	if c.query.matches(d) {
		c.h.Counts[c.bar(d.at)]++
	}
}
