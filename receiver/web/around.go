package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"

	"github.com/tidwall/gjson"
)

// maxAround is how many lines before and after one are shown at most.
const maxAround = 500

// neighbours are lines of one host and program, the oldest first.
type neighbours struct {
	lines                []line
	hit                  int  // which of them was asked for
	moreBefore, moreNext bool // there are others
	complete             bool // false: there was no memory for all of them
}

// around answers with the lines that stand around one.
func (p *page) around(w http.ResponseWriter, r *http.Request) {
	n, uid := number(r, "n", 20, maxAround), r.FormValue("uid")
	q := &query{columns: names(r, "column", maxChosen)}
	loan, ok := p.borrow(r, listMemory+int64(2*n+1)*hitMemoryOf(q))
	if !ok {
		return
	}
	defer loan.release()
	release, ok := p.acquire(r)
	if !ok {
		return
	}
	at := timeOf(r)
	found, err := p.source.around(r.Context(), q, uid, at, n)
	if found == nil && err == nil && p.api != nil { // it may be too new for a search
		found, err = p.live.around(r.Context(), q, uid, at, n)
	}
	release()
	extend(w, answerTime)
	switch {
	case err != nil:
		failed(w, err)
	case found == nil:
		reply(w, http.StatusNotFound, map[string]any{"error": lineMissing(uid)})
	default:
		loan.shrink(int64(len(found.lines)) * hitMemoryOf(q))
		reply(w, http.StatusOK, map[string]any{
			"lines": found.lines, "hit": found.lines[found.hit].UID, "complete": found.complete,
			"moreBefore": found.moreBefore, "moreAfter": found.moreNext,
		})
	}
}

// timeOf reads the time of a line, in Unix milliseconds; zero: none is named.
func timeOf(r *http.Request) (at time.Time) {
	if ms, err := strconv.ParseInt(r.FormValue("time"), 10, 64); err == nil {
		at = time.UnixMilli(ms)
	}
	return at
}

// around implements source: it finds which lines these are, and then of them as
// many as there is memory for, those next to the line first.
func (a *queryAPI) around(ctx context.Context, q *query, uid string, at time.Time, n int) (*neighbours, error) {
	within := ""
	if !at.IsZero() {
		within = logsql.Within("*", at, at.Add(time.Millisecond))
	}
	// One more on either side tells whether there are more.
	found, err := logsql.Around(ctx, a.queryRows, uid, within, n+1)
	if err != nil || found == nil {
		return nil, err
	}
	first, end := max(0, found.Hit-n), min(len(found.IDs), found.Hit+n+1)
	f := &neighbours{moreBefore: first > 0, moreNext: end < len(found.IDs), complete: true}
	for {
		ids := logsql.Neighbours{IDs: found.IDs[first:end]}
		got, err := a.search(ctx, &query{logsql: ids.Filter(), oldest: true, columns: q.columns}, end-first)
		if err != nil {
			return nil, err
		}
		if f.lines = got.lines; got.complete || end-first == 1 {
			break
		}
		half := (end - first) / 4 // they are too long together: half as many
		first, end = max(first, found.Hit-half), min(end, found.Hit+half+1)
		f.moreBefore, f.moreNext, f.complete = true, true, false
	}
	f.hit = slices.IndexFunc(f.lines, func(l line) bool { return l.UID == uid })
	if f.hit < 0 {
		return nil, nil
	}
	return f, nil
}

// queryRows gives the rows of a query by the names of their fields.
func (a *queryAPI) queryRows(ctx context.Context, text string) (rows []map[string]string, err error) {
	err = a.get(ctx, "query", (&query{logsql: text}).args(), func(line []byte) error {
		row := map[string]string{}
		gjson.ParseBytes(line).ForEach(func(name, value gjson.Result) bool {
			row[name.String()] = value.String()
			return true
		})
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// around implements source, among the lines that are kept.
func (l *Live) around(_ context.Context, q *query, uid string, _ time.Time, n int) (*neighbours, error) {
	sid, seq, err := handshake.ParseUID(uid)
	if err != nil {
		return nil, nil
	}
	c := l.coders.Get().(*row.Coder)
	defer l.coders.Put(c)
	kept, _, _ := l.since(0)
	at := slices.IndexFunc(kept, func(k keptLine) bool { return k.seq == seq && k.SID == sid })
	if at < 0 {
		return nil, nil
	}
	lineOf := func(k *keptLine) line {
		return newLine(rowOf(c, k), func([]logsql.Field) ([]byte, error) { return []byte(k.text), nil }, q.columns...)
	}
	own := lineOf(&kept[at])
	side := func(step int) (lines []line, more bool) {
		for i := at + step; i >= 0 && i < len(kept); i += step {
			l := lineOf(&kept[i])
			switch {
			case l.Host != own.Host || l.Program != own.Program || l.Sender != own.Sender:
			case len(lines) == n:
				return lines, true
			default:
				lines = append(lines, l)
			}
		}
		return lines, false
	}
	before, moreBefore := side(-1)
	after, moreNext := side(1)
	slices.Reverse(before)
	return &neighbours{append(append(before, own), after...), len(before), moreBefore, moreNext, true}, nil
}
