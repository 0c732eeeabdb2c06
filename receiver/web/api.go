package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/row"
)

// Bounds of an answer.
const (
	maxLines   = 5000
	facetLines = 1000     // the newest, of which the writers are listed
	cutList    = 2 << 10  // bytes of a line in a list
	cutLine    = 64 << 10 // and of one that is shown in full
	maxFields  = 500      // of a line that is shown in full
	maxFacets  = 20       // values of each kind
	maxColumns = 50       // of a table
	maxChosen  = 10       // of a list of lines
	cutColumn  = 500      // bytes of a value in one of those
)

// usualPace is how many bytes a second a client takes of a download at least.
const usualPace = 128 << 10

var rawPace = usualPace // but for tests

func number(r *http.Request, name string, def, most int) int {
	n, err := strconv.Atoi(r.FormValue(name))
	if err != nil || n < 1 {
		return def
	}
	return min(n, most)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

// failed answers for a query that the store could not do.
func failed(w http.ResponseWriter, err error) {
	reply(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
}

// inMillis gives a time as browsers have it; nil: it is open.
func inMillis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// hitMemoryOf gives what a line in a list may take of memory.
func hitMemoryOf(q *query) int64 { return hitMemory + int64(len(q.columns))*2*cutColumn }

func (p *page) search(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	limit := number(r, "limit", 200, maxLines)
	loan, ok := p.borrow(r, listMemory+int64(max(limit+1, facetLines))*hitMemoryOf(q))
	if !ok {
		return
	}
	defer loan.release()
	release, ok := p.acquire(r)
	if !ok {
		return
	}
	start := time.Now()
	found, err := p.source.search(r.Context(), q, limit)
	release()
	extend(w, answerTime)
	if err != nil {
		failed(w, err)
		return
	}
	loan.shrink(int64(len(found.about))*hitMemoryOf(q) + int64(found.table.bytes)*2)
	answer := map[string]any{
		"logsql": q.logsql, "took": time.Since(start).Milliseconds(), "complete": found.complete,
		"from": inMillis(q.from), "to": inMillis(q.to),
	}
	if found.table.Rows != nil {
		answer["table"], answer["more"] = found.table, found.table.full || len(found.table.Rows) > limit
		found.table.Rows = found.table.Rows[:min(len(found.table.Rows), limit)]
		reply(w, http.StatusOK, answer)
		return
	}
	if found.lines == nil {
		found.lines = []line{}
	}
	answer["lines"], answer["more"] = found.lines[:min(len(found.lines), limit)], len(found.lines) > limit
	answer["facets"] = map[string][]facet{
		"host":    facets(found.about, func(l line) string { return l.Host }),
		"program": facets(found.about, func(l line) string { return l.Program }),
		"level":   facets(found.about, func(l line) string { return l.Level }),
	}
	answer["facetsOf"] = len(found.about)
	reply(w, http.StatusOK, answer)
}

// one finds the line that is asked for, or says that there is none. The memory of
// it is to be returned when the answer is written.
func (p *page) one(w http.ResponseWriter, r *http.Request) (found *whole, l *loan, ok bool) {
	if l, ok = p.borrow(r, rawMemory); !ok {
		return nil, nil, false
	}
	release, ok := p.acquire(r)
	if !ok {
		l.release()
		return nil, nil, false
	}
	at := timeOf(r)
	found, err := p.source.line(r.Context(), r.FormValue("uid"), at)
	release()
	if found == nil && err == nil && p.api != nil { // it may be too new for a search
		found, err = p.live.line(r.Context(), r.FormValue("uid"), at)
	}
	if found != nil {
		return found, l, true
	}
	l.release()
	answer := lineMissing(r.FormValue("uid"))
	if err != nil {
		answer = "This line cannot be shown: " + err.Error()
	}
	reply(w, http.StatusNotFound, map[string]any{"error": answer})
	return nil, nil, false
}

// lineMissing says that there is no line of this UID.
func lineMissing(uid string) string { return "This line is not here (any more). Its UID is " + uid }

func (p *page) line(w http.ResponseWriter, r *http.Request) {
	found, loan, ok := p.one(w, r)
	if !ok {
		return
	}
	defer loan.release()
	type field struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	l := newLine(found.fields, nil)
	arrived := l.at
	fields := []field{}
	for _, f := range found.fields {
		switch {
		case f.Name == row.FieldAt:
			arrived, _ = time.Parse(time.RFC3339Nano, f.Value)
		case internal(f.Name), f.Name == fieldMsg && f.Value == found.text:
		case len(fields) < maxFields:
			fields = append(fields, field{f.Name, row.Cut(f.Value, cutList)})
		}
	}
	sid, seq, _ := handshake.ParseUID(l.UID)
	reply(w, http.StatusOK, map[string]any{
		"uid": l.UID, "time": l.Time, "arrived": arrived.UnixMilli(), "sid": sid, "seq": strconv.FormatUint(seq, 10),
		"size": found.size, "text": row.Cut(found.text, cutLine), "here": len(found.text), "cut": found.size > cutLine,
		"fields": fields,
	})
}

// raw gives the bytes of a line, for a file and not to be shown.
func (p *page) raw(w http.ResponseWriter, r *http.Request) {
	found, loan, ok := p.one(w, r)
	if !ok {
		return
	}
	defer loan.release()
	text, uid := found.text, newLine(found.fields, nil).UID
	found = nil
	loan.shrink(int64(len(text)))
	extend(w, answerTime+time.Duration(len(text)/rawPace)*time.Second)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", "attachment; filename="+uid+".log")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}
