// Package logsql makes LogsQL of what a person types.
//
// The rule: a word, or a phrase in quotes, that names no field is looked for in
// every field, in upper and lower case. Everything else is LogsQL as it stands,
// and so is all that follows the first "|". LogsQL alone would look only into
// _msg, which few JSON lines have, and tell Error from error.
//
// People search for pieces of lines, such as
//
//	sshd[4711]: can't open /etc/x: open() failed (2: No such file)
//
// so a word may hold what is an operator elsewhere. A field is a name, a colon and,
// without a space between, a value; a function is one that LogsQL has.
package logsql

import (
	"cmp"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Plain gives the LogsQL for a query: its filter, which for an empty query finds
// all, and its pipes, from the first "|" on.
func Plain(query string) (filter, pipes string) {
	p := &plain{in: query}
	for p.at < len(p.in) && p.in[p.at] != '|' {
		p.step()
	}
	return cmp.Or(strings.TrimSpace(p.out.String()), "*"), strings.TrimSpace(p.in[p.at:])
}

// plain copies in to out, and changes what is a term without a field.
type plain struct {
	in  string
	at  int
	out strings.Builder
}

func (p *plain) step() {
	rest := p.in[p.at:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "--"): // an option of a command
		p.word()
	case strings.IndexByte("-!() \t\n\r", c) >= 0:
		p.copy(1)
	case c == '{' && stream.MatchString(rest):
		p.copy(p.group())
	case strings.IndexByte("\"'`", c) >= 0:
		n := p.quoted(p.at)
		if strings.HasPrefix(rest[n:], ":") { // a field
			p.copy(n + 1)
			p.value()
			return
		}
		text, err := strconv.Unquote(rest[:n])
		if err != nil { // '...' of several characters, or what LogsQL complains of
			text = strings.Trim(rest[:n], `'`)
		}
		p.at += n
		p.term(text, p.star())
	default:
		p.word()
	}
}

// stream matches the beginning of a filter for streams, and not that of JSON.
var stream = regexp.MustCompile(`^\{\s*(?:\}|(?:"[^"]*"|[\w./-]+)\s*(?:!?[=~]|in\b|not_in\b))`)

// functions are those of LogsQL that can stand without a field.
var functions = map[string]bool{
	"contains_all": true, "contains_any": true, "contains_common_case": true, "eq_field": true, "equals_common_case": true, "exact": true, "i": true,
	"in": true, "ipv4_range": true, "ipv6_range": true, "json_array_contains_any": true, "le_field": true, "len_range": true, "lt_field": true,
	"options": true, "pattern_match": true, "pattern_match_full": true, "pattern_match_prefix": true, "pattern_match_suffix": true, "re": true,
	"seq": true, "string_range": true, "value_type": true,
}

// word is one without quotes: an operator, a function, a field with its value, or
// a term.
func (p *plain) word() {
	rest := p.in[p.at:]
	if m := field.FindString(rest); m != "" && isField(m[:len(m)-1], rest[len(m):]) {
		p.copy(len(m))
		p.value()
		if m == "_time:" {
			p.copy(len(offset.FindString(p.in[p.at:])))
		}
		return
	}
	n := strings.IndexAny(rest, " \t\n\r()|\"'`{")
	if n < 0 {
		n = len(rest)
	}
	switch word := strings.ToLower(rest[:n]); {
	case word == "and", word == "or", word == "not", word == "*":
		p.copy(n)
		return
	case functions[word] && strings.HasPrefix(rest[n:], "("):
		p.copy(n + p.groupAt(p.at+n))
		return
	}
	n = p.wordLen()
	p.at += n
	text := strings.TrimSuffix(rest[:n], "*")
	p.term(text, text != rest[:n])
}

// wordLen is the length of a term without quotes around it. In it may be what is
// closed again, as in open(2), and quotes, as in key="a value" and can't.
func (p *plain) wordLen() int {
	open := false // a bracket that nothing closes: it is not looked for again
	for i := p.at; i < len(p.in); {
		switch c := p.in[i]; c {
		case ' ', '\t', '\n', '\r', '|', ')':
			return max(i-p.at, 1)
		case '(', '{':
			if open {
				break
			}
			n := p.groupAt(i)
			if last := p.in[i+n-1]; n > 1 && (last == ')' || last == '}') {
				i += n - 1
			} else {
				open = true
			}
		case '"', '\'', '`':
			if n := p.quoted(i); i > p.at && p.in[i-1] == '=' && n > 1 && p.in[i+n-1] == c {
				i += n - 1
			}
		}
		i++
	}
	return len(p.in) - p.at
}

var (
	field  = regexp.MustCompile(`^[\pL\pN_.@$/*-]+:`)
	offset = regexp.MustCompile(`^\s+offset\s+\S+`)
	date   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT`)
)

// isField tells a field's name from a word with a colon in it, as in 10:15:30,
// http://example.com, 10.0.0.1:80, ::1, std::string and "error: not found".
func isField(name, rest string) bool {
	if _, err := netip.ParseAddr(name); err == nil || date.MatchString(name) {
		return false
	}
	return rest != "" && strings.IndexByte(" \t\n\r):\\|", rest[0]) < 0 && !strings.HasPrefix(rest, "//") &&
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsDigit(r) })
}

// value copies what follows the colon of a field. A word that LogsQL cannot read,
// such as one with a / in front, gets quotes.
func (p *plain) value() {
	for p.at < len(p.in) && strings.IndexByte("=!<>~-", p.in[p.at]) >= 0 {
		p.copy(1)
	}
	start := p.at
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r', ')', '|':
			p.plainValue(start)
			return
		case '(', '[', '{':
			p.at += p.group()
		case '"', '\'', '`':
			p.at += p.quoted(p.at)
		default:
			p.at++
		}
	}
	p.plainValue(start)
}

func (p *plain) plainValue(start int) {
	value := p.in[start:p.at]
	if _, err := logstorage.ParseFilter("x:" + value); err != nil && value != "" && !strings.ContainsAny(value, "()[]{}\"'`") {
		text := strings.TrimSuffix(value, "*")
		value = strconv.Quote(text) + value[len(text):]
	}
	p.out.WriteString(value)
}

// term looks for text in every field.
func (p *plain) term(text string, prefix bool) {
	switch {
	case strings.HasPrefix(text, "*") && prefix, strings.ContainsFunc(text, hasNoWords):
		p.out.WriteString("*:~" + strconv.Quote("(?i)"+regexp.QuoteMeta(strings.Trim(text, "*"))))
	case prefix:
		p.out.WriteString("*:i(" + strconv.Quote(text) + "*)")
	default:
		p.out.WriteString("*:i(" + strconv.Quote(text) + ")")
	}
}

// hasNoWords reports whether r is of a script that puts no spaces between words:
// LogsQL takes a whole run of it for one word.
func hasNoWords(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func (p *plain) star() bool {
	if p.at < len(p.in) && p.in[p.at] == '*' {
		p.at++
		return true
	}
	return false
}

func (p *plain) copy(n int) {
	p.out.WriteString(p.in[p.at : p.at+n])
	p.at += n
}

// group is the length of what begins with the bracket here, up to the one that
// closes it. A range may open with one kind and close with the other: [1, 5).
func (p *plain) group() int { return p.groupAt(p.at) }

func (p *plain) groupAt(at int) int {
	depth := 0
	for i := at; i < len(p.in); {
		switch p.in[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth == 0 {
				return i + 1 - at
			}
		case '"', '\'', '`':
			i += p.quoted(i)
			continue
		}
		i++
	}
	return len(p.in) - at
}

// quoted is the length of the quoted text at i; of one without an end, all that
// is left.
func (p *plain) quoted(i int) int {
	quote := p.in[i]
	for j := i + 1; j < len(p.in); j++ {
		switch p.in[j] {
		case '\\':
			if quote != '`' {
				j++
			}
		case quote:
			return j + 1 - i
		}
	}
	return len(p.in) - i
}
