package intake

import "bytes"

// cut finds the next run of lines in b that the queue takes at once: whole,
// none empty, together at most maxBytes and maxLines, or a single longer one.
// b[skip:end] is the run, with n lines; b[:skip] are empty lines, of which
// nothing is kept. n = 0: no whole line is left, only the start of one.
func cut(b []byte, maxBytes, maxLines int) (skip, end, n int) {
	for skip < len(b) && b[skip] == '\n' {
		skip++
	}
	end = skip
	for n < maxLines {
		length := bytes.IndexByte(b[end:], '\n') + 1
		if length <= 1 || n > 0 && end+length-skip > maxBytes {
			break
		}
		end += length
		n++
	}
	return skip, end, n
}
