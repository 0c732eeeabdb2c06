package cli

import (
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
)

// Printable keeps text that came from elsewhere on its line, whatever is in it.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// Count is so many of what one or many are called: "1 line", "1,200 lines".
func Count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
