package main

import (
	"errors"
	"slices"
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

// median is that of a value; false if there is none.
func (r *results) median(value string) (float64, bool) {
	runs := r.runs[value]
	switch value {
	case bestRate:
		runs = r.ofPeers("/rate")
		if len(runs) > 0 {
			return slices.Max(runs), true
		}
	case bestCPU:
		runs = r.ofPeers("/cpu")
		if len(runs) > 0 {
			return slices.Min(runs), true
		}
	}
	if len(runs) == 0 {
		return 0, false
	}
	return median(runs), true
}

// ofPeers is a value of each peer that was right.
func (r *results) ofPeers(value string) (of []float64) {
	for _, peer := range peers {
		if x, ok := r.median(peer + value); ok && r.wrong[peer].ok() {
			of = append(of, x)
		}
	}
	return of
}

// score is a row as it came out.
type score struct {
	row
	median, least, most float64
	measured, compared  bool // whether there is a median, and a ratio
	ratio               float64
	found               string // "", or what is wrong with it
}

// score gives false for what was not tried.
func (r *results) score(w row) (score, bool) {
	s := score{row: w}
	name := w.value[:strings.LastIndex(w.value, "/")]
	switch err, v := r.failed[name], r.wrong[name]; {
	case errors.Is(err, errMissing):
		s.found = err.Error()
	case err != nil:
		s.found, _, _ = strings.Cut("failed: "+err.Error(), "\n")
	case !v.ok():
		s.found = v.String()
	}
	if s.median, s.measured = r.median(w.value); s.measured {
		s.least, s.most = slices.Min(r.runs[w.value]), slices.Max(r.runs[w.value])
	}
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
