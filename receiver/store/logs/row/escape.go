package row

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// style is which characters a writer of JSON escapes though it need not, and how.
type style byte

const (
	escapesSlash style = 1 << iota // PHP
	escapesHTML                    // Go: < > & and two line separators
	escapesASCII                   // Python: all that is not ASCII
	upperDigits                    // nginx: \u001B

	firstStyle = 'a'
)

// styleOf tells the style of a string that has escapes.
func styleOf(s []byte) (st style) {
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		switch {
		case s[i] == '/':
			st |= escapesSlash
		case s[i] == 'u' && i+4 < len(s):
			digits := text(s[i+1 : i+5])
			n, err := strconv.ParseUint(digits, 16, 16)
			switch {
			case err != nil:
			case n == '<', n == '>', n == '&':
				st |= escapesHTML
			case n == 0x2028, n == 0x2029:
				st |= escapesHTML // which Python's style includes
			case n >= utf8.RuneSelf:
				st |= escapesASCII
			}
			if strings.ContainsAny(digits, "ABCDEF") {
				st |= upperDigits
			}
		}
	}
	return st
}

// plain has the bytes that no style escapes.
var plain = func() (is [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		is[c] = !strings.ContainsRune(`"\/<>&`, rune(c))
	}
	return is
}()

func isPlain(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

// appendEscaped appends what a string is written as in JSON, without the quotes.
func appendEscaped(dst []byte, s string, st style) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if st&escapesASCII == 0 && (st&escapesHTML == 0 || r != 0x2028 && r != 0x2029) {
				dst = append(dst, s[i:i+n]...)
			} else if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
				dst = appendUnicode(appendUnicode(dst, r1, st), r2, st)
			} else {
				dst = appendUnicode(dst, r, st)
			}
			i += n
			continue
		}
		i++
		if short := shortEscape(c); short != 0 && (c != '/' || st&escapesSlash != 0) {
			dst = append(dst, '\\', short)
		} else if c < ' ' || st&escapesHTML != 0 && (c == '<' || c == '>' || c == '&') {
			dst = appendUnicode(dst, rune(c), st)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func appendUnicode(dst []byte, r rune, st style) []byte {
	digits := "0123456789abcdef"
	if st&upperDigits != 0 {
		digits = "0123456789ABCDEF"
	}
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// shortEscape is the letter after the backslash that stands for c, or 0.
func shortEscape(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case '\n':
		return 'n'
	case '\t':
		return 't'
	case '\r':
		return 'r'
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	}
	return 0
}

// appendUnescaped appends the string that is written as s in JSON. What is no
// escape stays as it is.
func appendUnescaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			r, rest := codePoint(s)
			if rest == s {
				dst = append(dst, '\\', c)
				continue
			}
			dst, s = utf8.AppendRune(dst, r), rest
		default:
			dst = append(dst, '\\', c)
		}
	}
}

// codePoint reads the digits after \u, and the second half of a pair; rest is s if
// there are none.
func codePoint(s string) (r rune, rest string) {
	unit := func(s string) (rune, bool) {
		if len(s) < 4 {
			return 0, false
		}
		n, err := strconv.ParseUint(s[:4], 16, 16)
		return rune(n), err == nil
	}
	r, ok := unit(s)
	if !ok {
		return 0, s
	}
	s = s[4:]
	if utf16.IsSurrogate(r) && strings.HasPrefix(s, `\u`) {
		if second, ok := unit(s[2:]); ok {
			if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
				return pair, s[6:]
			}
		}
	}
	return r, s
}
