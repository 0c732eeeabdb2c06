package main

import "fmt"

// goal is a line of the table: a case, or its ratio to the best of others, and
// a bound if there is one.
type goal struct {
	text            string
	value           string
	against         []string
	unit            unit
	atLeast, atMost float64 // of the ratio, or of the value where nothing is against it; 0: none
}

type unit struct {
	format string
	per    float64
}

var (
	records      = unit{"%.0f k/s", 1e3}
	throughput   = unit{"%.2f GB/s", 1e9}
	milliseconds = unit{"%.3f ms", 1}
	perLine      = unit{"%.1f B", 1}
)

func (u unit) text(v float64) string { return fmt.Sprintf(u.format, v/u.per) }

func (g goal) bound(v float64) string {
	if len(g.against) == 0 {
		return g.unit.text(v)
	}
	return fmt.Sprintf("%g ×", v)
}

var (
	batches = []int{1, 100, 1000, 4000}
	peers   = []string{"tidwall/wal", "raft-wal"}
)

func ofPeers(what string) (names []string) {
	for _, p := range peers {
		names = append(names, p+", "+what)
	}
	return names
}

func goals() (all []goal) {
	for _, n := range batches {
		what := fmt.Sprintf("write, %d at a time", n)
		best := goal{
			text:  "durable writes, " + fmt.Sprint(n) + " at a time, against the best peer",
			value: "wsrelay, raw, " + what, against: ofPeers(what), unit: records,
		}
		if n >= 1000 { // small ones measure the disk: one sync each, in every program
			best.atLeast = 2
		}
		all = append(all, best,
			goal{
				text: "— as wsrelay compresses, against it", value: "wsrelay, auto, " + what, against: ofPeers(what),
				unit: records,
			},
			goal{
				text: "— against write + fdatasync", value: "wsrelay, raw, " + what,
				against: []string{"disk, " + what}, unit: records,
			})
	}
	disk := []string{"disk, stream"}
	all = append(all,
		goal{
			text: "stream of 64 KiB, against 1 MiB + fdatasync, appended", value: "wsrelay, raw, stream",
			against: disk, unit: throughput, atLeast: 0.4,
		},
		goal{
			text: "— into recycled segments, drained meanwhile", value: "wsrelay, raw, recycled stream", against: disk,
			unit: throughput, atLeast: 0.75,
		},
		goal{text: "— as wsrelay compresses", value: "wsrelay, auto, stream", against: disk, unit: throughput},
		goal{
			text: "one line after idleness, p50, against write + fdatasync", value: "wsrelay, one line",
			against: []string{"disk, one line"}, unit: milliseconds, atMost: 2,
		})
	for _, codec := range []string{"raw", "s2", "zstd"} {
		g := goal{
			text:  "reads, " + codec + ", record by record, against the best peer",
			value: "wsrelay, " + codec + ", read", against: ofPeers("read"), unit: records,
		}
		if codec == "raw" {
			g.atLeast = 3
		}
		all = append(all, g)
	}
	return append(all,
		goal{
			text: "drain by blocks, raw, from the page cache", value: "wsrelay, drain", unit: throughput,
			atLeast: 2e9,
		},
		goal{
			text: "— against read + checksum of 1 MiB", value: "wsrelay, drain", against: []string{"disk, read"},
			unit: throughput,
		},
		goal{text: "on disk for a line of 250 B, raw", value: "wsrelay, raw, size", unit: perLine, atMost: 252},
		goal{text: "— zstd", value: "wsrelay, zstd, size", unit: perLine, atMost: 65})
}
