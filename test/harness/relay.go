package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Relay is a wsrelay: keeper and worker, a process group of their own.
type Relay struct {
	Cmd   *exec.Cmd
	W     *os.File // the pipe
	spool *Spool   // once it was found
	gone  sync.Once
}

// StartRelay starts cmd, which is a wsrelay or runs one, with a pipe to feed.
// Kill it in the end.
func StartRelay(cmd *exec.Cmd) (*Relay, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // the child has its own
	cmd.Stdin = r
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &Relay{Cmd: cmd, W: w}, nil
}

// Wait waits for the process to exit; status 0 is no error.
func (p *Relay) Wait(limit time.Duration) error {
	over := time.AfterFunc(limit, func() { _ = unix.Kill(-p.Cmd.Process.Pid, unix.SIGQUIT) })
	defer over.Stop()
	err := p.Cmd.Wait()
	p.Kill()
	return err
}

// Kill ends all at once and closes the pipe.
func (p *Relay) Kill() {
	p.gone.Do(func() {
		p.Slay()
		_ = p.W.Close()
		if p.spool != nil {
			p.spool.close()
		}
	})
}

// Slay ends all processes at once, wherever they are, and waits until they are
// gone.
func (p *Relay) Slay() {
	pid := p.Cmd.Process.Pid
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = p.Cmd.Wait() // it was killed, or has been waited for
	for {
		_, err := unix.Wait4(-pid, nil, 0, nil) // the worker is our child now
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Worker is the pid of the living worker; 0: there is none. A child that is no
// worker yet does not count, nor does what strace forks.
func (p *Relay) Worker() int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Cmd.Process.Pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(b)) {
			env, _ := os.ReadFile("/proc/" + f + "/environ")
			if pid, _ := strconv.Atoi(f); bytes.Contains(env, []byte("WSRELAY_INTERNAL_WORKER=")) && Alive(pid) {
				return pid
			}
		}
	}
	return 0
}

// Alive reports whether pid runs, and is neither dead nor about to become something else.
func Alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && state[0] != 'Z' && state[0] != 'X'
}

// AwaitWorker waits for a living worker other than the one given.
func (p *Relay) AwaitWorker(ctx context.Context, other int) (pid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && Alive(p.Cmd.Process.Pid) {
		if pid := p.Worker(); pid != 0 && pid != other {
			return pid
		}
		<-tick.C
	}
	return 0
}

// Mark is how many bytes of the stream the spool says are on disk.
func (p *Relay) Mark() int64 {
	if m := p.Spool(); m != nil {
		return m.number(16)
	}
	return 0
}

// Spool is the keeper's; nil: it has none yet. Once found, it outlives the
// keeper.
func (p *Relay) Spool() *Spool {
	if p.spool == nil {
		p.spool = findSpool(p.Cmd.Process.Pid)
	}
	return p.spool
}

// Progress waits until more is on disk than was, or for a few seconds.
func (p *Relay) Progress(ctx context.Context, was int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && p.Mark() <= was {
		<-tick.C
	}
}
