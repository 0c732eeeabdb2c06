package wsreceive

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// defaultMemory is --memory where the control groups allow so many bytes; 0: any.
func defaultMemory(group int64) int64 {
	const most = 512 << 20
	if group == 0 {
		return most
	}
	return min(most, group/4*3) // the rest is for what the kernel has of the disk
}

// limitMemory makes the collector work harder, until ctx ends, where the runtime
// would take more than limit, in bytes. GOMEMLIMIT has priority.
func limitMemory(ctx context.Context, limit int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(limit)
	go func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				debug.SetMemoryLimit(max(limit, enoughMemory()))
			case <-ctx.Done():
				return
			}
		}
	}()
}

// enoughMemory is what is in use, and half as much again of the heap: a collector that
// has less works all the time and finds little.
func enoughMemory() int64 {
	use := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(use)
	live, stacks := use[0].Value.Uint64(), use[1].Value.Uint64()
	return int64(live + live/2 + stacks)
}
