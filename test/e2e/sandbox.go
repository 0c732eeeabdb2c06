// Package e2e runs the whole chain, the real syslog-ng with the websocket()
// block of this checkout, wsrelay and wsreceive, in a directory of its own.
// The demo and the end-to-end tests share it.
//
//	Feeder ─▶ sockets, log file ─▶ syslog-ng ─▶ wsrelay ─▶ wsreceive ─▶ log database ─▶ Check
//
// Nothing of the system's own syslog-ng is touched: configuration, persist
// file, control socket and pid file are private. The harness needs Linux.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 10 * time.Second

// Sandbox is a temporary directory and the processes that run in it.
type Sandbox struct {
	Dir string // removed by Close

	root    string // the checkout
	bin     string // where wsrelay and wsreceive are
	env     []string
	under   []string // the command that syslog-ng is started by; none: itself
	started []int    // pids
}

// NewSandbox makes an empty sandbox whose chain uses the programs in bin. The
// directory has a short name: the path of a Unix socket ends at 107 bytes.
func NewSandbox(bin string) (*Sandbox, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(bin, "wsrelay")); err != nil {
		return nil, fmt.Errorf("wsrelay is not built: %w", err)
	}
	dir, err := os.MkdirTemp("", "wsrelay-e2e-")
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir, root: root, bin: bin}
	s.env = append(os.Environ(), s.mark(), "WSRELAY_QUEUE_DIR="+s.QueueDir())
	return s, nil
}

// checkout finds the directory of go.mod, from the working directory upward.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod in %s or above it", dir)
		}
	}
}

// Path is the path of name inside the sandbox.
func (s *Sandbox) Path(name string) string { return filepath.Join(s.Dir, name) }

// QueueDir is the queue directory of the sandbox's wsrelay.
func (s *Sandbox) QueueDir() string { return s.Path("queue") }

// mark is in the environment of every process of the sandbox, and of those
// that they start: syslog-ng's children outlive it.
func (s *Sandbox) mark() string { return "E2E_SANDBOX=" + s.Dir }

// Close kills what is left of the sandbox's processes and removes the
// directory, unless E2E_KEEP is set. Processes that should have been gone already
// are an error.
func (s *Sandbox) Close() error {
	var left error
	if pids := s.pids(); len(pids) > 0 {
		left = fmt.Errorf("processes %v were still running", pids)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	killed := poll(ctx, func() (bool, error) { // again and again: syslog-ng restarts its wsrelay
		pids := s.pids()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(pids) == 0, nil
	})
	if os.Getenv("E2E_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "e2e: kept", s.Dir)
		return errors.Join(left, killed)
	}
	return errors.Join(left, killed, os.RemoveAll(s.Dir))
}

// WaitChildren waits until only processes that Start has started are left:
// syslog-ng does not wait for the wsrelay that it has started.
func (s *Sandbox) WaitChildren(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		children := slices.DeleteFunc(s.pids(), func(pid int) bool { return slices.Contains(s.started, pid) })
		if ctx.Err() != nil && len(children) > 0 {
			return false, fmt.Errorf("processes %v are still running", children)
		}
		return len(children) == 0, nil
	})
}

// pids lists the living processes that carry the mark.
func (s *Sandbox) pids() []int {
	var pids []int
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environs {
		env, err := os.ReadFile(name) // another user's, or gone: not ours
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+s.mark()+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Process is one program of the sandbox. Its output is in a file.
type Process struct {
	Name string
	Log  string // path of what it wrote to stdout and stderr
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// Start runs a program in a process group of its own, so that a ^C meant for
// the demo does not reach it.
func (s *Sandbox) Start(name, program string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: s.Path(name + ".out"), done: make(chan struct{})}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the process has its own
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Env = s.Dir, s.env
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.started = append(s.started, p.cmd.Process.Pid)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Signal sends sig to the process itself, not to its children.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the process as a power cut would, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// KillGroup ends the process and those it started, and waits for its end.
func (p *Process) KillGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end and waits for it. One that does not end within
// stopGrace is killed, and that is an error.
func (p *Process) Stop() error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.Name, stopGrace)
	}
}

// waitReady waits until ready says so. A process that ends first, or ctx that
// does, is an error with the process's own words.
func (p *Process) waitReady(ctx context.Context, ready func() bool) error {
	return poll(ctx, func() (bool, error) {
		select {
		case <-p.done:
			return false, fmt.Errorf("%s ended at once (%w):\n%s", p.Name, p.err, p.output())
		case <-ctx.Done():
			return false, fmt.Errorf("%s did not get ready: %w\n%s", p.Name, ctx.Err(), p.output())
		default:
			return ready(), nil
		}
	})
}

func (p *Process) output() []byte {
	out, err := os.ReadFile(p.Log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return bytes.TrimSpace(out)
}

// poll calls done until it says true or fails; the last call is after ctx has
// ended, so that done can say what was missing.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := ctx.Err()
		if ok, err := done(); ok || err != nil {
			return err
		}
		if ended != nil {
			return ended
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
