package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"

	"github.com/tidwall/gjson"
)

// widths are the widths that a bar can have; after them come multiples of the
// last.
var widths = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// bars are bars of a histogram, of the same width.
type bars struct {
	from   time.Time // of the first, a multiple of width
	width  time.Duration
	counts []int64
}

// layOut gives the narrowest bars of which so many are enough.
func layOut(from, to time.Time, most int) *bars {
	last := widths[len(widths)-1]
	for i := 0; ; i++ {
		width := last * time.Duration(i-len(widths)+2)
		if i < len(widths) {
			width = widths[i]
		}
		w := width.Milliseconds()
		first, end := from.UnixMilli()/w, (to.UnixMilli()+w-1)/w
		if n := end - first; n <= int64(most) {
			return &bars{time.UnixMilli(first * w).UTC(), width, make([]int64, n)}
		}
	}
}

// span gives the query's time; an end that it leaves open is that of the lines.
func (a *queryAPI) span(ctx context.Context, q *query) (from, to time.Time, err error) {
	if from, to = q.from, q.to; !from.IsZero() && !to.IsZero() {
		return from, to, nil
	}
	err = a.rows(ctx, q, ` | stats min(_time) as "from", max(_time) as "to"`, 1, func(fields []logsql.Field) {
		if t, err := time.Parse(time.RFC3339Nano, row.Value(fields, "from")); err == nil && q.from.IsZero() {
			from = t
		}
		if t, err := time.Parse(time.RFC3339Nano, row.Value(fields, "to")); err == nil && q.to.IsZero() {
			to = t.Add(time.Millisecond)
		}
	})
	return from, to, err
}

// part is what there is in a part of a time.
type part struct {
	at           time.Time
	lines, bytes int
}

// parts tells how much there is in each part of the query's time that has lines, the
// oldest first.
func (a *queryAPI) parts(ctx context.Context, q *query, width time.Duration) (all []part, err error) {
	err = a.rows(ctx, q, ` | stats by (_time:`+strconv.FormatInt(width.Milliseconds(),
		10)+`ms) count() as "lines", sum_len() as "bytes"`, 0, func(fields []logsql.Field) {
		at, err := time.Parse(time.RFC3339Nano, row.Value(fields, fieldTime))
		lines, _ := strconv.Atoi(row.Value(fields, "lines"))
		bytes, _ := strconv.Atoi(row.Value(fields, "bytes"))
		if err == nil {
			all = append(all, part{at, lines, max(1, bytes)})
		}
	})
	slices.SortFunc(all, func(a, b part) int { return a.at.Compare(b.at) })
	return all, err
}

// count counts the lines over the query's time.
func (a *queryAPI) count(ctx context.Context, q *query, most int) (*bars, error) {
	within := *q
	var err error
	if within.from, within.to, err = a.span(ctx, q); err != nil {
		return nil, err
	}
	if !within.from.Before(within.to) {
		return &bars{}, nil
	}
	b := layOut(within.from, within.to, most)
	args := within.args()
	args.Set("step", strconv.FormatInt(b.width.Milliseconds(), 10)+"ms")
	err = a.get(ctx, "hits", args, func(line []byte) error {
		hits := gjson.ParseBytes(line)
		values := hits.Get("hits.0.values").Array()
		for i, at := range hits.Get("hits.0.timestamps").Array() {
			n := at.Time().Sub(b.from) / b.width
			if n >= 0 && int(n) < len(b.counts) && i < len(values) {
				b.counts[n] += values[i].Int()
			}
		}
		return nil
	})
	return b, err
}

func (p *page) histogram(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	b := &bars{}
	if !q.pipes { // what pipes make has no place in time
		release, ok := p.acquire(r)
		if !ok {
			return
		}
		var err error
		b, err = p.api.count(r.Context(), q, number(r, "bars", 60, 500))
		release()
		if err != nil {
			failed(w, err)
			return
		}
	}
	total := int64(0)
	for _, n := range b.counts {
		total += n
	}
	reply(w, http.StatusOK, map[string]any{
		"from": b.from.UnixMilli(), "width": b.width.Milliseconds(),
		"counts": b.counts, "total": total,
	})
}
