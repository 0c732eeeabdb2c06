package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// victim is a chain whose sender and receiver are killed once each.
type victim struct {
	name, text string
	lines      int
	chain      chain
	kill       func(*sandbox, *sender, chain, int) (*sender, error)
	ours       bool // no line may be lost, doubled, altered or out of order
}

func victims() []victim {
	const lines = million / 5
	return []victim{
		{"wsrelay", "wsrelay: the worker", lines, wsrelay("auto"), killWorker, true},
		{"wsrelay, both", "wsrelay: keeper and worker at once", lines, wsrelay("auto"), killAll, false},
		{"syslog-ng, reliable", "syslog-ng, disk-buffer(reliable)", lines, syslogNG(true), killAll, false},
		{"syslog-ng, not reliable", "syslog-ng, disk-buffer, not reliable", lines, syslogNG(false), killAll, false},
		{"rsyslog, disk-assisted", "rsyslog, RELP, disk-assisted queue", lines, rsyslog("assisted"), killAll, false},
		{"rsyslog, disk", "rsyslog, RELP, disk queue", lines, rsyslog("disk"), killAll, false},
		{"rsyslog, disk, synced", "rsyslog, RELP, disk queue, syncQueueFiles", lines / 10, rsyslog("synced"), killAll, false},
		{fluentBit.name, "Fluent Bit, forward, acknowledged", lines, fluentBit.chain(), killAll, false},
		{vector.name, "Vector, disk buffer, acknowledged end to end", lines, vector.chain(), killAll, false},
		{"shell loop", "the loop around `socat`", lines / 400, shell, killAll, false},
	}
}

// killedCase is the name of the case.
func (w victim) killedCase() string { return "killed, " + w.name }

// killCases run once: how much a kernel's buffer holds at the kill is chance, and a
// chain that has lost lines is waited for in vain.
func killCases() (all []bench) {
	for _, w := range victims() {
		all = append(all, bench{name: w.killedCase(), lines: w.lines, run: killed(w.chain, w.kill), once: true})
	}
	return all
}

// killAll kills a sender and starts it again. Its socket is in the way.
func killAll(b *sandbox, s *sender, c chain, port int) (*sender, error) {
	s.kill()
	if err := os.Remove(b.path("in.sock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return c.send(b, port)
}

// killWorker kills the process that has the lines in its memory; the keeper starts another.
func killWorker(_ *sandbox, s *sender, _ chain, _ int) (*sender, error) {
	workers := s.family()[1:]
	if len(workers) == 0 {
		return nil, s.complain("has no worker")
	}
	for _, pid := range workers {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// killed feeds n lines. When a sixth has arrived, the sender is killed; when half has,
// the receiver. Both are started again at once. A program whose write fails connects
// again, and writes again the line that was not written whole.
func killed(c chain, kill func(*sandbox, *sender, chain, int) (*sender, error)) func(*sandbox,
	int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		port, err := freePort()
		if err != nil {
			return nil, verdict{}, err
		}
		r, err := c.receive(b, port)
		if err != nil {
			return nil, verdict{}, err
		}
		s, err := c.send(b, port)
		if err != nil {
			return nil, verdict{}, err
		}
		settle()
		arrived, again, done := b.arrived(n), make(chan *sender, 1), make(chan error, 1)
		go func() {
			defer close(again)
			err := b.awaitCount(n/6, arrived)
			if err == nil || stalled(err) {
				var next *sender
				if next, err = kill(b, s, c, port); err == nil {
					again <- next
					err = b.awaitCount(n/2, arrived)
				}
			}
			if err == nil || stalled(err) {
				r.kill()
				_, err = c.receive(b, port)
			}
			done <- err
		}()
		err = b.feedAgain(s, n, again)
		if err = errors.Join(err, <-done); err != nil {
			return nil, verdict{}, err
		}
		if err := b.awaitCount(n, arrived); err != nil && !stalled(err) {
			return nil, verdict{}, err
		}
		if err := b.awaitQuiet(); err != nil {
			return nil, verdict{}, err
		}
		v, err := b.checkOut(n)
		return values{
			"lost": float64(v.lost), "doubled": float64(v.doubled), "unordered": float64(v.unordered),
			"altered": float64(v.altered), "lines": float64(n),
		}, verdict{}, err
	}
}

// feedAgain writes n lines to a sender, and when that breaks, to the one after it.
func (b *sandbox) feedAgain(s *sender, n int, again <-chan *sender) error {
	for all, at := b.in.lines(0, n), 0; at < len(all); {
		written, err := s.input.Write(all[at:min(len(all), at+largeWrite)])
		if at += written; err != nil {
			next, ok := <-again
			if !ok {
				return err
			}
			s, at = next, bytes.LastIndexByte(all[:at], '\n')+1
		}
	}
	return nil
}

// arrived counts the lines that are in the file out, each once.
func (b *sandbox) arrived(n int) func() (int, error) {
	seen, count, at := make([]bool, n), 0, int64(0)
	return func() (int, error) {
		f, err := os.Open(b.path("out"))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		defer f.Close() //nolint:errcheck // only read
		got, err := io.ReadAll(io.NewSectionReader(f, at, 1<<30))
		got = got[:bytes.LastIndexByte(got, '\n')+1]
		at += int64(len(got))
		for line := range bytes.Lines(got) {
			if k := number(line); k >= 0 && k < n && !seen[k] {
				seen[k] = true
				count++
			}
		}
		return count, err
	}
}

// awaitQuiet waits until nothing has come for two seconds: what is sent twice may
// come after all else.
func (b *sandbox) awaitQuiet() error {
	for last := -1; ; time.Sleep(2 * time.Second) {
		now, err := size(b.path("out"))
		if err != nil || now == last {
			return err
		}
		last = now
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
}

// killed is the table of what was lost, "" if nothing was killed.
func (r *record) killed() string {
	var b strings.Builder
	for _, w := range victims() {
		name := w.killedCase()
		if found := r.Found[name]; found != "" {
			fmt.Fprintf(&b, "| %s | | | | | | %s |\n", w.text, found)
		}
		of, ok := r.median(name + "/lines")
		if !ok {
			continue
		}
		wrong, word := 0.0, ""
		fmt.Fprintf(&b, "| %s", w.text)
		for _, value := range []string{"lost", "doubled", "unordered", "altered"} {
			x, _ := r.median(name + "/" + value)
			wrong += x
			fmt.Fprintf(&b, " | %.0f", x)
		}
		if w.ours {
			word = map[bool]string{true: "met", false: "**missed**"}[wrong == 0]
		}
		fmt.Fprintf(&b, " | %.0f | %s |\n", of, word)
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n| **Killed once with `kill -9` in a flood, and started again: the sender, then the receiver** | lost | doubled | out of order | altered | of lines | |\n|---|--:|--:|--:|--:|--:|---|\n" + b.String()
}
