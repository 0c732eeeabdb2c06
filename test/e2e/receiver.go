package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Receiver is a wsreceive that can be taken away and brought back: its address
// and its store stay.
type Receiver struct {
	*Process
	Addr string // host:port
	s    *Sandbox
	last int // documents that were stored
}

// NewReceiver picks a free port of the loopback interface. It starts nothing.
func (s *Sandbox) NewReceiver() (*Receiver, error) {
	addr, err := freeAddr()
	return &Receiver{Addr: addr, s: s}, err
}

var given sync.Map // by freeAddr

// freeAddr is where nobody listens, and which it has not given before: the
// kernel may name the same port twice.
func freeAddr() (string, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		if _, again := given.LoadOrStore(addr, true); !again {
			return addr, l.Close()
		}
		l.Close()
	}
}

// URL is where wsrelay finds the receiver.
func (r *Receiver) URL() string { return "ws://" + r.Addr + "/relay" }

// StorePath is the directory of the log database.
func (r *Receiver) StorePath() string { return r.s.Path("store") }

// Program is the path of wsreceive.
func (r *Receiver) Program() string { return filepath.Join(r.s.bin, "wsreceive") }

// Start starts wsreceive and waits until it listens.
func (r *Receiver) Start(ctx context.Context) (err error) {
	r.Process, err = r.s.Start("wsreceive", r.Program(), "--listen", r.Addr, "--to", "logs:"+r.StorePath())
	if err != nil {
		return err
	}
	return r.waitReady(ctx, func() bool {
		c, err := net.Dial("tcp", r.Addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Stored is the number of documents in the store, 0 before there is one. If wsreceive
// does not answer within a second, since it is frozen, say, it is the last one.
func (r *Receiver) Stored(ctx context.Context) (n int, err error) {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	switch n, err = r.count(soon); {
	case err == nil:
		r.last = n
	case ctx.Err() == nil && soon.Err() != nil:
		return r.last, nil
	}
	return n, err
}

func (r *Receiver) count(ctx context.Context) (n int, err error) {
	if _, err := os.Stat(r.StorePath()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	err = r.search(ctx, func(line []byte) error {
		var count struct {
			N int `json:"n,string"`
		}
		err := json.Unmarshal(line, &count)
		n = count.N
		return err
	}, "* | stats count() as n")
	return n, err
}

// WaitStored waits until the store has n documents.
func (r *Receiver) WaitStored(ctx context.Context, n int) error {
	return poll(ctx, func() (bool, error) {
		stored, err := r.Stored(context.WithoutCancel(ctx))
		return stored >= n, err
	})
}

// Documents gives every document as it is in the store, in the order in which
// wsrelay numbered them.
func (r *Receiver) Documents(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		type document struct {
			UID, Line string
			Line64    []byte
		}
		var all []document
		err := r.search(ctx, func(line []byte) error {
			var d document
			err := json.Unmarshal(line, &d)
			all = append(all, d)
			return err
		}, "--json", "--limit", "1000000000")
		if err != nil {
			yield(nil, err)
			return
		}
		slices.SortFunc(all, func(a, b document) int { return strings.Compare(a.UID, b.UID) })
		for i := range all {
			line := []byte(all[i].Line)
			if all[i].Line64 != nil {
				line = all[i].Line64
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// search calls f with each line that wsreceive search prints.
func (r *Receiver) search(ctx context.Context, f func(line []byte) error, args ...string) error {
	cmd := exec.CommandContext(ctx, r.Program(), append([]string{"search", "--to", "logs:" + r.StorePath()},
		args...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	in := bufio.NewReader(out)
	for {
		line, rerr := in.ReadBytes('\n')
		if rerr != nil {
			break
		}
		if err == nil {
			err = f(line)
		}
	}
	if werr := cmd.Wait(); werr != nil && (cmd.ProcessState.ExitCode() != 1 || complaint.Len() > 0) { // 1 without a word: nothing was found
		return fmt.Errorf("wsreceive search: %w: %s", werr, &complaint)
	}
	return err
}
