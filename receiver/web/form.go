package web

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"
)

// form is what a download is made of.
type form interface {
	kind() string // its media type
	name() string // of the file
	head() []byte // before all
	// line gives a line, whose text is what text gives.
	line(fields []logsql.Field, text func([]logsql.Field) ([]byte, error)) ([]byte, error)
	// ofTable gives the form for rows that pipes made, and row one of them.
	ofTable(rows [][]logsql.Field) form
	row(fields []logsql.Field) []byte
}

func formOf(name string, columns []string) form {
	if name == "csv" {
		return &csvForm{columns: columns, names: append([]string{"time", "host", "program", "level", "message", "uid"},
			columns...)}
	}
	return &jsonForm{columns}
}

// Hit is a line as programs get it, in JSON.
type Hit struct {
	UID    string            `json:"uid"`
	Time   string            `json:"time"`
	Host   string            `json:"host"`
	Line   string            `json:"line"`
	Line64 []byte            `json:"line64,omitempty"` // the bytes of a line that is not UTF-8
	Fields map[string]string `json:"fields,omitempty"` // that were asked for
}

// NewHit makes a Hit of a line.
func NewHit(uid string, at time.Time, host string, line []byte) Hit {
	h := Hit{UID: uid, Time: at.UTC().Format(TimeForm), Host: host, Line: string(line)}
	if !utf8.Valid(line) {
		h.Line64 = line
	}
	return h
}

// jsonForm has one object a line: a Hit with the fields in columns.
type jsonForm struct{ columns []string }

func (*jsonForm) kind() string                    { return "application/x-ndjson" }
func (*jsonForm) name() string                    { return "lines.ndjson" }
func (*jsonForm) head() []byte                    { return nil }
func (f *jsonForm) ofTable([][]logsql.Field) form { return f }

func (f *jsonForm) line(fields []logsql.Field, text func([]logsql.Field) ([]byte, error)) ([]byte, error) {
	l := newLine(fields, nil)
	raw, err := bytesOf(fields, text)
	if err != nil {
		return nil, err
	}
	hit := NewHit(l.UID, l.at, l.Host, raw)
	for _, name := range f.columns {
		if value := row.Value(fields, name); value != "" {
			if hit.Fields == nil {
				hit.Fields = map[string]string{}
			}
			hit.Fields[name] = value
		}
	}
	out, err := json.Marshal(hit)
	return append(out, '\n'), err
}

// TimeForm is how times are written for programs and on a terminal: its width is fixed, so
// that columns line up and lines sort, and it names the zone.
const TimeForm = "2006-01-02T15:04:05.000Z07:00"

// bytesOf gives a line as it came, or what stands for a gap.
func bytesOf(fields []logsql.Field, text func([]logsql.Field) ([]byte, error)) ([]byte, error) {
	if row.Value(fields, row.FieldGap) != "" {
		return []byte(row.Value(fields, fieldMsg)), nil
	}
	return text(fields)
}

func (*jsonForm) row(fields []logsql.Field) []byte {
	var b bytes.Buffer
	for i, f := range fields {
		name, _ := json.Marshal(f.Name)
		value, _ := json.Marshal(f.Value)
		b.WriteByte("{,"[min(i, 1)])
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// csvForm is for spreadsheets: no cell is a formula.
type csvForm struct {
	columns []string // fields, behind those of every line
	names   []string // of all columns
}

func (*csvForm) kind() string   { return "text/csv; charset=utf-8" }
func (*csvForm) name() string   { return "lines.csv" }
func (f *csvForm) head() []byte { return record(f.names) }

func (f *csvForm) line(fields []logsql.Field, text func([]logsql.Field) ([]byte, error)) ([]byte, error) {
	l := newLine(fields, nil)
	message := row.Value(fields, fieldMsg)
	if message == "" {
		raw, err := bytesOf(fields, text)
		if err != nil {
			return nil, err
		}
		message = string(raw)
	}
	cells := []string{l.at.UTC().Format(TimeForm), l.Host, l.Program, l.Level, message, l.UID}
	for _, name := range f.columns {
		cells = append(cells, row.Value(fields, name))
	}
	return record(cells), nil
}

func (f *csvForm) ofTable(rows [][]logsql.Field) form {
	t := &csvForm{}
	for _, fields := range rows {
		for _, field := range fields {
			if len(t.names) < maxColumns && !slices.Contains(t.names, field.Name) {
				t.names = append(t.names, field.Name)
			}
		}
	}
	return t
}

func (f *csvForm) row(fields []logsql.Field) []byte {
	cells := make([]string, len(f.names))
	for i, name := range f.names {
		cells[i] = row.Value(fields, name)
	}
	return record(cells)
}

// record writes a record of CSV. A spreadsheet takes what begins with one of these
// signs for a formula, and a line is written by strangers: a ' keeps it a text.
func record(cells []string) []byte {
	safe := make([]string, len(cells))
	for i, cell := range cells {
		if _, err := strconv.ParseFloat(cell, 64); err != nil && cell != "" &&
			strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			cell = "'" + cell
		}
		safe[i] = cell
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(safe) // into memory
	w.Flush()
	return b.Bytes()
}
