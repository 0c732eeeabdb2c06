package row

import (
	"bytes"
	"unsafe"
)

const (
	maxDepth    = 32 // of objects whose members become fields; deeper ones are values as they are written
	maxDecimals = 20

	// A skeleton has a mark where the line has a value: a zero byte, the kind and,
	// of a number with a fixed number of decimals, that number.
	mark          = 0
	kindString    = 's'
	kindLiteral   = 'l' // a number, true, false, null, an array, an object too deep
	kindQuoted    = 'q' // a string with that many decimals
	kindDecimals  = 'd' // a number with that many decimals
	firstDecimals = '0'
)

// span is where a value is written in a line, a string without its quotes.
type span struct {
	from, to int
	escaped  bool // it is a string that has escapes
}

// scanner takes a line that is a JSON object apart into its skeleton, which many
// lines share, and its values. It takes more than JSON allows: whether the line can
// be built again of both is for the caller to try.
type scanner struct {
	line     []byte
	skeleton []byte
	spans    []span
	copied   int // how much of the line is in the skeleton
	style    style
}

// scan reports whether the line is an object.
func (s *scanner) scan(line []byte) bool {
	*s = scanner{line: line, skeleton: append(s.skeleton[:0], tagJSON, 0), spans: s.spans[:0]}
	i := s.space(0)
	if s.at(i) != '{' || bytes.IndexByte(line, mark) >= 0 {
		return false
	}
	depth, fresh := 1, true // fresh: no member of the object has been seen
	i++
	for depth > 0 {
		i = s.space(i)
		switch c := s.at(i); {
		case c == '}':
			depth--
			fresh = false
			i++
			continue
		case c == ',' && !fresh:
			i = s.space(i + 1)
		case !fresh:
			return false
		}
		if i = s.key(i); i < 0 {
			return false
		}
		if s.at(i) == '{' && depth < maxDepth {
			depth++
			fresh = true
			i++
			continue
		}
		if i = s.value(i); i < 0 {
			return false
		}
		fresh = false
	}
	if s.space(i) != len(line) {
		return false
	}
	s.skeleton = append(s.skeleton, line[s.copied:]...)
	s.skeleton[1] = firstStyle + byte(s.style)
	return true
}

// key gives where the value of the key at i starts, or -1.
func (s *scanner) key(i int) int {
	if s.at(i) != '"' {
		return -1
	}
	end := s.quoted(i)
	if end < 0 {
		return -1
	}
	if i = s.space(end); s.at(i) != ':' {
		return -1
	}
	return s.space(i + 1)
}

// value gives the end of the value that starts at i, or -1.
func (s *scanner) value(i int) int {
	switch s.at(i) {
	case '"':
		end := s.quoted(i)
		if end < 0 {
			return -1
		}
		text := s.line[i+1 : end-1]
		escaped := bytes.IndexByte(text, '\\') >= 0
		if escaped {
			s.style |= styleOf(text)
		}
		s.add(i, end, span{i + 1, end - 1, escaped}, kindString, kindQuoted)
		return end
	case '{', '[':
		end := s.brackets(i)
		if end > 0 {
			s.add(i, end, span{i, end, false}, kindLiteral, kindLiteral)
		}
		return end
	}
	end := i
	for end < len(s.line) && literal[s.line[end]] {
		end++
	}
	if end == i {
		return -1
	}
	s.add(i, end, span{i, end, false}, kindLiteral, kindDecimals)
	return end
}

// add puts a mark into the skeleton in place of what lies between two places.
func (s *scanner) add(from, to int, v span, kind, numeric byte) {
	s.skeleton = append(append(s.skeleton, s.line[s.copied:from]...), mark)
	if n := decimals(s.line[v.from:v.to]); n > 0 && numeric != kindLiteral {
		s.skeleton = append(s.skeleton, numeric, firstDecimals+byte(n))
	} else {
		s.skeleton = append(s.skeleton, kind)
	}
	s.spans = append(s.spans, v)
	s.copied = to
}

// quoted gives the end of the string that starts at i, or -1.
func (s *scanner) quoted(i int) int {
	for start := i; ; {
		n := bytes.IndexByte(s.line[i+1:], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		back := i
		for back-1 > start && s.line[back-1] == '\\' {
			back--
		}
		if (i-back)%2 == 0 {
			return i + 1
		}
	}
}

// brackets gives the end of the array or object that starts at i, or -1.
func (s *scanner) brackets(i int) int {
	for depth := 0; i < len(s.line); i++ {
		switch s.line[i] {
		case '"':
			if i = s.quoted(i) - 1; i < 0 {
				return -1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

func (s *scanner) at(i int) byte {
	if i < len(s.line) {
		return s.line[i]
	}
	return mark
}

func (s *scanner) space(i int) int {
	for i < len(s.line) && (s.line[i] == ' ' || s.line[i] == '\t' || s.line[i] == '\r' || s.line[i] == '\n') {
		i++
	}
	return i
}

// literal has the bytes that numbers and words consist of.
var literal = func() (is [256]bool) {
	for c := range is {
		is[c] = c > ' ' && bytes.IndexByte([]byte(`,:{}[]"\`), byte(c)) < 0
	}
	return is
}()

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
