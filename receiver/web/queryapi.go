package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"

	"github.com/tidwall/gjson"
)

// The fields of a row that the page knows, beside those of package row.
const (
	fieldTime = "_time"
	fieldMsg  = "_msg"
	fieldHost = "host"
)

// listMemory is how many bytes the rows of a list may have together. The store's
// library sorts them within a fifth of its memory, 19 MiB by default.
const listMemory = 8 << 20

// queryAPI is a source over the query API of a store.
type queryAPI struct {
	handler http.Handler
	text    func([]logsql.Field) ([]byte, error)
}

// get asks a path of the API and calls f with each line of the answer. The memory
// of the line is used again.
func (a *queryAPI) get(ctx context.Context, path string, args url.Values, f func(line []byte) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/select/logsql/"+path+"?"+args.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	r.RemoteAddr = "page"
	w := &lineWriter{header: http.Header{}, f: f, stop: cancel}
	defer func() { // the handler breaks an answer off so
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint,err113 // it is what was thrown
			panic(p)
		}
		err = errors.Join(w.err, w.finish(), ctx.Err())
		if w.err != nil {
			err = w.err
		}
	}()
	a.handler.ServeHTTP(w, r)
	return nil
}

// lineWriter calls f with each line of an answer that is not an error.
type lineWriter struct {
	header http.Header
	status int // of an error; 0: none
	left   bytes.Buffer
	f      func([]byte) error
	err    error
	stop   context.CancelFunc
}

func (w *lineWriter) Header() http.Header { return w.header }

func (w *lineWriter) Flush() {}

func (w *lineWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.status = status
	}
}

func (w *lineWriter) Write(p []byte) (n int, err error) {
	n = len(p)
	for w.err == nil {
		i := bytes.IndexByte(p, '\n')
		if i < 0 || w.status != 0 {
			w.left.Write(p)
			break
		}
		line := p[:i]
		if w.left.Len() > 0 {
			w.left.Write(line)
			line = w.left.Bytes()
		}
		w.writeLine(line)
		w.left.Reset()
		p = p[i+1:]
	}
	return n, w.err
}

// writeLine passes a line on. A line that is no object says why the answer is broken off.
func (w *lineWriter) writeLine(line []byte) {
	switch {
	case len(line) == 0:
	case line[0] != '{':
		w.err = errors.New(row.Cut(string(line), 300))
	default:
		w.err = w.f(line)
	}
	if w.err != nil {
		w.stop()
	}
}

func (w *lineWriter) finish() error {
	if w.status != 0 {
		return logsql.Explain(errors.New(strings.TrimSpace(w.left.String())))
	}
	if w.err == nil && w.left.Len() > 0 {
		w.writeLine(w.left.Bytes())
	}
	return nil
}

// rows calls f with each row that a query finds, the newest first; with limit 0
// all, in any order.
func (a *queryAPI) rows(ctx context.Context, q *query, pipes string, limit int, f func([]logsql.Field)) error {
	args := q.args()
	args.Set("query", q.logsql+pipes)
	args.Set("limit", strconv.Itoa(limit))
	return a.get(ctx, "query", args, func(line []byte) error {
		var fields []logsql.Field
		gjson.ParseBytes(line).ForEach(func(name, value gjson.Result) bool {
			fields = append(fields, logsql.Field{Name: name.String(), Value: value.String()})
			return true
		})
		f(fields)
		return nil
	})
}

func (q *query) args() url.Values {
	args := url.Values{"query": {q.logsql}}
	for name, t := range map[string]time.Time{"start": q.from, "end": q.to, "time": q.now} {
		if !t.IsZero() {
			args.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return args
}

// sorted gives the pipe that leaves the first n lines, of those of one moment, too;
// what pipes make is left as it is.
func (q *query) sorted(n int) string {
	way := "desc"
	switch {
	case q.pipes:
		return ""
	case q.oldest:
		way = ""
	}
	return fmt.Sprintf(` | sort by (_time %s, "wsrelay.sid" %s, "wsrelay.seq" %s) limit %d`, way, way, way, n)
}

// upTo gives the pipe that leaves the lines up to this one, in the order in which
// sorted has them. To sort whole rows would take the library's memory.
func (q *query) upTo(last []logsql.Field) string {
	sign := ">"
	if q.oldest {
		sign = "<"
	}
	at, sid, seq := logsql.Exact(row.Value(last, fieldTime)), strconv.Quote(row.Value(last, row.FieldSID)),
		strconv.Quote(row.Value(last, row.FieldSeq))
	return fmt.Sprintf(` | filter (_time:%s%s or _time:[%s, %s] ("wsrelay.sid":%s%s or "wsrelay.sid":=%s "wsrelay.seq":%s=%s))`, sign, at, at, at, sign, sid, sid, sign, seq)
}

// search implements source. Lines that have no message are shown as they came,
// for which all fields are needed: so the rows are measured first, and no more are
// asked for than there is memory for. Both look only at the time that the newest
// rows are from, for a search over all time costs many passes.
func (a *queryAPI) search(ctx context.Context, q *query, limit int) (f *searchResult, err error) {
	f = &searchResult{complete: true}
	want, upTo := limit+1, "" // one more than is shown tells whether there are more
	if !q.pipes {
		sorted := "" // the newest need no sorting, which takes longer
		if q.oldest {
			sorted = q.sorted(max(want, facetLines))
		}
		err = a.rows(ctx, q, sorted+` | fields _time, host, program, level, "wsrelay.sender"`, max(want, facetLines),
			func(fields []logsql.Field) {
				f.about = append(f.about, newLine(fields, nil))
			})
		if err != nil || len(f.about) == 0 {
			return f, err
		}
		want = min(want, len(f.about))
		slices.SortStableFunc(f.about, q.order)
		within, newest, oldest := *q, f.about[0].at, f.about[want-1].at
		if q.oldest {
			newest, oldest = oldest, newest
		}
		within.from, within.to = oldest, newest.Add(1)
		q = &within
		fits, last, err := a.fitting(ctx, q, want)
		if err != nil {
			return f, err
		}
		f.complete, want, upTo = fits == want, fits, q.upTo(last)
	}
	lines := true
	err = a.rows(ctx, q, upTo, want, func(fields []logsql.Field) {
		lines = lines && isLine(fields)
		if lines {
			f.lines = append(f.lines, newLine(fields, a.text, q.columns...))
		}
		if q.pipes {
			f.table.add(fields)
		}
	})
	if q.pipes && !lines {
		f.lines = nil
		return f, err
	}
	f.table = table{}
	if q.pipes {
		f.about = f.lines
	} else {
		slices.SortStableFunc(f.lines, q.order)
	}
	return f, err
}

// fitting gives how many of the first rows there is memory for, one at least, and the
// last of those.
func (a *queryAPI) fitting(ctx context.Context, q *query, want int) (fits int, last []logsql.Field, err error) {
	const measure = ` | pack_json as "wsrelay.packed" | len("wsrelay.packed") as "wsrelay.packed" | fields _time, "wsrelay.sid", "wsrelay.seq", "wsrelay.packed"`
	left := listMemory
	err = a.rows(ctx, q, measure+q.sorted(want), want, func(fields []logsql.Field) {
		n, _ := strconv.Atoi(row.Value(fields, "wsrelay.packed"))
		if left -= n; left >= 0 || fits == 0 {
			fits, last = fits+1, fields
		}
	})
	return max(1, fits), last, err
}

// isLine reports whether a row is a whole line, not something that pipes made.
func isLine(fields []logsql.Field) bool {
	for _, name := range []string{fieldTime, row.FieldSID, row.FieldSeq} {
		if row.Value(fields, name) == "" {
			return false
		}
	}
	return true
}

// line implements source.
func (a *queryAPI) line(ctx context.Context, uid string, at time.Time) (l *whole, err error) {
	sid, seq, err := handshake.ParseUID(uid)
	if err != nil {
		return nil, err
	}
	q := &query{logsql: fmt.Sprintf(`"wsrelay.sid":=%q "wsrelay.seq":=%q`, sid, row.SeqValue(seq))}
	if !at.IsZero() {
		q.from, q.to = at, at.Add(time.Millisecond)
	}
	err = a.rows(ctx, q, "", 1, func(fields []logsql.Field) { l = &whole{fields: fields} })
	if l == nil || err != nil {
		return nil, err
	}
	l.text = row.Value(l.fields, fieldMsg)
	if row.Value(l.fields, row.FieldGap) == "" { // of a gap there is no line
		text, err := a.text(l.fields)
		if err != nil {
			return nil, err
		}
		l.text = string(text)
	}
	l.size = len(l.text)
	return l, nil
}
