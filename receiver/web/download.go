package web

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"
)

// Bounds of a download. It is made of slices of time, each small enough to be sorted
// in memory. A slice gives its place for queries back before it is sent.
const (
	sliceBytes   = 4 << 20 // of its rows, as the store counts them
	sliceBuckets = 500     // of time, in each of which is counted how much there is
	maxDownload  = 8 << 30 // bytes that are sent
)

var (
	errTooMuch  = errors.New("this is more than 8 GiB: choose a shorter time")
	errTooLarge = errors.New("this table is too large to be downloaded: end the query with | limit 10000, or use wsreceive search")
)

// download answers with all lines of a query, the oldest first, as JSON, one object a
// line, or as CSV; or with the rows that pipes make of them. Where something fails
// after the first bytes the connection breaks, so that nobody takes it for complete.
func (p *page) download(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	loan := &loan{p.memory, p.who(r), rawMemory}
	if !p.memory.TryAcquire(loan.who, loan.n) { // to wait would keep the user from searching
		reply(w, http.StatusServiceUnavailable, map[string]any{"error": "another download is not finished yet: wait for it, or cancel it"})
		return
	}
	defer loan.release()
	d := &downloading{page: p, w: w, r: r, left: maxDownload, form: formOf(r.FormValue("format"), q.columns)}
	var err error
	if q.pipes {
		err = d.rows(q)
	} else {
		err = d.lines(q)
	}
	switch {
	case err == nil:
		d.begin()
	case d.begun:
		panic(http.ErrAbortHandler)
	case r.Context().Err() == nil:
		failed(w, err)
	}
}

// downloading is a download on its way.
type downloading struct {
	*page
	w     http.ResponseWriter
	r     *http.Request
	form  form
	begun bool      // something was sent
	left  int64     // bytes that may be sent
	since time.Time // when the slice began to be sent
	sent  int       // bytes of it
}

// begin sends the header once, and in CSV the names of the columns.
func (d *downloading) begin() {
	if d.begun {
		return
	}
	d.begun, d.since = true, time.Now()
	d.w.Header().Set("Content-Type", d.form.kind())
	d.w.Header().Set("Content-Disposition", "attachment; filename="+d.form.name())
	_, _ = d.w.Write(d.form.head()) // the next write fails, too
}

// send sends bytes of a slice. A client that reads slower than rawPace is cut off.
func (d *downloading) send(text []byte) error {
	d.begin()
	if d.left -= int64(len(text)); d.left < 0 {
		return errTooMuch
	}
	d.sent += len(text)
	extend(d.w, time.Until(d.since.Add(answerTime+time.Duration(d.sent/rawPace)*time.Second)))
	_, err := d.w.Write(text)
	return err
}

// query runs f, which asks the store, with a place for queries.
func (d *downloading) query(f func() error) error {
	release, ok := d.acquire(d.r)
	if !ok {
		return d.r.Context().Err()
	}
	defer release()
	return f()
}

// rows sends what pipes make of lines, which is held in memory until then.
func (d *downloading) rows(q *query) error {
	var rows [][]logsql.Field
	left := 2 * sliceBytes
	err := d.query(func() error {
		err := d.api.rows(d.r.Context(), q, "", 0, func(fields []logsql.Field) {
			if left -= size(fields); left >= 0 {
				rows = append(rows, fields)
			}
		})
		if err == nil && left < 0 {
			err = errTooLarge
		}
		return err
	})
	if err != nil {
		return err
	}
	d.form = d.form.ofTable(rows)
	d.begin()
	for _, fields := range rows {
		if err := d.send(d.form.row(fields)); err != nil {
			return err
		}
	}
	return nil
}

func size(fields []logsql.Field) (n int) {
	for _, f := range fields {
		n += len(f.Name) + len(f.Value) + 32
	}
	return n
}

// lines sends lines, slice by slice.
func (d *downloading) lines(q *query) error {
	within := *q
	err := d.query(func() (err error) {
		within.from, within.to, err = d.api.span(d.r.Context(), q)
		return err
	})
	if err != nil || !within.from.Before(within.to) {
		return err
	}
	return d.slices(&within)
}

// slices sends the lines of a time: it counts how much there is in each part of it,
// and sends so many parts together as make a slice. A part that is more than that is
// divided likewise.
func (d *downloading) slices(q *query) error {
	width := max(time.Millisecond, (q.to.Sub(q.from)/sliceBuckets + time.Millisecond).Truncate(time.Millisecond))
	var parts []part
	err := d.query(func() (err error) {
		parts, err = d.api.parts(d.r.Context(), q, width)
		return err
	})
	if err != nil {
		return err
	}
	next := *q // the slice that is being put together, up to the part that is looked at
	bytes := 0
	flush := func(to time.Time) error {
		if next.to = to; bytes > 0 {
			if err := d.slice(&next, 0); err != nil {
				return err
			}
		}
		next.from, bytes = to, 0
		return nil
	}
	for _, p := range parts {
		from := slices.MaxFunc([]time.Time{p.at, q.from}, time.Time.Compare)
		to := slices.MinFunc([]time.Time{p.at.Add(width), q.to}, time.Time.Compare)
		if bytes > 0 && bytes+p.bytes > sliceBytes {
			if err := flush(from); err != nil {
				return err
			}
		}
		if bytes += p.bytes; bytes <= sliceBytes {
			continue
		}
		next.from, next.to, bytes = from, to, 0
		if width > time.Millisecond {
			err = d.slices(&next)
		} else {
			err = d.slice(&next, max(1, sliceBytes*p.lines/p.bytes))
		}
		if err != nil {
			return err
		}
		next.from = to
	}
	return flush(q.to)
}

// slice sends the lines of a time, in the order of their times; where a millisecond
// has more than there is memory for, so many at a time, in the order of their numbers.
func (d *downloading) slice(q *query, most int) error {
	order, limit, after := `_time, "wsrelay.sid", "wsrelay.seq"`, "", ""
	if most > 0 {
		order, limit = `"wsrelay.sid", "wsrelay.seq"`, " limit "+strconv.Itoa(most)
	}
	for {
		var rows [][]logsql.Field
		err := d.query(func() error {
			return d.api.rows(d.r.Context(), q, after+" | sort by ("+order+")"+limit, 0,
				func(fields []logsql.Field) { rows = append(rows, fields) })
		})
		if err != nil {
			return err
		}
		d.since, d.sent = time.Now(), 0
		for _, fields := range rows {
			text, err := d.form.line(fields, d.api.text)
			if err == nil {
				err = d.send(text)
			}
			if err != nil {
				return err
			}
		}
		if most == 0 || len(rows) < most {
			return nil
		}
		last := rows[len(rows)-1]
		sid, seq := strconv.Quote(row.Value(last, row.FieldSID)), strconv.Quote(row.Value(last, row.FieldSeq))
		after = ` | filter ("wsrelay.sid":>` + sid + ` or "wsrelay.sid":=` + sid + ` "wsrelay.seq":>` + seq + `)`
	}
}
