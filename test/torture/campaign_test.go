package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wsrelay/test/harness"
)

// campaign counts what a test does over and over: a few times as a part of the
// tests, or, with TORTURE=long, until a goal is reached, in as many runs as
// that takes. The count is kept in the directory TORTURE_DIR, by
// default one in the user's cache. Goal 0: the work
// itself says when it is over.
type campaign struct {
	Done int // rounds that were judged
	Live int // of these: met a living process that had work
	Sum  verdict
	Next map[string]int // where to continue, for a campaign with an order

	name  string
	unit  string
	goal  int
	state string // file; "": none
	begun time.Time
	from  int // Done at begun
	told  time.Time
}

func newCampaign(t testing.TB, name, unit string, short, goal int) *campaign {
	t.Helper()
	harness.NotShort(t)
	c := &campaign{name: name, unit: unit, goal: short, Next: map[string]int{}, begun: time.Now(), told: time.Now()}
	if harness.Long() {
		dir := os.Getenv("TORTURE_DIR")
		if dir == "" {
			cache, err := os.UserCacheDir()
			harness.Must(t, err)
			dir = filepath.Join(cache, "wsrelay-torture")
		}
		harness.Must(t, os.MkdirAll(dir, 0o700))
		c.goal, c.state = goal, filepath.Join(dir, name+".json")
		if b, err := os.ReadFile(c.state); err == nil {
			harness.Must(t, json.Unmarshal(b, c))
		}
	}
	c.from = c.Done
	return c
}

// more: the goal is not reached.
func (c *campaign) more() bool { return c.Done < c.goal }

// add counts rounds that were judged and found well: v is about these alone.
func (c *campaign) add(t testing.TB, rounds, live int, v verdict) {
	t.Helper()
	c.Done += rounds
	c.Live += live
	c.Sum = c.Sum.plus(v)
	if c.state != "" {
		b, err := json.Marshal(c)
		harness.Must(t, err)
		harness.Must(t, os.WriteFile(c.state+".tmp", b, 0o600))
		harness.Must(t, os.Rename(c.state+".tmp", c.state))
	}
	if harness.Long() && time.Since(c.told) > 5*time.Second {
		c.told = time.Now()
		rate := float64(c.Done-c.from) / time.Since(c.begun).Seconds()
		goal := ""
		if c.goal > 0 {
			left := time.Duration(float64(max(0, c.goal-c.Done)) / rate * float64(time.Second)).Round(time.Second)
			goal = fmt.Sprintf(" of %d, %v left", c.goal, left)
		}
		fmt.Printf("%s: %d %s%s, %.1f/s: %s\n", c.name, c.Done, c.unit, goal, rate, c.Sum)
	}
}

// end tells the sum, and fails where nothing was ever met alive.
func (c *campaign) end(t testing.TB) {
	t.Helper()
	t.Logf("%s: %d %s, %d met a living process: %s", c.name, c.Done, c.unit, c.Live, c.Sum)
	if c.Live == 0 {
		t.Errorf("%s: none of %d met a living process", c.name, c.Done)
	}
}

func (v verdict) plus(w verdict) verdict { return v.each(w, func(a, b uint64) uint64 { return a + b }) }

func (v verdict) minus(w verdict) verdict {
	return v.each(w, func(a, b uint64) uint64 { return a - b })
}

func (v verdict) each(w verdict, op func(a, b uint64) uint64) verdict {
	return verdict{
		op(v.Fed, w.Fed), op(v.Delivered, w.Delivered), op(v.Promised, w.Promised), op(v.Cut, w.Cut),
		op(v.Gaps, w.Gaps),
		op(v.Lost, w.Lost), op(v.Doubled, w.Doubled), op(v.Altered, w.Altered), op(v.Damaged, w.Damaged),
		op(v.Astray, w.Astray),
	}
}
