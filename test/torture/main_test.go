// Package torture takes the real wsrelay to the end of its promises, from the
// outside: file systems that are shut down hard, processes that are killed at
// any instruction, disks that are full, backlogs that are huge.
//
//	feeder ══pipe══▶ wsrelay ──ws──▶ receiver ─▶ oracle
//	numbered lines     │             kept receipts, outside of what is tortured
//	                 queue on a disk of its own
//
// The oracle is a store behind the real receiver. It keeps which line stands
// under which number of which stream, and so sees a line that is lost, doubled,
// altered, out of order or under a number that another line had.
//
// The receiver's log database is tortured alone: a process of this binary
// commits lines to it and says which are final (store_test.go).
//
// Every test has a short form, for each run of the tests, and a long one that
// make torture-… runs: it can be stopped at any time, and continues from there.
package torture

import (
	"os"
	"testing"

	"wsrelay/test/harness"
)

func TestMain(m *testing.M) {
	if work := storeWork[os.Getenv(storeWorkEnv)]; work != nil {
		os.Exit(work())
	}
	harness.Main(m)
}
