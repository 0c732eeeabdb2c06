package sqlite

import (
	"bytes"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
)

// What search sees of a line, and of one word.
const (
	maxSearched = 64 << 10 // bytes
	maxWord     = 128      // bytes; what is longer is cut
)

// fold is the words of a line, in lower case, each between two spaces; "" if
// there are none. A word is a run of letters, marks and digits: what people
// look for is found whole and in parts. In a line that is JSON the escapes are
// read, and its names are words as well.
//
// The index holds fold's output, cut by a tokenizer that knows nothing but
// spaces, so index and query agree on what a word is.
func fold(line []byte) string {
	if bytes.IndexByte(line, '\\') >= 0 && isJSON(line) {
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

// maxLevels bounds how deep a line may be nested to count as JSON. It must stay
// what it is: a line leaves the index under the very words that it came with.
const maxLevels = 10_000

func isJSON(line []byte) bool { return !receiver.IsDeep(line, maxLevels) && gjson.ValidBytes(line) }

// text is what is searched of a document: the words of its sender's host and of
// its line.
func text(host string, line []byte) string {
	h, l := fold([]byte(host)), fold(line)
	if h == "" || l == "" {
		return h + l
	}
	return h + l[1:]
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
