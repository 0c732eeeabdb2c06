package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/cli"
)

const (
	socketName = "status.sock"
	timeout    = 2 * time.Second // with the other end
	maxAnswer  = 1 << 20
	maxPath    = 107 // of a socket: unix(7)
)

// Listen makes the socket in the queue directory, for this user alone. The caller
// must hold the queue's lock. What a killed process left is replaced.
func Listen(dir string) (net.Listener, error) {
	at, done, err := within(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.Fchmod(int(fd), 0o600) // Linux gives the name the mode of the socket, so it never has another
		})
		return errors.Join(err, failed)
	}}
	ln, err := c.Listen(context.Background(), "unix", at)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // the path may be good for nothing by then
	return ln, nil
}

// within gives the socket's path; one that is too long for a socket leads
// through an open descriptor of the directory, until done is called.
func within(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), func() { _ = d.Close() }, nil
}

// Serve gives each caller a snapshot in JSON, until ctx ends; then the socket is
// gone. If it is removed, it is created again. Path leads to the queue
// directory at any time.
func Serve(ctx context.Context, path func() string, snapshot func() Snapshot, log *slog.Logger) {
	for warned := false; ctx.Err() == nil; {
		ln, err := Listen(path())
		if err == nil {
			warned = false
			serve(ctx, ln, path, snapshot)
			continue
		}
		if !warned {
			warned = true
			log.Warn("wsrelay status will only see the queue's files", "err", err,
				cli.Effect, "none: lines are still delivered", cli.Hint, buffer.Hint(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(inspectInterval):
		}
	}
}

// inspectInterval is how often the socket is looked for.
const inspectInterval = 2 * time.Second

// serve serves until ctx ends, or the socket is gone.
func serve(ctx context.Context, ln net.Listener, path func() string, snapshot func() Snapshot) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer ln.Close()
		tick := time.NewTicker(inspectInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				_ = os.Remove(filepath.Join(path(), socketName)) // a file that nobody listens on does no harm
				return
			case <-tick.C:
				if _, err := os.Lstat(filepath.Join(path(), socketName)); errors.Is(err, fs.ErrNotExist) {
					return
				}
			}
		}
	}()
	for {
		conn, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			<-gone
			return
		case err != nil: // too few descriptors, usually
			time.Sleep(100 * time.Millisecond)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(timeout))
		_ = json.NewEncoder(conn).Encode(snapshot()) // the caller may be gone
		_ = conn.Close()
	}
}

// query gets the snapshot from the relay that serves in dir.
func query(dir string) (Snapshot, error) {
	at, done, err := within(dir)
	if err != nil {
		return Snapshot{}, err
	}
	defer done()
	conn, err := net.DialTimeout("unix", at, timeout)
	if err != nil {
		return Snapshot{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	var s Snapshot
	err = json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&s)
	return s, err
}
