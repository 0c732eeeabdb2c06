package elastic

import "bytes"

// quoteNonFinite makes strings of the numbers in a line that JSON has no form
// for: syslog-ng's format-json writes a 1e400 that it has parsed as inf, and one
// such value would cost the whole line its structure. A store asks for it when a
// line is not JSON, and then sees whether it is now.
func quoteNonFinite(line []byte) (quoted []byte, changed bool) {
	if len(line) == 0 || line[0] != '{' {
		return line, false
	}
	from, inString := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++
		case inString:
		case c == 'i', c == 'n', c == '-':
			n := nonFinite(line[i:])
			if n == 0 {
				break
			}
			quoted = append(append(quoted, line[from:i]...), '"')
			quoted = append(append(quoted, line[i:i+n]...), '"')
			from = i + n
			i = from - 1
		}
	}
	return append(quoted, line[from:]...), from > 0
}

// nonFinite is the length of the number that b begins with, if that is one
// which printf(3) writes in words; else 0.
func nonFinite(b []byte) int {
	for _, word := range []string{"inf", "-inf", "nan", "-nan"} {
		if bytes.HasPrefix(b, []byte(word)) && (len(b) == len(word) ||
			bytes.IndexByte([]byte(",}] \t\r\n"), b[len(word)]) >= 0) {
			return len(word)
		}
	}
	return 0
}
