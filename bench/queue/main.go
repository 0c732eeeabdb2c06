// Queue measures wsrelay's disk queue beside others, and beside the bare disk,
// in one run: only ratios mean anything.
//
//	cd bench/queue && go run .                       # some minutes
//	cd bench/queue && go run . -rounds 1 -time 100ms # to see that it works
//
// The cases run in turn, round after round, so that what else the machine does
// hits all alike; what counts is the median. Each record is 250 bytes of a log
// that compresses as logs do. A write counts when it would survive a power cut:
// after fdatasync(2) or fsync(2) of the batch, for all. A read counts when its
// checksum was compared and each record is in the caller's hand.
//
//	main.go     rounds and the table
//	goals.go    what is compared, and the goals
//	cases.go    wsrelay's queue, and the bare disk
//	peers.go    the others
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// bench is one run.
type bench struct {
	root string        // where the cases have their directories
	time time.Duration // for each case and round
	seen map[string][]float64
}

// measure runs every case in a directory of its own.
func (b *bench) measure() error {
	for _, c := range cases() {
		dir, err := os.MkdirTemp(b.root, "case")
		if err != nil {
			return err
		}
		v, err := c.run(dir, b.time)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.seen[c.name] = append(b.seen[c.name], v)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// median of a case; of several, the best of them.
func (b *bench) median(names []string) (best float64) {
	for _, name := range names {
		seen := slices.Sorted(slices.Values(b.seen[name]))
		if len(seen) == 0 {
			panic("no case is named " + name)
		}
		best = max(best, seen[len(seen)/2])
	}
	return best
}

func (b *bench) print() {
	fmt.Println("| what | value | against | ratio | goal | |\n|---|---:|---:|---:|---:|---|")
	for _, r := range goals() {
		value := b.median([]string{r.value})
		against, ratio, result := "", value, "reached"
		if len(r.against) > 0 {
			other := b.median(r.against)
			against, ratio = r.unit.text(other), value/other
		}
		if r.atLeast > 0 && ratio < r.atLeast || r.atMost > 0 && ratio > r.atMost {
			result = "MISSED"
		}
		number, goal := fmt.Sprintf("%.2f", ratio), ""
		if len(r.against) == 0 {
			number = ""
		}
		switch {
		case r.atLeast > 0:
			goal = "≥ " + r.bound(r.atLeast)
		case r.atMost > 0:
			goal = "≤ " + r.bound(r.atMost)
		default:
			result = ""
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", r.text, r.unit.text(value), against, number, goal, result)
	}
}

func run() error {
	rounds := flag.Int("rounds", 5, "how often each case runs")
	b := &bench{seen: map[string][]float64{}}
	flag.DurationVar(&b.time, "time", time.Second, "how long each case runs")
	flag.StringVar(&b.root, "dir", "", "a directory on the disk to measure (default: a temporary one)")
	flag.Parse()
	if b.root == "" {
		dir, err := os.MkdirTemp("", "wsrelay-queue-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // the end
		b.root = dir
	}
	root, err := filepath.Abs(b.root)
	if err != nil {
		return err
	}
	b.root = root
	for k := range *rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", k+1, *rounds)
		if err := b.measure(); err != nil {
			return err
		}
	}
	b.print()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
		os.Exit(1)
	}
}
