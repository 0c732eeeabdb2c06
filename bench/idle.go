package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// idle looks at a sender that has an open connection and nothing to do.
func idle(c chain) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, _ int) (values, verdict, error) {
		const lines = 100
		s, count, err := b.counted(c)
		if err != nil {
			return nil, verdict{}, err
		}
		if err := b.in.feed(s.input, 0, lines); err != nil {
			return nil, verdict{}, err
		}
		if err := b.awaitCount(lines, count); err != nil {
			return nil, verdict{}, err
		}
		time.Sleep(3 * time.Second) // what is put off for a second or two gets done
		before := s.usage()
		time.Sleep(b.idle)
		after := s.usage()
		const report = 20 * time.Second
		cpu := float64(after.cpu-before.cpu) * float64(report) / float64(b.idle)
		v := values{"rss": mib(after.rss), "pss": mib(s.pss()), "cpu": cpu / float64(time.Millisecond)}
		return b.conclude(v, lines, s.arrive(lines))
	}
}

// intoLogs feeds the log database.
func intoLogs(c chain) func(*sandbox, int) (values, verdict, error) {
	c.receive = receiveTo("logs:store")
	return func(b *sandbox, n int) (values, verdict, error) {
		s, _, err := b.both(c)
		if err != nil {
			return nil, verdict{}, err
		}
		start := time.Now()
		if err := b.in.feed(s.input, 0, n); err != nil {
			return nil, verdict{}, err
		}
		err = s.arrive(n)
		v := mean(n, time.Since(start).Seconds())
		if err == nil { // final; until they can be found, it takes a while longer
			err = b.awaitCount(n, func() (int, error) { return b.found("store") })
		}
		if err == nil || stalled(err) {
			err = errors.Join(err, b.stored("store"))
		}
		return b.conclude(v, n, err)
	}
}

// found counts the documents of a log database.
func (b *sandbox) found(name string) (n int, err error) {
	out, err := exec.CommandContext(b.ctx, b.program("wsreceive"), "search", "--to", "logs:"+b.path(name),
		"* | stats count() n").Output()
	if err != nil {
		return 0, fmt.Errorf("wsreceive search: %w", err)
	}
	var row struct{ N string }
	if err := json.Unmarshal(out, &row); err != nil {
		return 0, err
	}
	return strconv.Atoi(row.N)
}

// stored writes the documents of a log database to the file out, in the order of
// their numbers.
func (b *sandbox) stored(name string) (err error) {
	out, err := exec.CommandContext(b.ctx, b.program("wsreceive"), "search", "--json", "--limit", "1000000000", "--to",
		"logs:"+b.path(name)).Output()
	if err != nil {
		return fmt.Errorf("wsreceive search: %w", err)
	}
	var all []struct{ UID, Line string }
	for line := range bytes.Lines(out) {
		all = append(all, struct{ UID, Line string }{})
		if err := json.Unmarshal(line, &all[len(all)-1]); err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b struct{ UID, Line string }) int { return strings.Compare(a.UID, b.UID) })
	var lines bytes.Buffer
	for i := range all {
		lines.WriteString(all[i].Line + "\n")
	}
	return os.WriteFile(b.path("out"), lines.Bytes(), 0o600)
}
