package sqlite

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// What search sees of a line, and of one word.
const (
	maxSearched = 64 << 10 // bytes
	maxWord     = 128      // bytes; what is longer is cut
)

// query is what must be in a line: all of the terms.
type query []term

// term is words that follow each other, in the form of fold: with a space on
// either side, but none at the end of a term whose last word is a prefix.
type term string

// parseQuery reads what a person typed. There is nothing it refuses:
//
//	error timeout       both words, anywhere in the line
//	"failed password"   these words one after the other
//	10.0.0.7  /wp-login.php  status:404
//	                    also: their parts one after the other
//	time*               a word that begins so
//
// Upper and lower case are the same. A term without a letter or digit asks for
// nothing.
func parseQuery(s string) query {
	var q query
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		var text string
		if quoted, ok := strings.CutPrefix(s, `"`); ok {
			text, s, _ = strings.Cut(quoted, `"`)
		} else {
			end := strings.IndexFunc(s, func(r rune) bool { return r == '"' || unicode.IsSpace(r) })
			if end < 0 {
				end = len(s)
			}
			text, s = s[:end], s[end:]
		}
		rest, star := strings.CutPrefix(s, "*")
		if star {
			s = rest
		}
		prefix := star || strings.HasSuffix(text, "*")
		words := fold([]byte(text))
		if words == "" {
			continue
		}
		if prefix {
			words = strings.TrimSuffix(words, " ")
		}
		q = append(q, term(words))
	}
	return q
}

// matches reports whether a line, folded, has all of the terms. It gives the
// same answer as FTS5 does for expression.
func (q query) matches(folded string) bool {
	for _, t := range q {
		if !strings.Contains(folded, string(t)) {
			return false
		}
	}
	return true
}

// expression is the query in the language of FTS5. Its words are letters and
// digits only, so nothing in them needs quoting.
func (q query) expression() string {
	phrases := make([]string, len(q))
	for i, t := range q {
		phrases[i] = `"` + strings.TrimSpace(string(t)) + `"`
		if !strings.HasSuffix(string(t), " ") {
			phrases[i] += "*"
		}
	}
	return strings.Join(phrases, " AND ")
}

// fold is the words of a line, in lower case, each between two spaces; "" if
// there are none. A word is a run of letters, marks and digits: what people
// look for is found whole and in parts. In a line that is JSON the escapes are
// read, and its names are words as well.
//
// The index holds fold's output, cut by a tokenizer that knows nothing but
// spaces, so index and query agree on what a word is.
func fold(line []byte) string {
	if bytes.IndexByte(line, '\\') >= 0 && gjson.ValidBytes(line) {
		line = unescape(line[:min(len(line), maxSearched)])
	}
	line = line[:min(len(line), maxSearched)]
	folded := make([]byte, 1, len(line)+2)
	folded[0] = ' '
	start := 1 // of the word
	for len(line) > 0 {
		r, n := rune(line[0]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(line)
		}
		line = line[n:]
		switch {
		case !inWord(r):
			if len(folded) > start {
				folded = append(folded, ' ')
				start = len(folded)
			}
		case len(folded)-start < maxWord:
			folded = utf8.AppendRune(folded, unicode.ToLower(r))
		}
	}
	if len(folded) > start {
		folded = append(folded, ' ')
	}
	if len(folded) == 1 {
		return ""
	}
	return string(folded)
}

func inWord(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.N)
}

// unescape replaces the escapes of JSON (RFC 8259, 7). They occur in strings
// only, so there is no need to know where those are.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 == len(b) {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
		c := b[i+1]
		b = b[i+2:]
		switch c {
		case 'b', 'f', 'n', 'r', 't':
			out = append(out, ' ')
		case 'u':
			r, n := codeUnit(b)
			b = b[n:]
			if utf16.IsSurrogate(r) && bytes.HasPrefix(b, []byte(`\u`)) {
				low, n := codeUnit(b[2:])
				r = utf16.DecodeRune(r, low)
				b = b[2+n:]
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
}

// codeUnit reads four hexadecimal digits and says how many bytes they are.
func codeUnit(b []byte) (r rune, n int) {
	n = min(4, len(b))
	v, err := strconv.ParseUint(string(b[:n]), 16, 16)
	if err != nil {
		return utf8.RuneError, n // cut off by maxSearched
	}
	return rune(v), n
}
