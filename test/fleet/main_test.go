// Package fleet takes a wsreceive away from thousands of senders at once, and
// watches how they come back.
//
//	worker ┬ relay ┐
//	       ├ relay ┼──▶ wsreceive ─▶ file, in memory
//	worker ┴ relay ┘
//
// The relays are those of wsrelay, with a queue in memory and not on disk, in
// as many processes as the limit of descriptors asks for. All of it lives in a
// network namespace in which the receiver's address is none of this host: to
// those who are near, relays come back sooner.
package fleet

import (
	"fmt"
	"os"
	"testing"

	"wsrelay/test/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := runWorker(); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		return
	}
	harness.Main(m)
}
