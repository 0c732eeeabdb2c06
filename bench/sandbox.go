package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long nothing may arrive until a run is stopped.
const patience = 15 * time.Second

// sandbox is where one case runs once: a directory, and the processes in it.
type sandbox struct {
	*suite
	ctx       context.Context
	dir       string
	processes []*process
	files     []*os.File
	links     []net.Listener
}

// suite is what all runs have in common.
type suite struct {
	dir     string        // of the sandboxes, and of wsrelay and wsreceive
	rsyslog func() string // where rsyslog is unpacked; "": nowhere
	in      *input

	victoriaLogs func() error  // builds the server
	idle         time.Duration // for which an idle wsrelay is watched
}

// newSandbox makes an empty sandbox on a disk that has nothing left to write from the
// run before.
func (b *suite) newSandbox(ctx context.Context) (*sandbox, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	unix.Sync()
	return &sandbox{suite: b, ctx: ctx, dir: dir}, err
}

// close ends all processes and removes the directory.
func (b *sandbox) close() error {
	for _, p := range b.processes {
		p.kill()
	}
	for _, l := range b.links {
		_ = l.Close() // nothing connects any more
	}
	for _, f := range b.files {
		_ = f.Close() // or closed before
	}
	return os.RemoveAll(b.dir)
}

// path is where name is in the sandbox. It is short: the path of a socket ends at
// 107 bytes.
func (b *sandbox) path(name string) string { return filepath.Join(b.dir, name) }

// write makes a file of the sandbox and gives its path.
func (b *sandbox) write(name, text string) (string, error) {
	return b.path(name), os.WriteFile(b.path(name), []byte(text), 0o600)
}

// start runs a program in the sandbox, its input stdin or nothing.
func (b *sandbox) start(stdin *os.File, program string, args ...string) (*process, error) {
	c := exec.Command(program, args...)
	if stdin != nil {
		c.Stdin = stdin
	}
	return b.startCommand(c)
}

// startCommand puts the command's output into a file. Interrupting the
// benchmark kills it.
func (b *sandbox) startCommand(c *exec.Cmd) (*process, error) {
	name := filepath.Base(c.Path)
	p := &process{
		name: name, log: b.path(fmt.Sprintf("%s.%d.log", name, len(b.processes))), cmd: c,
		done: make(chan struct{}),
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the process has its own
	c.Dir, c.Stdout, c.Stderr = b.dir, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	b.processes = append(b.processes, p)
	stop := context.AfterFunc(b.ctx, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	go func() {
		_ = c.Wait() // ProcessState says what there is to say
		stop()
		close(p.done)
	}()
	return p, nil
}

// startOnPipe runs a program that reads a pipe, and gives the end to write to.
func (b *sandbox) startOnPipe(program string, args ...string) (*process, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close() //nolint:errcheck // the process has its own
	b.files = append(b.files, w)
	p, err := b.start(r, program, args...)
	return p, w, err
}

// settle lets programs that do not say so get ready.
func settle() { time.Sleep(300 * time.Millisecond) }

// freePort is a port of the loopback interface that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// awaitPort waits until the process listens.
func (b *sandbox) awaitPort(p *process, port int) error {
	return b.await(p, func() bool {
		c, err := net.Dial("tcp", loopback(port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// dial connects to a stream socket of the sandbox as soon as the process listens.
func (b *sandbox) dial(p *process, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	b.files = append(b.files, f)
	return f, b.await(p, func() bool { return unix.Connect(fd, &unix.SockaddrUnix{Name: b.path(name)}) == nil })
}

// await waits until ready says so, while the process runs.
func (b *sandbox) await(p *process, ready func() bool) error {
	for deadline := time.Now().Add(patience); !ready(); time.Sleep(5 * time.Millisecond) {
		switch {
		case p.ended():
			return p.complain("ended (%v)", p.cmd.ProcessState)
		case time.Now().After(deadline):
			return p.complain("is not ready")
		case b.ctx.Err() != nil:
			return b.ctx.Err()
		}
	}
	return nil
}

// errStalled says that nothing arrived for so long that nothing will.
var errStalled = errors.New("stalled")

func stalled(err error) bool { return errors.Is(err, errStalled) }

// awaitCount waits until count gives n, or errStalled.
func (b *sandbox) awaitCount(n int, count func() (int, error)) error {
	last, moved := -1, time.Now()
	for {
		now, err := count()
		switch {
		case err != nil || now >= n:
			return err
		case now != last:
			last, moved = now, time.Now()
		case time.Since(moved) > patience:
			return fmt.Errorf("%w at %d of %d", errStalled, now, n)
		case b.ctx.Err() != nil:
			return b.ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
}

// size is how long a file is, 0 while there is none.
func size(path string) (int, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int(st.Size()), nil
}

// diskUse is what the files below dir take on disk, in bytes.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type().IsRegular() {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return n, err
}
