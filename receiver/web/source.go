package web

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"
)

// source is where the page's lines are.
type source interface {
	// search finds the newest lines, or the oldest, one more than limit if there are
	// more.
	search(ctx context.Context, q *query, limit int) (*searchResult, error)
	// line gives the line of a UID, of which at may be the time, to the millisecond,
	// which is faster than zero; nil: there is none.
	line(ctx context.Context, uid string, at time.Time) (*whole, error)
	// around gives the line of a UID, of which at may be the time, with up to n lines
	// before and after it of the same host and program; nil: there is no such line.
	around(ctx context.Context, q *query, uid string, at time.Time, n int) (*neighbours, error)
}

// searchResult is what a search finds.
type searchResult struct {
	lines    []line
	about    []line // at least as many, without their text: who wrote them
	table    table  // instead of lines, if pipes made something else of them
	complete bool   // false: there was no memory for all lines
}

// whole is a line in full.
type whole struct {
	fields []logsql.Field
	text   string // of a very long one the beginning, if no more is kept
	size   int    // bytes of the whole line
}

// line is a line in a list.
type line struct {
	UID     string `json:"uid"`
	Time    int64  `json:"time"` // Unix milliseconds
	Host    string `json:"host"`
	Sender  string `json:"sender,omitempty"` // who has sent it, if that is another than the line says
	Program string `json:"program,omitempty"`
	Level   string `json:"level,omitempty"`
	Text    string `json:"text"`

	Columns []string `json:"columns,omitempty"` // values of the fields that were asked for

	at  time.Time
	seq uint64
}

// newLine makes a line of its row, with its message, or else what text gives, and
// with the fields that are to stand in columns.
func newLine(fields []logsql.Field, text func([]logsql.Field) ([]byte, error), columns ...string) (l line) {
	for _, name := range columns {
		l.Columns = append(l.Columns, clip(fields, name, cutColumn))
	}
	l.Host, l.Program, l.Level = clip(fields, fieldHost, 300), clip(fields, "program", 100), clip(fields, "level", 100)
	if l.Sender = clip(fields, row.FieldSender, 300); l.Host == "" || strings.EqualFold(l.Host, l.Sender) {
		l.Host, l.Sender = cmp.Or(l.Host, l.Sender), ""
	}
	l.at, _ = time.Parse(time.RFC3339Nano, row.Value(fields, fieldTime))
	l.Time = l.at.UnixMilli()
	l.seq, _ = row.Seq(row.Value(fields, row.FieldSeq))
	l.UID = handshake.UID(strings.Clone(row.Value(fields, row.FieldSID)), l.seq)
	l.Text = clip(fields, fieldMsg, cutList)
	if l.Text == "" && text != nil {
		raw, err := text(fields)
		if err != nil {
			raw = []byte("(this line cannot be read: " + err.Error() + ")")
		}
		l.Text = strings.ToValidUTF8(string(raw[:min(len(raw), cutList)]), "�")
	}
	return l
}

// clip gives the beginning of a field's value, and keeps no more in memory.
func clip(fields []logsql.Field, name string, n int) string {
	return strings.Clone(row.Cut(row.Value(fields, name), n))
}

// order compares lines as the query wants them.
func (q *query) order(a, b line) int {
	if q.oldest {
		a, b = b, a
	}
	return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.UID, a.UID))
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

// table is rows that pipes made.
type table struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	bytes   int
	full    bool // rows were left out
}

func (t *table) add(fields []logsql.Field) {
	if t.full = t.full || t.bytes > listMemory/2; t.full {
		return
	}
	cells := make([]string, len(t.Columns))
	for _, f := range fields {
		i := slices.Index(t.Columns, f.Name)
		if i < 0 {
			if len(t.Columns) == maxColumns {
				continue
			}
			i = len(t.Columns)
			t.Columns, cells = append(t.Columns, strings.Clone(row.Cut(f.Name, 100))), append(cells, "")
		}
		cells[i] = strings.Clone(row.Cut(f.Value, cutList))
		t.bytes += len(cells[i])
	}
	t.bytes += 16 * len(cells)
	t.Rows = append(t.Rows, cells)
}
