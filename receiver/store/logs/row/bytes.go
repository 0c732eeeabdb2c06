package row

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// A field of the database is UTF-8. In a line that is not, each byte that is none
// becomes the character that it is in Latin-1, so that a person finds it. The field
// wsrelay.bytes tells of each character that may have been one, in order, what it was.
const (
	wasByte      = 'b'
	wasCharacter = 'c'
)

// latin1 is how far the characters of Latin-1 go that are no ASCII.
const latin1 = 0xff

// decodeInvalid appends the line as UTF-8 to clean, and what characters were to was.
func decodeInvalid(clean, was, line []byte) ([]byte, []byte) {
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case r == utf8.RuneError && n == 1:
			clean = utf8.AppendRune(clean, rune(line[0]))
			was = append(was, wasByte)
		case r >= utf8.RuneSelf && r <= latin1:
			was = append(was, wasCharacter)
			fallthrough
		default:
			clean = append(clean, line[:n]...)
		}
		line = line[n:]
	}
	return clean, was
}

// encodeInvalid undoes decodeInvalid.
func encodeInvalid(clean []byte, was string) ([]byte, error) {
	line := make([]byte, 0, len(clean))
	for len(clean) > 0 {
		r, n := utf8.DecodeRune(clean)
		isByte := false
		if r >= utf8.RuneSelf && r <= latin1 {
			if was == "" {
				return nil, errors.New("too short")
			}
			isByte, was = was[0] == wasByte, was[1:]
		}
		if isByte {
			line = append(line, byte(r))
		} else {
			line = append(line, clean[:n]...)
		}
		clean = clean[n:]
	}
	if was != "" {
		return nil, errors.New("too long")
	}
	return line, nil
}

const escape = "\x1b"

// appendUncoloured appends s without the escape sequences of terminals.
func appendUncoloured(dst []byte, s string) []byte {
	for {
		before, after, ok := strings.Cut(s, escape)
		dst = append(dst, before...)
		if !ok {
			return dst
		}
		n := sequence(after)
		if n == 0 {
			dst = append(dst, escape...)
		}
		s = after[n:]
	}
}

// sequence is the length of what belongs to the escape byte before s.
func sequence(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case '[':
		n := 1
		for n < len(s) && s[n] >= 0x20 && s[n] <= 0x3f {
			n++
		}
		if n < len(s) && s[n] >= 0x40 && s[n] <= 0x7e {
			n++
		}
		return n
	case '(', ')':
		if len(s) > 1 && s[1] < utf8.RuneSelf {
			return 2
		}
		return 1
	case ']': // a title or a link, up to a bell or ESC \
		if n := strings.IndexAny(s[:min(len(s), 2048)], "\a"+escape); n > 0 {
			if s[n] == '\a' {
				return n + 1
			}
			return n
		}
	}
	return 0
}

// streamValue is s without control characters, at most maxStream bytes.
func streamValue(s string) string {
	if len(s) <= maxStream && strings.IndexFunc(s, isControl) < 0 {
		return s
	}
	return Cut(strings.Map(func(r rune) rune {
		if isControl(r) {
			return -1
		}
		return r
	}, Cut(s, 4*maxStream)), maxStream)
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// Cut is as much of s as fits into n bytes and ends with a whole character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
