package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// results is what all runs have found.
type results struct {
	runs   map[string][]float64 // by "case/value"
	wrong  map[string]verdict   // by case: the first that was not right
	failed map[string]error     // by case: why it could not be measured
}

func newResults() *results {
	return &results{map[string][]float64{}, map[string]verdict{}, map[string]error{}}
}

func (r *results) add(name string, v values, found verdict, err error) {
	if err != nil {
		if r.failed[name] == nil {
			r.failed[name] = err
		}
		return
	}
	if !found.ok() && r.wrong[name].ok() {
		r.wrong[name] = found
	}
	for value, x := range v {
		key := name + "/" + value
		r.runs[key] = append(r.runs[key], x)
	}
}

// record is what the runs on one machine have found, as the repository keeps it.
type record struct {
	Machine  string            `json:"machine"`
	Software string            `json:"software,omitempty"`
	Command  string            `json:"command"`
	Commit   string            `json:"commit,omitempty"`
	Date     string            `json:"date"`
	Source   string            `json:"source,omitempty"` // who has measured it, if it was not this program
	Values   map[string]spread `json:"values"`           // by "case/value"
	Found    map[string]string `json:"found,omitempty"`  // by case: what is wrong with it, or why it was not measured
}

// spread is the median of a value, the least and the most; in a file, one string.
type spread struct{ median, least, most float64 }

func (s spread) MarshalText() ([]byte, error) {
	return fmt.Append(nil, digits(s.median), " ", digits(s.least), " ", digits(s.most)), nil
}

// digits keeps the first five.
func digits(x float64) string {
	short, _ := strconv.ParseFloat(fmt.Sprintf("%.5g", x), 64)
	return strconv.FormatFloat(short, 'f', -1, 64)
}

func (s *spread) UnmarshalText(text []byte) error {
	_, err := fmt.Sscan(string(text), &s.median, &s.least, &s.most)
	return err
}

// record sums up the runs, and adds the values that are made of others.
func (r *results) record(of record) *record {
	of.Values, of.Found = map[string]spread{}, map[string]string{}
	for value, runs := range r.runs {
		of.Values[value] = spread{median(runs), slices.Min(runs), slices.Max(runs)}
	}
	for name, v := range r.wrong {
		of.Found[name] = v.String()
	}
	for name, err := range r.failed {
		if of.Found[name], _, _ = strings.Cut("failed: "+err.Error(), "\n"); errors.Is(err, errMissing) {
			of.Found[name] = err.Error()
		}
	}
	of.derive(bestRate, "/rate", func(x, best float64) bool { return x > best })
	of.derive(bestCPU, "/cpu", func(x, best float64) bool { return x < best })
	if sync, ok := of.median("append + fdatasync/100 a second"); ok {
		bound := 1.2*2*sync + 0.3
		of.Values[soonest] = spread{bound, bound, bound}
	}
	return &of
}

// derive keeps the best value of those peers that delivered all lines in order.
func (r *record) derive(as, value string, better func(x, best float64) bool) {
	for _, peer := range peers {
		x, ok := r.Values[peer+value]
		if best, has := r.Values[as]; ok && r.Found[peer] == "" && (!has || better(x.median, best.median)) {
			r.Values[as] = x
		}
	}
}

// median is that of a value; false if there is none.
func (r *record) median(value string) (float64, bool) {
	s, ok := r.Values[value]
	return s.median, ok
}

// score is a row as it came out.
type score struct {
	row
	spread
	measured, compared bool // whether there is a median, and a ratio
	ratio              float64
	found              string // "", or what is wrong with it
}

// score gives false for what was not tried.
func (r *record) score(w row) (score, bool) {
	s := score{row: w, found: r.Found[w.value[:strings.LastIndex(w.value, "/")]]}
	s.spread, s.measured = r.Values[w.value]
	if base, ok := r.median(w.against); s.measured && ok {
		s.ratio, s.compared = s.median/base, true
	}
	return s, s.measured || s.found != ""
}

// times tells how far the goal is reached: 1 and more is enough. ok is false
// where there is no goal, or nothing to compare with.
func (s score) times() (times float64, ok bool) {
	x, ok := s.median, s.measured
	if s.against != "" {
		x, ok = s.ratio, s.compared
	}
	if s.goal.atMost > 0 {
		return s.goal.atMost / x, ok // +Inf of nothing at all
	}
	return x / s.goal.atLeast, ok && s.goal.atLeast > 0
}
