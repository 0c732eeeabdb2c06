package buffer

import (
	"os"
	"testing"
)

// long tells whether to try each case instead of some: make torture-queue.
func long() bool { return os.Getenv("TORTURE") != "" }

// amount is how much of something to try: all of it in the long form, some, or
// little with -short.
func amount(all, some, little int) int {
	switch {
	case long():
		return all
	case testing.Short():
		return little
	}
	return some
}
