package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"

	"github.com/tidwall/gjson"
)

// Bounds of what is counted by the values of fields.
const (
	maxBy     = 3 // fields together
	maxGroups = 1000
)

// group is the lines that have the same values of some fields.
type group struct {
	Values []string `json:"values"`
	Count  int64    `json:"count"`
}

// groups answers with the values that the fields by have, of the most lines first,
// over the whole time of the query and not only in the lines that are shown.
func (p *page) groups(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	by, limit := names(r, "by", maxBy), number(r, "limit", 10, maxGroups)
	if len(by) == 0 || q.pipes {
		reply(w, http.StatusBadRequest, map[string]any{"error": "lines can be counted by the fields that by= names, for a query without pipes (|)"})
		return
	}
	loan, ok := p.borrow(r, int64(limit+1)*maxBy*2*cutColumn)
	if !ok {
		return
	}
	defer loan.release()
	release, ok := p.acquire(r)
	if !ok {
		return
	}
	found, lines, having, err := p.api.groups(r.Context(), q, by, limit+1)
	release()
	extend(w, answerTime)
	if err != nil {
		failed(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"by": by, "groups": found[:min(len(found), limit)], "more": len(found) > limit, "lines": lines,
		"having": having, "logsql": q.logsql,
	})
}

// groups counts lines by their values of some fields; and how many lines there are,
// and how many of those have the first field.
func (a *queryAPI) groups(ctx context.Context, q *query, by []string,
	limit int,
) (found []group, lines, having int64, err error) {
	err = a.rows(ctx, q, ` | stats count() as "lines", count(`+strconv.Quote(by[0])+`) as "having"`, 1,
		func(fields []logsql.Field) {
			lines, _ = strconv.ParseInt(row.Value(fields, "lines"), 10, 64)
			having, _ = strconv.ParseInt(row.Value(fields, "having"), 10, 64)
		})
	if err != nil {
		return nil, 0, 0, err
	}
	quoted := make([]string, len(by))
	for i, name := range by {
		quoted[i] = strconv.Quote(name)
	}
	fields := strings.Join(quoted, ", ")
	const n = `"wsrelay.lines"`
	found = []group{}
	err = a.rows(ctx, q, " | stats by ("+fields+") count() as "+n+" | sort by ("+n+" desc, "+fields+") limit "+strconv.Itoa(limit), 0, func(fields []logsql.Field) {
		g := group{}
		for _, name := range by {
			g.Values = append(g.Values, clip(fields, name, cutColumn))
		}
		g.Count, _ = strconv.ParseInt(row.Value(fields, "wsrelay.lines"), 10, 64)
		found = append(found, g)
	})
	return found, lines, having, err
}

// fields answers with the names of the fields that the lines of a query have, and in
// how many lines each is.
func (p *page) fields(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	release, ok := p.acquire(r)
	if !ok {
		return
	}
	type field struct {
		Name string `json:"name"`
		Hits int64  `json:"hits"`
	}
	all := []field{}
	args := q.args()
	args.Set("limit", strconv.Itoa(maxFields))
	err := p.api.get(r.Context(), "field_names", args, func(line []byte) error {
		gjson.GetBytes(line, "values").ForEach(func(_, value gjson.Result) bool {
			name := value.Get("value").String()
			if !internal(name) && len(all) < maxFields {
				all = append(all, field{row.Cut(name, cutColumn), value.Get("hits").Int()})
			}
			return true
		})
		return nil
	})
	release()
	extend(w, answerTime)
	if err != nil {
		failed(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"fields": all})
}

// internal reports whether a field is none of a line's own.
func internal(name string) bool {
	return name == fieldTime || name == "_stream" || name == "_stream_id" || strings.HasPrefix(name, "wsrelay.") &&
		name != row.FieldSender && name != row.FieldGap
}
