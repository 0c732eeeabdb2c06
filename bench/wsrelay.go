package main

import (
	"context"
	"os"
	"slices"
	"syscall"

	"wsrelay/buffer"
)

// wsrelay is a chain of wsrelay and wsreceive, which stores to a file. It is
// at its end when wsrelay has the receipts for all lines, so that both ends
// have synced them. wsrelay is started by the program under, if there is one.
func wsrelay(compress string, under ...string) chain {
	return chain{
		queue: "queue",
		send: func(b *sandbox, port int) (*sender, error) {
			c := append(slices.Clone(under), b.program("wsrelay"), wsURL(port), "--queue-dir", b.path("queue"),
				"--compress", compress, "--idle-close", "1h", "--drain", "3m")
			p, w, err := b.startOnPipe(c[0], c[1:]...)
			return &sender{
				process: p, input: w,
				accept: func() error {
					_ = p.cmd.Process.Signal(syscall.SIGTERM) // keep what comes, do not wait for delivery
					return endInput(p, w, 0)
				},
				arrive: func(int) error { return endInput(p, w, 0, 75) }, // 75: the comparison says what is missing
			}, err
		},
		receive:  receiveTo("file:out"),
		receipts: tap,
	}
}

// endInput closes what a process reads and waits for its end.
func endInput(p *process, w *os.File, statuses ...int) error {
	if err := w.Close(); err != nil {
		return err
	}
	return p.wait(statuses...)
}

// receiveTo starts wsreceive with a store.
func receiveTo(store string, under ...string) func(*sandbox, int) (*process, error) {
	return func(b *sandbox, port int) (*process, error) {
		c := append(slices.Clone(under), b.program("wsreceive"), "--listen", loopback(port), "--to", store)
		p, err := b.start(nil, c[0], c[1:]...)
		if err != nil {
			return nil, err
		}
		return p, b.awaitPort(p, port)
	}
}

// queued writes the lines that wait in a queue to the file out, as soon as
// wsrelay has released it.
func (b *sandbox) queued(dir string) error {
	q, _, err := buffer.Open(b.ctx, b.path(dir), buffer.Options{})
	if err != nil {
		return err
	}
	defer q.Close(context.Background()) //nolint:errcheck // only read
	out, err := os.Create(b.path("out"))
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // each Write says what went wrong
	for end := q.Stats().Head; ; {
		block, err := q.TryNext()
		if err != nil || block == nil {
			return err
		}
		if block.Gap() == nil {
			lines, err := block.Lines(nil)
			if err != nil {
				return err
			}
			if _, err := out.Write(lines); err != nil {
				return err
			}
		}
		if block.Range().End >= end {
			return nil
		}
	}
}
