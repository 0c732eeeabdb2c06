package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"wsrelay/receiver/store/logs/logsql"
)

// query is what a user asks for.
type query struct {
	logsql   string // filter and pipes
	filter   *logsql.Filter
	now      time.Time // with which relative times are compared
	pipes    bool      // what it gives need not be lines
	from, to time.Time // zero: open
	oldest   bool      // the oldest lines are wanted, and first
	columns  []string  // fields that are shown besides
}

// parseQuery understands what a person typed, and the times.
func parseQuery(text, from, to string, now time.Time) (q *query, err error) {
	f, filter, pipes, err := logsql.ParseTyped(text)
	q = &query{logsql: strings.TrimSpace(filter + " " + pipes), filter: f, pipes: pipes != "", now: now}
	if err != nil {
		return q, err
	}
	for _, end := range []struct {
		text string
		t    *time.Time
	}{{from, &q.from}, {to, &q.to}} {
		if end.text == "" {
			continue
		}
		if *end.t, err = logsql.ParseTime(end.text, now); err != nil {
			return q, err
		}
	}
	return q, nil
}

// zoneOf gives the zone in which a user reads times: tz, minutes east of UTC, or UTC.
func zoneOf(r *http.Request) *time.Location {
	east, err := strconv.Atoi(r.FormValue("tz"))
	if err != nil || east < -24*60 || east > 24*60 {
		return time.UTC
	}
	return time.FixedZone("", east*60)
}

// names gives the fields that a parameter names, so many at most.
func names(r *http.Request, parameter string, most int) []string {
	all := r.Form[parameter] // FormValue has parsed it
	return all[:min(len(all), most)]
}

// renew has relative times compared with the present, for a query without pipes.
func (q *query) renew() {
	if f, err := logsql.Parse(q.logsql, ""); err == nil {
		q.filter = f
	}
}

// query reads q, from and to. If they cannot be understood it says so to the
// client.
func (p *page) query(w http.ResponseWriter, r *http.Request) *query {
	q, err := parseQuery(r.FormValue("q"), r.FormValue("from"), r.FormValue("to"), time.Now().In(zoneOf(r)))
	q.oldest, q.columns = r.FormValue("order") == "oldest", names(r, "column", maxChosen)
	if err == nil {
		return q
	}
	answer := map[string]any{"error": err.Error(), "logsql": q.logsql}
	if e := (*logsql.Error)(nil); errors.As(err, &e) {
		answer["error"], answer["logsql"] = e.Problem, e.Query
		answer["understood"] = len(utf16.Encode([]rune(e.Query[:e.At]))) // as browsers count
	}
	reply(w, http.StatusBadRequest, answer)
	return nil
}
