package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// unit says how a value is written.
type unit string

const (
	rate         unit = "lines/s"
	cpuSeconds   unit = "s a million lines"
	mebibytes    unit = "MiB"
	megabytes    unit = "MB/s"
	milliseconds unit = "ms"
	bytesALine   unit = "bytes a line"
)

func (u unit) format(x float64) string {
	switch {
	case x >= 1e6:
		return fmt.Sprintf("%.2f M", x/1e6)
	case x >= 1e4:
		return fmt.Sprintf("%.0f k", x/1e3)
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// markdown is the table, and above it what it was measured on and how.
func (r *results) markdown(machine, command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured with `%s` on %s.\n\n", command, machine)
	b.WriteString("| | median | least – most | ratio | goal | |\n|---|--:|--:|--:|--:|---|\n")
	for _, g := range table {
		heading := fmt.Sprintf("| **%s** | | | | | |\n", g.heading)
		for _, w := range g.rows {
			if s, ok := r.score(w); ok {
				b.WriteString(heading + s.markdown())
				heading = ""
			}
		}
	}
	return b.String()
}

func (s score) markdown() string {
	var ratio, goal, word, spread, middle string
	if s.measured {
		middle = fmt.Sprintf("%s %s", s.unit.format(s.median), s.unit)
		spread = s.unit.format(s.least) + " – " + s.unit.format(s.most)
	}
	if s.compared {
		ratio = fmt.Sprintf("%.2f ×", s.ratio)
	}
	sign, bound := "≥", s.goal.atLeast
	if s.goal.atMost > 0 {
		sign, bound = "≤", s.goal.atMost
	}
	switch {
	case bound == 0:
	case s.against != "":
		goal = fmt.Sprintf("%s %g ×", sign, bound)
	default:
		goal = fmt.Sprintf("%s %s", sign, strings.Replace(s.unit.format(bound), ".00", "", 1))
	}
	switch times, ok := s.times(); {
	case s.found != "":
		word = s.found
	case ok && times >= 1:
		word = "met"
	case ok:
		word = "**missed**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", s.text, middle, spread, ratio, goal, word)
}

// The table's place in a document.
const (
	tableBegin = "<!-- bench: begin -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// replaceTable puts the table into the document at path, between the marks.
func replaceTable(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(tableBegin))
	_, after, also := bytes.Cut(rest, []byte(tableEnd))
	if !ok || !also {
		return errors.New(path + " has no place for the table")
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, tableBegin, table, tableEnd, after), 0o644)
}
