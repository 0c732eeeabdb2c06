package sqlite

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// document is a line as a query looks at it. What is costly to know is found
// out when it is first asked for.
type document struct {
	id     int64
	sid    string
	at     int64
	host   string
	line   []byte
	folded *string
	object *bool
}

func (d *document) uid() string { return handshake.UID(d.sid, uint64(d.id&maxSeq)) }

func (d *document) text() string {
	if d.folded == nil {
		t := text(d.host, d.line)
		d.folded = &t
	}
	return *d.folded
}

func (d *document) isObject() bool {
	if d.object == nil {
		is := IsObject(d.line)
		d.object = &is
	}
	return *d.object
}

// IsObject reports whether a line is a JSON object, the kind that has fields.
// One that is nested deeper than 10,000 levels is taken for none.
func IsObject(line []byte) bool {
	if len(line) < 2 || line[0] != '{' {
		return false
	}
	if isJSON(line) {
		return true
	}
	quoted, changed := receiver.QuoteNonFinite(line) // gjson reads both alike
	return changed && isJSON(quoted)
}

// Field is a value in a line that is a JSON object.
type Field struct {
	Name  string // of nested objects with dots: fields.status
	Value string // a string without quotes and escapes, anything else as written
}

// maxDepth bounds how deep fields may be nested to be seen.
const maxDepth = 16

// Fields calls f for each value of a line that is a JSON object, until f returns
// false. The elements of an array are values under its name.
func Fields(line []byte, f func(Field) bool) {
	walk("", gjson.ParseBytes(line), maxDepth, f)
}

func walk(name string, v gjson.Result, depth int, f func(Field) bool) bool {
	if !v.IsObject() && !v.IsArray() {
		value := v.Raw
		if v.Type == gjson.String {
			value = v.Str
		}
		return f(Field{name, value})
	}
	if depth == 0 {
		return true
	}
	object, more := v.IsObject(), true
	v.ForEach(func(key, value gjson.Result) bool {
		inner := name
		if object {
			inner = key.Str
			if name != "" {
				inner = name + "." + key.Str
			}
		}
		more = walk(inner, value, depth-1, f)
		return more
	})
	return more
}

// wellKnown are the fields by which people sort lines, with the names under
// which programs write them.
var wellKnown = map[string][]string{
	"host":     {"host", "hostname", "host.name"},
	"program":  {"program", "appname", "process.name"},
	"severity": {"severity", "level", "log.level"},
	"message":  {"message", "msg"},
}

func isWellKnown(field, name string) bool {
	return slices.ContainsFunc(wellKnown[name], func(n string) bool { return strings.EqualFold(field, n) })
}

// Summary is the well-known fields of a line, "" where it has none.
type Summary struct {
	Host, Program, Message string
	Severity               string // its name in syslog, such as err
}

// Summarize finds the well-known fields of a line that is a JSON object.
func Summarize(line []byte) (s Summary) {
	if !IsObject(line) {
		return s
	}
	set := func(to *string, name string, f Field) {
		if *to == "" && isWellKnown(f.Name, name) {
			*to = f.Value
		}
	}
	Fields(line, func(f Field) bool {
		set(&s.Host, "host", f)
		set(&s.Program, "program", f)
		set(&s.Message, "message", f)
		set(&s.Severity, "severity", f)
		return true
	})
	s.Severity = Severity(s.Severity)
	return s
}

// severities are the names of syslog (RFC 5424, 6.2.1), each with what else
// programs call it.
var severities = [][]string{
	{"emerg", "emergency", "panic", "0"},
	{"alert", "1"},
	{"crit", "critical", "fatal", "2"},
	{"err", "error", "3"},
	{"warning", "warn", "4"},
	{"notice", "5"},
	{"info", "informational", "6"},
	{"debug", "trace", "7"},
}

// Severity is the syslog name of what a program calls a severity, "" if it is
// none.
func Severity(value string) string {
	if names := severityNames(value); names != nil {
		return names[0]
	}
	return ""
}

func severityNames(value string) []string {
	for _, names := range severities {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(value, n) }) {
			return names
		}
	}
	return nil
}

// field asks for a value of a JSON line under a name: its whole name, or its
// last parts. In any other line it asks for the name and the value one after
// the other, which finds user=root and "port 22" too.
type field struct {
	name  string
	is    func(value string) bool
	term  term // what the line must hold in any case
	plain term // what a line that is no JSON object must hold
}

// newField gives name:value, or name:=value if exact.
func newField(name, value string, exact, prefix bool) node {
	key := strings.ToLower(name)
	f := field{name: key, term: newTerm(value, prefix), plain: newTerm(name+" "+value, prefix)}
	f.is = func(v string) bool { return f.term.in(fold([]byte(v))) }
	if exact || f.term == "" {
		f.is = func(v string) bool { return v == value }
	}
	names := severityNames(value)
	if key != "severity" || names == nil {
		return f
	}
	var any or
	for _, n := range names {
		any = append(any, field{
			name: key, term: newTerm(n, false), plain: newTerm(key+" "+n, false),
			is: func(v string) bool { return strings.EqualFold(v, n) },
		})
	}
	return any
}

// newExists gives name:*, a field with any value.
func newExists(name string) node {
	if strings.EqualFold(name, "host") {
		return and{} // every line has a sender
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return field{
		name: strings.ToLower(name), term: newTerm(last, false), plain: newTerm(name, false),
		is: func(string) bool { return true },
	}
}

func (f field) match(d *document) bool {
	switch {
	case f.name == "host" && f.is(d.host):
		return true
	case !f.term.in(d.text()):
		return false
	case !d.isObject():
		return f.plain.in(d.text())
	}
	found := false
	Fields(d.line, func(v Field) bool {
		found = f.means(v.Name) && f.is(v.Value)
		return !found
	})
	return found
}

func (f field) means(name string) bool {
	if wellKnown[f.name] != nil {
		return isWellKnown(name, f.name)
	}
	cut := len(name) - len(f.name)
	return cut >= 0 && strings.EqualFold(name[cut:], f.name) && (cut == 0 || name[cut-1] == '.')
}

func (f field) expression() (string, bool) {
	fts, _ := f.term.expression()
	return fts, false
}

// own asks for a line's UID or its stream.
type own struct {
	uid   bool
	value string
}

func (o own) match(d *document) bool {
	if o.uid {
		return d.uid() == o.value
	}
	return d.sid == o.value
}

func (o own) expression() (string, bool) { return "", false }
