package wsrelay

import (
	"os"
	"runtime/debug"

	"wsrelay/internal/cli"
)

// limitMemory makes the collector work harder where a limit of the control group
// is near: a long line is in several buffers in turn, and garbage of the last one
// must not be what kills the process.
func limitMemory() {
	if limit := cli.GroupMemory(); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 5 * 3) // the rest is pipes, memory files and what the kernel has of the disk
	}
}
