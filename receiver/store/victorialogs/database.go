package victorialogs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/row"
)

const (
	insertBytes     = 4 << 20         // of rows in a request, about
	inspectInterval = 5 * time.Second // at what the server says of itself
	cutOff          = 5 * time.Second // after which a request that failed has ended
	intervals       = 10              // of the server's flushes, until rows are taken to be on disk
)

// database is the server's rows. Of its methods, Sums alone is called concurrently.
type database struct {
	*client
	logs.Rows
	coder    *row.Coder
	long     *logs.Blobs // lines that no row of the server can hold
	segments map[string]*seen

	server   server
	looked   time.Time
	failedAt time.Time // a request that adds rows

	fields []byte // memory of rows

	mu    sync.Mutex
	added int64 // rows; guarded by mu
}

// seen is what is known of the rows of a segment that this process has sent or
// counted.
type seen struct {
	started string    // of the server, before the first of them was sent or counted
	last    time.Time // when some were sent, or they were counted
	again   int       // how often some were missing although the server had not started again
}

// segment gives what is known of one, and looks at the server before it is used.
func (d *database) segment(ctx context.Context, name string) (*seen, error) {
	if time.Since(d.looked) > inspectInterval {
		s, err := d.inspect(ctx)
		if err != nil {
			return nil, err
		}
		d.server, d.looked = s, time.Now()
	}
	s := d.segments[name]
	if s == nil {
		s = &seen{started: d.server.started}
		d.segments[name] = s
	}
	return s, nil
}

// Add implements journal.Database.
func (d *database) Add(ctx context.Context, segment string, records []receiver.Batch) (err error) {
	s, err := d.segment(ctx, segment)
	if err != nil {
		return err
	}
	a := &pendingWrite{database: d, segment: segment, bare: s.again > 0, now: time.Now()}
	for i := range records {
		if err = a.add(ctx, &records[i]); err != nil {
			break
		}
	}
	if err == nil {
		err = a.flush(ctx)
	}
	if s.last = time.Now(); err != nil {
		d.failedAt = s.last
	}
	return err
}

// pendingWrite is one call of Add.
type pendingWrite struct {
	*database
	segment string
	bare    bool // rows of nothing but our own fields: the server does not take the others
	now     time.Time
	row     row.Row
	rows    [2][]byte // JSON lines, of streams by host, and by host and program
	n       int
}

func (a *pendingWrite) add(ctx context.Context, b *receiver.Batch) error {
	if g := b.Gap; g != nil {
		a.coder.Gap(&a.row, &row.Line{SID: b.SID, Host: b.Host, Segment: a.segment, Seq: g.Seq, At: b.At}, g)
		return a.put(ctx, b.At, nil)
	}
	for i, text := range b.Lines {
		a.coder.Row(&a.row, &row.Line{
			SID: b.SID, Host: b.Host, Segment: a.segment, Seq: b.Seq + uint64(i), At: b.At,
			Text: text,
		})
		if err := a.put(ctx, b.At, text); err != nil {
			return err
		}
	}
	return nil
}

// put adds the row, within the server's limits, for it drops others silently.
func (a *pendingWrite) put(ctx context.Context, arrival time.Time, text []byte) error {
	at := a.place(arrival)
	a.fields = a.encode(a.fields[:0], at)
	if a.row.Whole || a.bare || len(a.fields) >= a.server.maxLine {
		if err := a.shorten(at, text); err != nil {
			return err
		}
	}
	k := min(a.row.Stream, 2) - 1
	a.rows[k] = append(append(a.rows[k], a.fields...), '\n')
	if a.n++; len(a.rows[0])+len(a.rows[1]) >= insertBytes {
		return a.flush(ctx)
	}
	return nil
}

// place gives the time that a row is stored under: the line's, else that of its
// arrival, else now, such that the server keeps it.
func (a *pendingWrite) place(arrival time.Time) time.Time {
	for _, t := range []time.Time{a.row.Time, arrival} {
		if !a.bare && t.After(a.now.Add(time.Hour-a.server.oldest)) && t.Before(a.now.Add(min(day, a.server.newest))) {
			return t
		}
	}
	return a.now
}

// encode writes the row as JSON. A row without a message gets a blank: the server
// would put a remark of its own there.
func (a *pendingWrite) encode(to []byte, at time.Time) []byte {
	to = append(to, `{"_time":"`...)
	to = append(at.UTC().AppendFormat(to, time.RFC3339Nano), '"')
	message := false
	for _, f := range a.row.Fields {
		message = message || f.Name == "_msg"
		to = append(gjson.AppendJSONString(append(to, ','), f.Name), ':')
		to = gjson.AppendJSONString(to, f.Value)
	}
	if !message {
		to = append(to, `,"_msg":" "`...)
	}
	return append(to, '}')
}

// shorten makes the row one of the beginning of its line, of which all is in the
// folder long.
func (a *pendingWrite) shorten(at time.Time, text []byte) error {
	where := ""
	if text != nil {
		var err error
		if where, err = a.long.Append(a.now.UTC().Format("20060102"), text); err != nil {
			return fmt.Errorf("write a long line: %w", err)
		}
	}
	kept := a.row.Fields[:0]
	for i, f := range a.row.Fields {
		switch {
		case f.Name == "_msg":
			f.Value = strings.ToValidUTF8(f.Value[:min(len(f.Value), a.server.maxLine/8)], "")
		case i < a.row.Stream:
		case f.Name == "wsrelay.line" || f.Name == "wsrelay.bytes" || !strings.HasPrefix(f.Name, "wsrelay."):
			continue
		}
		kept = append(kept, f)
	}
	a.row.Fields = kept
	a.fields = a.encode(a.fields[:0], at)
	a.fields = fmt.Appendf(a.fields[:len(a.fields)-1], `,"wsrelay.size":"%d","wsrelay.long":%q}`, len(text), where)
	return nil
}

// flush sends the rows, once the lines that they have only the beginning of are
// on disk.
func (a *pendingWrite) flush(ctx context.Context) error {
	if err := a.long.Sync(); err != nil {
		return fmt.Errorf("write a long line: %w", err)
	}
	for k, stream := range []string{"host", "host,program"} {
		if len(a.rows[k]) == 0 {
			continue
		}
		if err := a.insert(ctx, stream, a.rows[k]); err != nil {
			return err
		}
		a.rows[k] = a.rows[k][:0]
	}
	a.mu.Lock()
	a.added += int64(a.n)
	a.mu.Unlock()
	a.n = 0
	return nil
}

// Barrier implements journal.Database. The server has none: it makes rows seen,
// once no request can be on its way. See Final.
func (d *database) Barrier(ctx context.Context) error {
	wait := time.Until(d.failedAt.Add(cutOff))
	if wait > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	body, err := d.request(ctx, "/internal/force_flush", nil, nil)
	if err != nil {
		return err
	}
	return body.Close()
}

// Final implements journal.AsyncDatabase.
func (d *database) Final(ctx context.Context, segment string, rows uint64) (wait time.Duration, err error) {
	s := d.segments[segment]
	if s == nil {
		return 0, fmt.Errorf("%w: it was never counted", journal.ErrForgot)
	}
	if wait := time.Until(s.last.Add(intervals * d.server.flush)); wait > 0 {
		return min(wait, d.server.flush), nil
	}
	now, err := d.inspect(ctx)
	if err != nil {
		return 0, err
	}
	if started := s.started; now.started != started {
		clear(d.segments)
		return 0, fmt.Errorf("%w: the server has started again", journal.ErrForgot)
	}
	if err := d.Barrier(ctx); err != nil {
		return 0, err
	}
	n, err := d.Rows.Count(ctx, segment)
	if err == nil && n != rows {
		s.again++
		err = fmt.Errorf("%w: it has %d rows of %d", journal.ErrForgot, n, rows)
	}
	if err == nil {
		delete(d.segments, segment)
	}
	return 0, err
}

// Count implements journal.Database. What it counts may be in the server's memory.
func (d *database) Count(ctx context.Context, segment string) (n uint64, err error) {
	s, err := d.segment(ctx, segment)
	if err != nil {
		return 0, err
	}
	// The last look is up to inspectInterval old: the server may have started again since.
	now, err := d.inspect(ctx)
	if err != nil {
		return 0, err
	}
	d.server, d.looked = now, time.Now()
	s.started = now.started
	n, err = d.Rows.Count(ctx, segment)
	s.last = time.Now()
	return n, err
}
