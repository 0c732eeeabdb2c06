package page

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wsrelay/handshake"
	"wsrelay/receiver/sqlite"
)

// Bounds of an answer.
const (
	maxLines   = 5000
	facetLines = 1000            // the newest, of which it is told who wrote them
	cutList    = 2 << 10         // bytes of a line in a list
	cutLine    = 64 << 10        // and of one that is shown in full
	readLine   = 64 << 10        // bytes in which a live view looks for fields
	maxFields  = 500             // of a line that is shown in full
	maxFacets  = 20              // values of each kind
	budget     = 5 * time.Second // of a search
	barBudget  = 4 * time.Second // of a histogram
	rawPace    = 128 << 10       // bytes a second that a download goes at least
)

// line is a line in a list.
type line struct {
	UID      string `json:"uid"`
	Time     int64  `json:"time"` // Unix milliseconds
	Host     string `json:"host"`
	Sender   string `json:"sender,omitempty"` // who has sent it, if that is another than the line says
	Program  string `json:"program,omitempty"`
	Severity string `json:"severity,omitempty"`
	Text     string `json:"text"`
	Size     int    `json:"size"` // bytes of the whole line
}

func newLine(h sqlite.Hit) line {
	s := h.Summary
	if s == nil {
		own := sqlite.Summarize([]byte(h.Line))
		s = &own
	}
	sender := h.Host
	if s.Host == "" || strings.EqualFold(s.Host, sender) {
		sender = ""
	}
	return line{
		UID: h.UID, Time: h.Time.UnixMilli(), Host: cmp.Or(s.Host, h.Host), Sender: sender, Program: cut(s.Program, 100), Severity: s.Severity,
		Text: cut(cmp.Or(s.Message, h.Line), cutList), Size: h.Size,
	}
}

// cut gives the beginning of s, whole characters of it.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// facet is a value, and how many lines have it.
type facet struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

func facets(lines []line, of func(line) string) []facet {
	counts := map[string]int{}
	for _, l := range lines {
		if v := of(l); v != "" {
			counts[v]++
		}
	}
	all := make([]facet, 0, len(counts))
	for v := range maps.Keys(counts) {
		all = append(all, facet{v, counts[v]})
	}
	slices.SortFunc(all, func(a, b facet) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return all[:min(len(all), maxFacets)]
}

// query reads q, from and to. If they cannot be understood it says so to the
// client.
func query(w http.ResponseWriter, r *http.Request) *sqlite.Query {
	now := time.Now()
	q, err := sqlite.ParseQuery(r.FormValue("q"), now)
	var bounds [2]time.Time
	for i, name := range []string{"from", "to"} {
		if text := r.FormValue(name); text != "" && err == nil {
			bounds[i], err = sqlite.ParseTime(text, now)
		}
	}
	if err == nil {
		return q.Within(bounds[0], bounds[1])
	}
	answer := map[string]any{"error": err.Error()}
	if e := (*sqlite.QueryError)(nil); errors.As(err, &e) {
		answer = map[string]any{"error": e.Problem, "position": e.At}
	}
	reply(w, http.StatusBadRequest, answer)
	return nil
}

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

// enter waits until fewer than so many queries are under way; ok is false if the
// client has gone meanwhile.
func (p *page) enter(r *http.Request) (leave func(), ok bool) {
	select {
	case p.queries <- struct{}{}:
		return func() { <-p.queries }, true
	case <-r.Context().Done():
		return nil, false
	}
}

func (p *page) search(w http.ResponseWriter, r *http.Request) {
	q := query(w, r)
	if q == nil {
		return
	}
	limit := number(r, "limit", 200, maxLines)
	// One more than is shown tells whether there are more.
	most := max(limit+1, facetLines)
	loan, ok := p.borrow(r, int64(most)*hitMemory)
	if !ok {
		return
	}
	defer loan.giveBack()
	leave, ok := p.enter(r)
	if !ok {
		return
	}
	start := time.Now()
	found, err := p.source.Search(r.Context(), sqlite.Request{
		Query: q, Limit: most, Budget: budget,
		Cut: cutList + utf8.UTFMax, // so that the last character can be whole
	})
	leave()
	loan.shrink(int64(len(found.Hits)) * hitMemory)
	extend(w, answerTime)
	if err != nil {
		failed(w, err)
		return
	}
	lines := make([]line, len(found.Hits))
	for i, h := range found.Hits {
		lines[i] = newLine(h)
	}
	reply(w, http.StatusOK, map[string]any{
		"lines":    lines[:min(len(lines), limit)],
		"more":     len(lines) > limit,
		"complete": found.Complete,
		"took":     time.Since(start).Milliseconds(),
		"facets": map[string][]facet{
			"host":     facets(lines, func(l line) string { return l.Host }),
			"program":  facets(lines, func(l line) string { return l.Program }),
			"severity": facets(lines, func(l line) string { return l.Severity }),
		},
		"facetsOf": len(lines),
	})
}

func (p *page) histogram(w http.ResponseWriter, r *http.Request) {
	q := query(w, r)
	if q == nil {
		return
	}
	leave, ok := p.enter(r)
	if !ok {
		return
	}
	h, err := p.histograms.Histogram(r.Context(), q, number(r, "bars", 60, 500), barBudget)
	leave()
	if err != nil {
		failed(w, err)
		return
	}
	total := int64(0)
	for _, n := range h.Counts {
		total += n
	}
	answer := map[string]any{
		"from": h.From.UnixMilli(), "width": h.Width.Milliseconds(), "counts": h.Counts, "total": total, "complete": h.Complete,
	}
	if !h.Complete && !h.Since.IsZero() {
		answer["since"] = h.Since.UnixMilli()
	}
	reply(w, http.StatusOK, answer)
}

// one finds the line that is asked for, or says that there is none. The memory of
// it is to be given back when the answer is written.
func (p *page) one(w http.ResponseWriter, r *http.Request) (h sqlite.Hit, l *loan, ok bool) {
	if l, ok = p.borrow(r, rawMemory); !ok {
		return h, nil, false
	}
	h, ok, err := p.source.Line(r.Context(), r.FormValue("uid"))
	if err != nil || !ok {
		reply(w, http.StatusNotFound, map[string]any{"error": "This line is not here (any more). Its UID is " + r.FormValue("uid")})
		l.giveBack()
		return h, nil, false
	}
	return h, l, true
}

func (p *page) line(w http.ResponseWriter, r *http.Request) {
	h, loan, ok := p.one(w, r)
	if !ok {
		return
	}
	defer loan.giveBack()
	type field struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	fields := []field{}
	if sqlite.IsObject([]byte(h.Line)) {
		sqlite.Fields([]byte(h.Line), func(f sqlite.Field) bool {
			fields = append(fields, field{f.Name, cut(f.Value, cutList)})
			return len(fields) < maxFields
		})
	}
	sid, seq, _ := handshake.ParseUID(h.UID)
	reply(w, http.StatusOK, map[string]any{
		"uid": h.UID, "time": h.Time.UnixMilli(), "sender": h.Host, "sid": sid, "seq": strconv.FormatUint(seq, 10),
		"size": h.Size, "text": cut(h.Line, cutLine), "here": len(h.Line), "cut": h.Size > cutLine, "fields": fields,
	})
}

// raw gives the bytes of a line, for a file and not to be shown.
func (p *page) raw(w http.ResponseWriter, r *http.Request) {
	h, loan, ok := p.one(w, r)
	if !ok {
		return
	}
	defer loan.giveBack()
	loan.shrink(int64(len(h.Line)))
	extend(w, answerTime+time.Duration(len(h.Line)/rawPace)*time.Second)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", "attachment; filename="+h.UID+".log")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(h.Line))
}
