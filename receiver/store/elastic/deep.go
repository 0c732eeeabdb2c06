package elastic

import "bytes"

// isDeep reports whether a line that is JSON is nested deeper than so many
// levels; of any other line it tells how deep its beginning is, as far as that
// is JSON. It is asked before a line goes to a reader that calls itself for each
// level: 16 MiB of brackets are beyond any stack, and the process would end.
func isDeep(line []byte, levels int) bool {
	if bytes.Count(line, []byte{'{'})+bytes.Count(line, []byte{'['}) <= levels {
		return false
	}
	depth, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > levels {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}
