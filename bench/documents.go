package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// resultsDir has a file for each machine, with what was found there last.
const resultsDir = "bench/results"

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// save keeps the record below root as that of its machine.
func (r *record) save(root string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(r.Machine), "-"), "-")
	return os.WriteFile(filepath.Join(root, resultsDir, name+".json"), append(text, '\n'), 0o644)
}

// saved is the records below root. The first is the newest of those that this
// program has measured.
func saved(root string) (all []*record, err error) {
	paths, err := filepath.Glob(filepath.Join(root, resultsDir, "*.json"))
	for _, path := range paths {
		r := &record{}
		text, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr)
		if readErr == nil {
			err = errors.Join(err, json.Unmarshal(text, r))
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(b.Date, a.Date))
	})
	if err == nil && (len(all) == 0 || all[0].Source != "") {
		err = errors.New(resultsDir + " has no results")
	}
	return all, err
}

// writeDocuments writes what the records below root say into the documents there.
func writeDocuments(root string) error {
	texts, err := documents(root)
	for path, text := range texts {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, path), text, 0o644))
	}
	return err
}

// documents is what all files that are made of the records ought to contain.
func documents(root string) (map[string][]byte, error) {
	all, err := saved(root)
	if err != nil {
		return nil, err
	}
	texts := map[string][]byte{resultsDir + "/bench.svg": all[0].plot()}
	for path, text := range map[string]string{
		"docs/benchmarks.md": compared(all) + "\n### The newest run\n\n" + all[0].markdown(),
		"README.md":          inShort(all),
	} {
		old, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return nil, err
		}
		if texts[path], err = replaced(old, text); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return texts, nil
}

// The place of what is written into a document.
const (
	textBegin = "<!-- bench: begin -->\n"
	textEnd   = "<!-- bench: end -->\n"
)

// replaced puts a text into a document, between the marks.
func replaced(document []byte, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(textBegin))
	_, after, also := bytes.Cut(rest, []byte(textEnd))
	if !ok || !also {
		return nil, errors.New("no place for the results")
	}
	return fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, textBegin, text, textEnd, after), nil
}

// compared is a table of all machines: of each row that has a goal the ratio or
// the value, in bold where the goal is missed.
func compared(all []*record) string {
	var b strings.Builder
	for i, r := range all {
		fmt.Fprintf(&b, "%d. %s\n", i+1, r.origin())
	}
	b.WriteString("\n| ")
	for i := range all {
		fmt.Fprintf(&b, "| %d ", i+1)
	}
	b.WriteString("| goal |\n|---" + strings.Repeat("|--:", len(all)+1) + "|\n")
	for _, g := range table {
		heading := fmt.Sprintf("| **%s** %s| |\n", g.heading, strings.Repeat("| ", len(all)))
		for _, w := range g.named() {
			if line := besideEachOther(all, w); line != "" {
				b.WriteString(heading + line)
				heading = ""
			}
		}
	}
	return b.String()
}

// besideEachOther is a row for all machines, "" if none has it.
func besideEachOther(all []*record, w row) string {
	cells, there := []string{w.text}, false
	for _, r := range all {
		s, _ := r.score(w)
		times, ok := s.times()
		cell := ""
		switch {
		case ok && w.against != "":
			cell = fmt.Sprintf("%.2f ×", s.ratio)
		case ok || w.beside && s.measured:
			cell = fmt.Sprintf("%s %s", w.unit.format(s.median), w.unit)
		}
		if ok && times < 1 {
			cell = "**" + cell + "**"
		}
		there = there || cell != ""
		cells = append(cells, cell)
	}
	if !there {
		return ""
	}
	return "| " + strings.Join(append(cells, w.goalText()), " | ") + " |\n"
}

// inShort is the sentence about all machines.
func inShort(all []*record) string {
	among := func(w row, format func(float64) string) string {
		var of []float64
		for _, r := range all {
			if s, _ := r.score(w); s.compared {
				of = append(of, s.ratio)
			} else if s.measured && w.against == "" {
				of = append(of, s.median)
			}
		}
		least, most := format(slices.Min(of)), format(slices.Max(of))
		if least == most {
			return most
		}
		return least + " to " + most
	}
	ratio := func(value, against string) string {
		return among(row{value: value, against: against}, func(x float64) string { return fmt.Sprintf("%.2g", x) })
	}
	const own, peer = "wsrelay, s2", "syslog-ng, reliable"
	machines, others := map[bool]string{true: "one machine", false: fmt.Sprintf("%d machines",
		len(all))}[len(all) == 1], 0
	for _, r := range all {
		if r.Source != "" {
			others++
		}
	}
	if others > 0 {
		machines += fmt.Sprintf(", %d of them measured by others,", others)
	}
	return fmt.Sprintf("`make bench` measures wsrelay, syslog-ng and rsyslog in one run on your machine. On %s wsrelay, with S2, took %s lines a second from a pipe to the receiver's file, synced at both ends: %s times as many as syslog-ng's reliable disk buffer, which does not sync, with %s times its CPU, and %s times as many as the best peer. [docs/benchmarks.md](docs/benchmarks.md) has all, also where it is behind, and what each loses when it is killed.\n",
		machines, among(row{value: own + "/rate"}, rate.format), ratio(own+"/rate", peer+"/rate"),
		ratio(own+"/cpu", peer+"/cpu"), ratio(own+"/rate", bestRate))
}
