package sqlite

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"wsrelay/handshake"
)

// Bounds of a query.
const (
	maxQuery   = 4096 // characters
	maxNesting = 32   // of parentheses and NOT
)

// ParseQuery reads what a person typed:
//
//	error timeout       both words, anywhere in the line, in upper or lower case
//	"failed password"   these words one after the other
//	10.0.0.7  /wp-login.php
//	                    also: their parts one after the other
//	time*               a word that begins so
//	status:404          these words in this field of a JSON line; name=value and
//	                    "name value" in any other
//	path:="/a b"        this field, with just this value
//	user:*              any value
//	host: sid: uid:     the sender's host, the stream, the line's UID
//	severity:err        also where it is called error, or 3
//	-debug  NOT debug   not this
//	a OR b  a AND b     AND binds closer, and need not be written
//	(a OR b) c
//	from:-1h  to:2026-03-14T12:00:00Z
//	                    of this time; see ParseTime
//
// A word without a letter or digit asks for nothing. An error is a *QueryError.
// Relative times are counted from now.
func ParseQuery(s string, now time.Time) (*Query, error) {
	p := parser{text: []rune(s), now: now}
	if len(p.text) > maxQuery {
		return nil, &QueryError{maxQuery + 1, fmt.Sprintf("it has more than %d characters", maxQuery)}
	}
	p.query.root = p.or(0)
	if p.err == nil && p.pos < len(p.text) {
		p.fail(p.pos, `")" without "(" before it; put text with parentheses in quotes`)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &p.query, nil
}

// parser reads a query from left to right. After an error it only gives nodes
// that nobody looks at.
type parser struct {
	text  []rune
	pos   int
	open  int // parentheses
	now   time.Time
	query Query
	err   *QueryError // the first
}

func (p *parser) fail(at int, format string, args ...any) {
	if p.err == nil {
		p.err = &QueryError{at + 1, fmt.Sprintf(format, args...)}
	}
	p.pos = len(p.text)
}

func (p *parser) skipSpace() {
	for p.pos < len(p.text) && unicode.IsSpace(p.text[p.pos]) {
		p.pos++
	}
}

// at reports whether the text goes on with s.
func (p *parser) at(s string) bool {
	return strings.HasPrefix(string(p.text[p.pos:min(len(p.text), p.pos+len(s))]), s)
}

// keyword reads AND, OR or NOT, if it comes next.
func (p *parser) keyword(word string) bool {
	p.skipSpace()
	end := p.pos + len(word)
	if !p.at(word) || end < len(p.text) && !unicode.IsSpace(p.text[end]) && !strings.ContainsRune(`("`, p.text[end]) {
		return false
	}
	p.pos = end
	return true
}

// or reads alternatives up to a ")" or the end.
func (p *parser) or(depth int) node {
	parts := or{p.and(depth)}
	for {
		p.skipSpace()
		at := p.pos
		if !p.keyword("OR") {
			break
		}
		if parts[len(parts)-1] == nil {
			p.fail(at, "OR has nothing to look for before it")
		}
		if parts = append(parts, p.and(depth)); parts[len(parts)-1] == nil {
			p.fail(at, "OR has nothing to look for after it")
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// and reads what must all be there; nil if there is nothing.
func (p *parser) and(depth int) node {
	var parts and
	for p.err == nil {
		p.skipSpace()
		at := p.pos
		joined := p.keyword("AND")
		if joined && len(parts) == 0 {
			p.fail(at, "AND has nothing to look for before it")
		}
		p.skipSpace()
		next := p.pos
		or := p.keyword("OR")
		p.pos = next
		if or || p.pos == len(p.text) || p.at(")") {
			if joined {
				p.fail(at, "AND has nothing to look for after it")
			}
			break
		}
		if n := p.not(depth); n != nil {
			parts = append(parts, n)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return parts
}

func (p *parser) not(depth int) node {
	at := p.pos
	if !p.keyword("NOT") {
		if !p.at("-") || p.at("--") || p.pos+1 == len(p.text) || unicode.IsSpace(p.text[p.pos+1]) {
			return p.primary(depth)
		}
		p.pos++
	}
	p.skipSpace()
	if depth == maxNesting {
		p.fail(at, "it is nested too deep")
		return nil
	}
	if p.pos == len(p.text) || p.at(")") {
		p.fail(at, "NOT has nothing to exclude after it")
		return nil
	}
	n := p.not(depth + 1)
	if n == nil {
		p.fail(at, "there is no letter or digit in what is to be excluded")
		return nil
	}
	return not{n}
}

// primary reads a word, a phrase, a field, or a query in parentheses.
func (p *parser) primary(depth int) node {
	at := p.pos
	if p.at("(") {
		if depth == maxNesting {
			p.fail(at, "it is nested too deep")
			return nil
		}
		p.pos++
		p.open++
		n := p.or(depth + 1)
		p.open--
		if !p.at(")") {
			p.fail(at, `"(" is never closed; put text with parentheses in quotes`)
			return nil
		}
		p.pos++
		return n
	}
	if name, exact := p.fieldName(); name != "" {
		return p.field(at, name, exact, depth)
	}
	words, prefix := p.value()
	if t := newTerm(words, prefix); t != "" {
		return t
	}
	return nil
}

// fieldName reads "name:" or "name:=", if that comes next with a value behind
// it. What looks like a URL or a Windows path is not a field.
func (p *parser) fieldName() (name string, exact bool) {
	end := p.pos
	for end < len(p.text) && inName(p.text[end], end == p.pos) {
		end++
	}
	if end == p.pos || end+1 >= len(p.text) || p.text[end] != ':' {
		return "", false
	}
	switch next := p.text[end+1]; {
	case unicode.IsSpace(next), next == ')', next == ':', next == '\\',
		next == '/' && end+2 < len(p.text) && p.text[end+2] == '/':
		return "", false
	}
	name = string(p.text[p.pos:end])
	p.pos = end + 1
	if p.at("=") {
		p.pos++
		exact = true
	}
	return name, exact
}

func inName(r rune, first bool) bool {
	return unicode.IsLetter(r) || strings.ContainsRune("_@", r) || !first && (unicode.IsDigit(r) || strings.ContainsRune(".-", r))
}

// value reads a word or what is in quotes, and whether it ends with an open
// end, a *.
func (p *parser) value() (text string, prefix bool) {
	if p.at(`"`) {
		text = p.quoted()
	} else {
		text = p.word()
	}
	if cut, ok := strings.CutSuffix(text, "*"); ok && cut != "" {
		return cut, true
	}
	if p.at("*") {
		p.pos++
		return text, true
	}
	return text, false
}

// quoted reads up to the closing quote. \" and \\ stand for " and \.
func (p *parser) quoted() string {
	start := p.pos
	var b strings.Builder
	for p.pos++; p.pos < len(p.text); p.pos++ {
		r := p.text[p.pos]
		switch {
		case r == '"':
			p.pos++
			return b.String()
		case r == '\\' && (p.at(`\"`) || p.at(`\\`)):
			p.pos++
			r = p.text[p.pos]
		}
		b.WriteRune(r)
	}
	p.fail(start, `the quote " is never closed`)
	return ""
}

// word reads up to a space, a quote, or a ")" that closes what was opened
// before the word.
func (p *parser) word() string {
	start, open := p.pos, 0
	for ; p.pos < len(p.text); p.pos++ {
		switch r := p.text[p.pos]; {
		case unicode.IsSpace(r) || r == '"':
			return string(p.text[start:p.pos])
		case r == '(':
			open++
		case r == ')' && open > 0:
			open--
		case r == ')' && p.open > 0:
			return string(p.text[start:p.pos])
		case r == '*' && p.pos+1 < len(p.text) && inWord(p.text[p.pos+1]):
			p.fail(p.pos, "a word can be open only at its end, as in time*")
			return ""
		}
	}
	return string(p.text[start:])
}

func (p *parser) field(at int, name string, exact bool, depth int) node {
	if p.at("(") {
		p.fail(p.pos, "a field has one value: write (%s:a OR %s:b)", name, name)
		return nil
	}
	quoted := p.at(`"`)
	valueAt := p.pos
	value, prefix := p.value()
	if p.err != nil {
		return nil
	}
	switch strings.ToLower(name) {
	case "from", "to":
		p.bound(at, valueAt, strings.ToLower(name), value, depth)
		return nil
	case "uid":
		if _, _, err := handshake.ParseUID(value); err != nil {
			p.fail(valueAt, "%v", err)
		}
		return own{uid: true, value: value}
	case "sid":
		if !handshake.ValidSID(value) {
			p.fail(valueAt, "%q is not a stream's id: it has %d characters of 0-9 and a-v", value, handshake.SIDLen)
		}
		return own{value: value}
	}
	if !quoted && value == "*" && !exact {
		return newExists(name)
	}
	if exact && prefix {
		p.fail(valueAt, "a whole value has no open end: write %s:%s* instead", name, value)
	}
	return newField(name, value, exact, prefix)
}

// bound sets one end of the time that is asked for.
func (p *parser) bound(at, valueAt int, name, value string, depth int) {
	t, err := ParseTime(value, p.now)
	if err != nil {
		p.fail(valueAt, "%v", err)
		return
	}
	if depth > 0 {
		p.fail(at, "%s: holds for the whole query: put it outside of parentheses and NOT", name)
		return
	}
	if name == "from" {
		p.query = *p.query.Within(t, time.Time{})
	} else {
		p.query = *p.query.Within(time.Time{}, t)
	}
}

// timeForms are the absolute times that ParseTime reads; without a zone they
// are UTC.
var timeForms = []string{
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly,
}

// ParseTime reads a time as people write it: 2026-03-14T15:09:26Z (RFC 3339),
// the same shorter down to 2026-03-14, in UTC, of the years 1970 to 2199, or relative to now: -90s, -15m,
// -1h30m, -2d, -1w, now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		if ago, err := ParseSpan(rest); err == nil {
			return now.Add(-ago), nil
		}
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 && t.Year() < 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-03-14T15:09:26Z, 2026-03-14 or -1h", s)
}

// ParseSpan reads a length of time: 90s, 15m, 1h30m, 30d, 2w.
func ParseSpan(s string) (time.Duration, error) {
	var total time.Duration
	for rest := s; rest != ""; {
		digits := strings.TrimLeft(rest, "0123456789")
		var n int64
		if _, err := fmt.Sscanf(rest[:len(rest)-len(digits)], "%d", &n); err != nil || digits == "" {
			return 0, fmt.Errorf("%q is not a time such as 90s, 15m, 1h30m or 30d", s)
		}
		unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[digits[0]]
		if unit == 0 || n > int64(maxSpan/unit) {
			return 0, fmt.Errorf("%q is not a time such as 90s, 15m, 1h30m or 30d", s)
		}
		total += time.Duration(n) * unit
		rest = digits[1:]
	}
	if total <= 0 || total > maxSpan {
		return 0, fmt.Errorf("%q is not a time such as 90s, 15m, 1h30m or 30d", s)
	}
	return total, nil
}

// maxSpan is the longest time that ParseSpan reads, 50 years.
const maxSpan = 50 * 365 * 24 * time.Hour
