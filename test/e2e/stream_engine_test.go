package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsrelay/test/faults"
)

// A data stream that is rolled over by force under lines in flight, while
// wsreceive and the worker of wsrelay are killed: with make torture-data-stream
// 20 rollovers and 20 kills under 100,000 lines.
func TestEngine_DataStreamRolledOverUnderKills(t *testing.T) {
	faults.Engine(t)
	faults.NeedDataStreams(t)
	times, lines := 4, 8000
	if n, err := strconv.Atoi(os.Getenv("ROLLOVERS")); err == nil {
		times, lines = n/2, 5000*n
	} else if testing.Short() {
		times, lines = 2, 4000
	}
	c := newEngineChain(t, 0)
	c.useDataStream()
	c.addReceiver()
	c.limit = lines
	c.feed(1, 2500, c.receivers[0].URL())
	for i := range 2 * times {
		// Each rollover has lines of its own in flight, however long it takes.
		share := lines / times / 2
		c.allowed.Add(int64(share))
		c.flow(share / 3)
		c.rollOverAnd(func() {
			if i%2 == 0 {
				must(t, syscall.Kill(waitWorker(t, c.queue(0)), syscall.SIGKILL))
				return
			}
			c.receivers[0].Kill()
			c.start(c.receivers[0])
		})
		t.Logf("rollover and kill %d of %d", i+1, 2*times)
	}
	c.allowed.Store(int64(lines))
	c.feeding.Wait()
	c.finish("stream", fmt.Sprintf("data stream rolled over %d times, relay and receiver killed -9 %d times each",
		2*times, times))
}

// rollOverAnd rolls the stream over while something else happens.
func (c *chain) rollOverAnd(also func()) {
	var both sync.WaitGroup
	both.Go(func() { faults.Ask(c, http.MethodPost, "/"+c.stream+"/_rollover", "") })
	time.Sleep(rand.N(100 * time.Millisecond))
	also()
	both.Wait()
}

// useDataStream lets the receivers that are started later write to a data stream.
func (c *chain) useDataStream() {
	c.stream = "logs-" + c.prefix + "-default"
	out, err := exec.Command(filepath.Join(c.s.bin, "wsreceive"), "setup", "--to", c.tap.URL, "--data-stream",
		c.stream).CombinedOutput()
	if err != nil {
		c.Fatalf("setup: %v: %s", err, out)
	}
	faults.MakeDataStream(c, c.stream)
}
