// Package fleet takes a wsreceive away from thousands of senders at once, and
// watches how they come back.
//
//	herder ┬ relay ┐
//	       ├ relay ┼──▶ wsreceive ─▶ file, in memory
//	herder ┴ relay ┘
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

	"wsrelay/test/stand"
)

func TestMain(m *testing.M) {
	if os.Getenv(herderEnv) != "" {
		if err := herder(); err != nil {
			fmt.Fprintln(os.Stderr, "herder:", err)
			os.Exit(1)
		}
		return
	}
	stand.Main(m)
}
