package main

import (
	"fmt"
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

// origin says how and where this was measured.
func (r *record) origin() string {
	if r.Source != "" {
		return fmt.Sprintf("On %s: %s.", r.Machine, r.Source)
	}
	return fmt.Sprintf("Measured with `%s` on %s, %s, wsrelay %s, %s.", r.Command, r.Machine, r.Software, r.Commit, r.Date)
}

// markdown is the table, and above it what it was measured on and how.
func (r *record) markdown() string {
	var b strings.Builder
	b.WriteString(r.origin() + "\n\n| | median | least – most | ratio | goal | |\n|---|--:|--:|--:|--:|---|\n")
	for _, g := range table {
		heading := fmt.Sprintf("| **%s** | | | | | |\n", g.heading)
		for _, w := range g.rows {
			if s, ok := r.score(w); ok {
				b.WriteString(heading + s.markdown())
				heading = ""
			}
		}
	}
	return b.String() + r.killed()
}

func (s score) markdown() string {
	var ratio, word, spread, middle string
	if s.measured {
		middle = fmt.Sprintf("%s %s", s.unit.format(s.median), s.unit)
		spread = s.unit.format(s.least) + " – " + s.unit.format(s.most)
	}
	if s.compared {
		ratio = fmt.Sprintf("%.2f ×", s.ratio)
	}
	switch times, ok := s.times(); {
	case s.found != "":
		word = s.found
	case ok && times >= 1:
		word = "met"
	case ok:
		word = "**missed**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", s.text, middle, spread, ratio, s.goalText(), word)
}

// goalText is the goal in the table, "" if there is none.
func (w row) goalText() string {
	sign, bound := "≥", w.goal.atLeast
	if w.goal.atMost > 0 {
		sign, bound = "≤", w.goal.atMost
	}
	switch {
	case bound == 0:
		return ""
	case w.against != "":
		return fmt.Sprintf("%s %g ×", sign, bound)
	}
	return fmt.Sprintf("%s %s", sign, strings.Replace(w.unit.format(bound), ".00", "", 1))
}
