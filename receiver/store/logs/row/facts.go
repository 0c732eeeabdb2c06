package row

import (
	"strings"
	"time"
	"unsafe"
)

// facts is what is known of a line.
type facts struct {
	time                 time.Time
	timed                bool
	level, host, program string
	shape                *cached  // nil: it has no fields
	values               []string // of shape, "" for none
	exact                bool     // the values are those that the line has, and the library keeps them
	message              string
}

// object finds the facts of a line that is a JSON object.
func (c *Coder) object(f *facts, l *Line) {
	f.shape, f.exact = c.shape(c.scanner.skeleton), true
	s := f.shape.shape
	c.values = c.values[:0]
	for i := range c.scanner.spans {
		v, kind := c.value(i), s.values[i].kind
		if (kind == kindString || kind == kindLiteral) && !keeps(v) {
			f.exact = false
		}
		c.values = append(c.values, v)
	}
	f.values = c.values
	c.members(f, l)
	if s.message >= 0 {
		f.message = f.values[s.message]
	}
	if f.level == "" {
		f.level = levelInText(f.message)
	}
}

// value gives a value that the scanner has found as its field has it.
func (c *Coder) value(i int) string {
	span := c.scanner.spans[i]
	v := text(c.scanner.line[span.from:span.to])
	switch {
	case span.escaped:
		v = c.held(appendUnescaped(c.buf, v))
	case v == "null" && c.scanner.line[span.from-1] != '"':
		return ""
	}
	if strings.IndexByte(v, escape[0]) >= 0 {
		v = c.uncoloured(v)
	}
	return v
}

// text finds the facts of any other line.
func (c *Coder) text(f *facts, l *Line, line string) {
	if strings.IndexByte(line, escape[0]) >= 0 {
		line = c.uncoloured(line)
	}
	t := &c.texts
	t.parse(line)
	f.message = line
	c.embedded(t)
	f.host, f.program = unlessNil(t.host), unlessNil(t.program)
	if len(t.values) > 0 {
		f.shape, f.values = c.shape(t.skeleton), t.values
	}
	if at, ok := c.timeInText(t.time, l.At); ok {
		f.time, f.timed = at, c.plausible(l, at)
	}
	c.members(f, l)
	if f.level != "" {
		return
	}
	f.level = t.level
	if f.level == "" || f.level == "info" || f.level == "notice" { // what syslog gives to a text that tells none
		if inner := levelInText(t.body); inner != "" {
			f.level = inner
		}
	}
	if b := t.body; f.level == "" && len(b) > len("E0314 02:03:04") && isDigits(b[1:5]) && b[5] == ' ' && b[8] == ':' {
		f.level = letters[b[0]]
	}
}

// embedded adds the members of a JSON object that follows the header of a text.
func (c *Coder) embedded(t *texts) {
	body := strings.TrimLeft(strings.TrimPrefix(t.body, "@cee:"), " ")
	if !strings.HasPrefix(body, "{") || !c.scanner.scan(unsafe.Slice(unsafe.StringData(body), len(body))) {
		return
	}
	s := c.shape(c.scanner.skeleton).shape
	for i := range s.values {
		if v := c.value(i); v != "" {
			t.add(s.values[i].path, v)
		}
	}
}

// unlessNil is a value of syslog's header, which has a dash for none.
func unlessNil(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// timeInText gives the time at one of the first words of a text.
func (c *Coder) timeInText(s string, at time.Time) (t time.Time, ok bool) {
	for word := range 4 {
		s = strings.TrimLeft(s, " [(")
		if s == "" {
			break
		}
		if t, rest, ok := parseTime(s, at, c.table.opts.Zone); ok && (word == 0 || !isDigits(s[:min(9, len(s))])) &&
			(rest == "" || !isLetter(rest[0])) {
			return t, true
		}
		i := strings.IndexByte(s[:min(len(s), 32)], ' ')
		if i < 0 {
			break
		}
		s = s[i:]
	}
	return t, false
}

// members finds what the members of a line tell under the names that programs use.
func (c *Coder) members(f *facts, l *Line) {
	if f.shape == nil {
		return
	}
	s := f.shape.shape
	for _, i := range s.times {
		if f.timed || f.values[i] == "" {
			continue
		}
		if at, rest, ok := parseTime(strings.TrimSpace(f.values[i]), l.At, c.table.opts.Zone); ok && rest == "" {
			f.time, f.timed = at, c.plausible(l, at)
		}
	}
	for _, i := range s.levels {
		if f.level == "" {
			f.level = levelOf(s.values[i].path, f.values[i])
		}
	}
	for _, i := range s.hosts {
		if f.host == "" && !isBracket(f.values[i]) {
			f.host = f.values[i]
		}
	}
	for _, i := range s.progs {
		if f.program == "" && !isBracket(f.values[i]) {
			f.program = f.values[i]
		}
	}
}

func isBracket(s string) bool { return s != "" && (s[0] == '{' || s[0] == '[') }

// plausible reports whether a row may be stored under the time that its line names.
func (c *Coder) plausible(l *Line, t time.Time) bool {
	if t.After(l.At.Add(maxAhead)) || t.Before(l.At.Add(-c.table.opts.MaxAge)) || t.Year() < 1971 || t.Year() > 2261 {
		return false
	}
	day, arrival := dayOf(t), dayOf(l.At)
	return day >= arrival-1 && day <= arrival+1 || c.table.hasFarDay(l, day)
}
