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
	"wsrelay/test/stand"
)

// herderEnv holds a task, as JSON, and makes this program a herder.
const herderEnv = "HERD_TASK"

// task is what a herder does.
type task struct {
	First, N int    // its relays, by number
	Lines    int    // that each of them has
	Dir      string // for what passes
	URL      string
	Way      relay.DialConfig
}

// herder runs relays until its input ends. Each line of the input lets one
// line of each relay go, within the duration that it names. It prints how many
// have their receipt, whenever that changes.
func herder() error {
	var work task
	if err := json.Unmarshal([]byte(os.Getenv(herderEnv)), &work); err != nil {
		return err
	}
	var receipts atomic.Int64
	queues := make([]*memory, work.N)
	for k := range queues {
		var err error
		if queues[k], err = newMemory(work.Dir, fmt.Sprintf("relay %d", work.First+k), work.Lines, func() { receipts.Add(1) }); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	failed := make(chan error, work.N+1)
	var running sync.WaitGroup
	for _, q := range queues {
		r := relay.New(q, relay.Options{URLs: []string{work.URL}, Host: "web-1", Dial: work.Way, IdleClose: time.Hour})
		running.Go(func() { failed <- r.Run(ctx) })
	}
	running.Go(func() { failed <- tell(ctx, &receipts) })
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

func tell(ctx context.Context, receipts *atomic.Int64) error {
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

// herd is all herders.
type herd struct {
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

// newHerd starts herders for n relays, at most each in one.
func newHerd(t *testing.T, net *stand.Network, whole task, each int) *herd {
	t.Helper()
	h := &herd{t: t, relays: whole.N}
	for first := 0; first < whole.N; first += each {
		part := whole
		part.First, part.N = first, min(each, whole.N-first)
		b, err := json.Marshal(part)
		stand.Must(t, err)
		m := &member{cmd: exec.Command("/proc/self/exe")}
		m.cmd.Env = append(os.Environ(), herderEnv+"="+string(b))
		m.cmd.Stderr = &m.said
		m.orders, err = m.cmd.StdinPipe()
		stand.Must(t, err)
		out, err := m.cmd.StdoutPipe()
		stand.Must(t, err)
		net.Do(func() { err = m.cmd.Start() })
		stand.Must(t, err)
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
func (h *herd) release(within time.Duration) {
	h.lines++
	for _, m := range h.members {
		_, err := fmt.Fprintln(m.orders, within)
		stand.Must(h.t, err)
	}
}

// receipts is how many lines have one.
func (h *herd) receipts() (n int) {
	for _, m := range h.members {
		n += int(m.receipts.Load())
	}
	return n
}

// wait waits until all that was let go has its receipt, and calls each
// meanwhile.
func (h *herd) wait(each func()) {
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

// end lets the herders end.
func (h *herd) end() {
	h.t.Helper()
	for _, m := range h.members {
		stand.Must(h.t, m.orders.Close())
	}
	h.listened.Wait()
	for _, m := range h.members {
		if err := m.cmd.Wait(); err != nil {
			h.t.Errorf("herder: %v\n%s", err, m.said.String())
		}
	}
}
