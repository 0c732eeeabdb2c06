package options

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Meant gives the command that was meant where args have a word that is none, with
// the commands before it; "" if they have no such word, or it is like no command.
func Meant(app *kong.Application, args []string) string {
	node, path := app.Node, ""
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") || len(node.Children) == 0 {
			return ""
		}
		best, distance := (*kong.Node)(nil), 3
		for _, child := range node.Children {
			if d := edits(arg, child.Name); d < distance && d < len(child.Name)-1 {
				best, distance = child, d
			}
		}
		if best == nil {
			return ""
		}
		if path = strings.TrimSpace(path + " " + best.Name); distance > 0 {
			return path
		}
		node = best
	}
	return ""
}

// edits is how many letters must be changed, added, left out, or exchanged with the
// next, to make b of a.
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
