package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/relay"
	"wsrelay/test/harness"
)

// workerEnv holds a task, as JSON, and makes this program a worker.
const workerEnv = "FLEET_TASK"

// task is what a worker does.
type task struct {
	First, N int    // its relays, by number
	Lines    int    // that each of them has
	Dir      string // for what passes
	URL      string
	Dial     relay.DialConfig
}

// runWorker runs relays until its input ends. Each line of the input lets one
// line of each relay go, within the duration that it names. It prints how many
// have their receipt, whenever that changes.
func runWorker() error {
	var work task
	if err := json.Unmarshal([]byte(os.Getenv(workerEnv)), &work); err != nil {
		return err
	}
	var receipts atomic.Int64
	queues := make([]*memory, work.N)
	for k := range queues {
		var err error
		if queues[k], err = newMemory(work.Dir, fmt.Sprintf("relay %d", work.First+k), work.Lines,
			func() { receipts.Add(1) }); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	failed := make(chan error, work.N+1)
	var running sync.WaitGroup
	for _, q := range queues {
		r := relay.New(q, relay.Options{URLs: []string{work.URL}, Host: "web-1", Dial: work.Dial, IdleClose: time.Hour})
		running.Go(func() { failed <- r.Run(ctx) })
	}
	running.Go(func() { failed <- printReceipts(ctx, &receipts) })
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		within, err := time.ParseDuration(orders.Text())
		if err != nil {
			return err
		}
		begun := time.Now()
		for k, q := range queues {
			time.Sleep(time.Until(begun.Add(within * time.Duration(k) / time.Duration(work.N)))) // so many at once would be another test
			q.release()
		}
	}
	stop()
	running.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

func printReceipts(ctx context.Context, receipts *atomic.Int64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for told := int64(-1); ; {
		if n := receipts.Load(); n != told {
			told = n
			if _, err := fmt.Println(n); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// fleet is all workers.
type fleet struct {
	t        *testing.T
	members  []*member
	lines    int // let go
	relays   int
	listened sync.WaitGroup
}

type member struct {
	cmd      *exec.Cmd
	orders   io.WriteCloser
	receipts atomic.Int64
	said     strings.Builder // errors
}

// newFleet starts workers for n relays, at most each in one.
func newFleet(t *testing.T, net *harness.Network, whole task, each int) *fleet {
	t.Helper()
	h := &fleet{t: t, relays: whole.N}
	for first := 0; first < whole.N; first += each {
		part := whole
		part.First, part.N = first, min(each, whole.N-first)
		b, err := json.Marshal(part)
		harness.Must(t, err)
		m := &member{cmd: exec.Command("/proc/self/exe")}
		m.cmd.Env = append(os.Environ(), workerEnv+"="+string(b))
		m.cmd.Stderr = &m.said
		m.orders, err = m.cmd.StdinPipe()
		harness.Must(t, err)
		out, err := m.cmd.StdoutPipe()
		harness.Must(t, err)
		net.Do(func() { err = m.cmd.Start() })
		harness.Must(t, err)
		h.members = append(h.members, m)
		h.listened.Go(func() {
			for words := bufio.NewScanner(out); words.Scan(); {
				var n int64
				_, _ = fmt.Sscan(words.Text(), &n)
				m.receipts.Store(n)
			}
		})
	}
	t.Cleanup(func() {
		for _, m := range h.members {
			_ = m.cmd.Process.Kill() // after a failure
		}
	})
	return h
}

// release lets one more line of every relay go.
func (h *fleet) release(within time.Duration) {
	h.lines++
	for _, m := range h.members {
		_, err := fmt.Fprintln(m.orders, within)
		harness.Must(h.t, err)
	}
}

// receipts is how many lines have one.
func (h *fleet) receipts() (n int) {
	for _, m := range h.members {
		n += int(m.receipts.Load())
	}
	return n
}

// wait waits until all that was released has its receipt, and calls each
// meanwhile.
func (h *fleet) wait(each func()) {
	h.t.Helper()
	late := time.Now().Add(5 * time.Minute)
	for h.receipts() < h.relays*h.lines {
		if time.Now().After(late) {
			h.t.Fatalf("%d receipts of %d", h.receipts(), h.relays*h.lines)
		}
		each()
		time.Sleep(20 * time.Millisecond)
	}
}

// end lets the workers end.
func (h *fleet) end() {
	h.t.Helper()
	for _, m := range h.members {
		harness.Must(h.t, m.orders.Close())
	}
	h.listened.Wait()
	for _, m := range h.members {
		if err := m.cmd.Wait(); err != nil {
			h.t.Errorf("worker: %v\n%s", err, m.said.String())
		}
	}
}
