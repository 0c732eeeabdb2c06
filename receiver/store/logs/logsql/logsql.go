// Package logsql makes LogsQL of what a person types.
//
// The rule: a word, or a phrase in quotes, that names no field is looked for in
// every field, in upper and lower case. Everything else is LogsQL as it stands,
// and so is all that follows the first "|". By itself LogsQL would look only into
// _msg, which few JSON lines have, and tell Error from error.
package logsql

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"unicode"
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
	switch c := p.in[p.at]; c {
	case '-', '!', '(', ')', ' ', '\t', '\n', '\r':
		p.copy(1)
	case '{':
		p.copy(p.group())
	case '"', '\'', '`':
		n := p.quoted(p.at)
		if end := p.at + n; end < len(p.in) && p.in[end] == ':' { // a field
			p.copy(n + 1)
			p.value()
			return
		}
		text, err := strconv.Unquote(p.in[p.at : p.at+n])
		if err != nil { // '...' of several characters, or what LogsQL complains of
			text = strings.Trim(p.in[p.at:p.at+n], `'`)
		}
		p.at += n
		p.term(text, p.star())
	default:
		p.word()
	}
}

// word is one without quotes: an operator, a function, a field with its value, or
// a term.
func (p *plain) word() {
	n := strings.IndexAny(p.in[p.at:], " \t\n\r()|\"'`{")
	if n < 0 {
		n = len(p.in) - p.at
	}
	word := p.in[p.at : p.at+n]
	if name, rest, ok := strings.Cut(word, ":"); ok && isField(name, rest) {
		p.copy(len(name) + 1)
		p.value()
		return
	}
	switch strings.ToLower(word) {
	case "and", "or", "not", "*":
		p.copy(n)
		return
	}
	if end := p.at + n; end < len(p.in) && p.in[end] == '(' { // a function, such as i(...)
		p.copy(n + p.groupAt(end))
		return
	}
	if n == 0 { // a bracket that nothing has opened
		p.copy(1)
		return
	}
	p.at += n
	text := strings.TrimSuffix(word, "*")
	p.term(text, text != word)
}

// isField tells a field's name from a word with a colon in it, as in 10:15:30,
// http://example.com and ::1.
func isField(name, rest string) bool {
	return name != "" && !strings.HasPrefix(rest, "//") && strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsDigit(r) })
}

// value copies what follows the colon of a field.
func (p *plain) value() {
	for p.at < len(p.in) && strings.IndexByte("=!<>~-", p.in[p.at]) >= 0 {
		p.copy(1)
	}
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r', ')', '|':
			return
		case '(', '[', '{':
			p.copy(p.group())
		case '"', '\'', '`':
			p.copy(p.quoted(p.at))
		default:
			p.copy(1)
		}
	}
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
