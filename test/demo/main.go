// Demo shows what wsrelay is for: it sends log lines of three kinds through a
// real syslog-ng, takes the receiver away while they flow, brings it back, and
// counts in the receiver's store what has arrived. Run it with "make demo".
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"wsrelay/test/e2e"
)

const (
	rate       = 1000 // lines a second
	before     = 2 * rate
	away       = 4 * rate // lines that flow without a receiver
	after      = 2 * rate
	unanswered = rate / 2 // lines that wsreceive, frozen, no longer answers
	patience   = 25 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "\n  Interrupted: everything is stopped and removed.")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	s, err := e2e.NewSandbox("bin")
	if err != nil {
		return err
	}
	defer func() {
		if left := s.Close(); err == nil { // after an error, what was left is no news
			err = left
		}
	}()

	fmt.Printf(`
  nginx, Supervisor, syslog ──▶ syslog-ng ──▶ wsrelay ──▶ wsreceive ──▶ log database

  All of it runs in %s and is gone afterwards.
  Your own syslog-ng and its files are not touched.

`, s.Dir)

	d := demo{s: s}
	if d.receiver, err = s.NewReceiver(); err != nil {
		return err
	}
	if err := d.receiver.Start(ctx); err != nil {
		return err
	}
	defer func() { d.receiver.Kill() }() // the one that runs then
	if err := d.startSyslogNG(ctx); err != nil {
		return err
	}
	if err := d.flow(ctx); err != nil {
		return err
	}
	if err := d.search(ctx); err != nil {
		return err
	}
	return d.verdict(ctx)
}

// demo is the running chain.
type demo struct {
	s        *e2e.Sandbox
	syslogNG *e2e.Process
	receiver *e2e.Receiver
	feeder   *e2e.Feeder
}

func (d *demo) startSyslogNG(ctx context.Context) error {
	sample, err := d.s.Sample(d.receiver.URL())
	if err != nil {
		return err
	}
	conf, err := d.s.WriteConfig(sample)
	if err != nil {
		return err
	}
	d.syslogNG, err = d.s.StartSyslogNG(ctx, conf, e2e.AccessSocket, e2e.LocalSocket)
	return err
}

// flow sends the lines, with the outage in the middle, and returns when all
// are in the store or patience is at its end.
func (d *demo) flow(ctx context.Context) (err error) {
	if d.feeder, err = d.s.Feed(rate); err != nil {
		return err
	}
	err = d.outage(ctx)
	if err := errors.Join(err, d.feeder.Stop()); err != nil {
		return err
	}
	drained, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = d.watch(drained, func(stored int) bool { return stored >= d.feeder.Sent() })
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil // the verdict will say what is missing
	}
	return err
}

func (d *demo) outage(ctx context.Context) error {
	fmt.Println("     sent    stored   waiting")
	if err := d.watchSent(ctx, before); err != nil {
		return err
	}
	// Frozen first, so that lines are on their way without a receipt for sure.
	if err := d.receiver.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := d.watchSent(ctx, unanswered); err != nil {
		return err
	}
	d.receiver.Kill()
	fmt.Println("                             ✗ wsreceive is gone (kill -9, receipts outstanding); the lines flow on")
	if err := d.watchSent(ctx, away); err != nil {
		return err
	}
	if err := d.receiver.Start(ctx); err != nil {
		return err
	}
	fmt.Println("                             ✓ wsreceive is back; wsrelay tries again automatically")
	return d.watchSent(ctx, after)
}

// watchSent watches until n further lines are sent.
func (d *demo) watchSent(ctx context.Context, n int) error {
	goal := d.feeder.Sent() + n
	return d.watch(ctx, func(int) bool { return d.feeder.Sent() >= goal })
}

// watch prints the state each second until done, and once more then.
func (d *demo) watch(ctx context.Context, done func(stored int) bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for printed := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		sent := d.feeder.Sent()
		stored, err := d.receiver.Stored(ctx)
		if err := errors.Join(err, d.feeder.Err()); err != nil {
			return err
		}
		end := done(stored)
		if end || time.Since(printed) >= time.Second {
			fmt.Printf("  %7d   %7d   %7d  %s\n", sent, stored, max(0, sent-stored), bar(sent-stored))
			printed = time.Now()
		}
		if end {
			return nil
		}
	}
}

// bar draws the backlog, a mark for each 250 lines.
func bar(n int) string { return strings.Repeat("▪", max(0, (n+249)/250)) }

// search shows that what has arrived can be found by a word in it.
func (d *demo) search(ctx context.Context) error {
	words := []string{"invoice", "0000042"}
	args := append([]string{"search", "--json", "--to", "logs:" + d.receiver.StorePath()}, words...)
	out, err := exec.CommandContext(ctx, d.receiver.Program(), args...).Output()
	if err != nil {
		return fmt.Errorf("wsreceive search: %w", err)
	}
	var hit struct{ UID, Line string }
	if err := json.Unmarshal(out, &hit); err != nil {
		return fmt.Errorf("wsreceive search found %q: %w", out, err)
	}
	var document bytes.Buffer
	if err := json.Indent(&document, []byte(hit.Line), "  ", "  "); err != nil {
		return fmt.Errorf("the document %q: %w", hit.Line, err)
	}
	fmt.Printf("\n  $ wsreceive search %s\n  UID %s\n  %s\n", strings.Join(words, " "), hit.UID, &document)
	return nil
}

// verdict stops the chain in the order in which the lines run through it and
// counts what is in the store.
func (d *demo) verdict(ctx context.Context) error {
	if err := d.syslogNG.Stop(); err != nil {
		return err
	}
	ended, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.s.WaitChildren(ended); err != nil {
		return err
	}
	if err := d.receiver.Stop(); err != nil {
		return err
	}
	v, err := e2e.Check(d.receiver.Documents(ctx), d.feeder.Sent())
	if err != nil {
		return err
	}
	again, err := d.s.SentAgain()
	if err != nil {
		return err
	}
	fmt.Println("\n  Counted in the store:")
	for kind, n := range v.Received {
		fmt.Printf("  %7d  %v\n", n, e2e.Kind(kind))
	}
	fmt.Printf(`
  %d lines went over the wire again: the receiver was killed before it had
  answered for them. The store knows each line by its UID and keeps it once.

  lost %d doubled %d   (sent %d, received %d, sent again %d)

`, again, v.Lost, v.Doubled, v.Sent, v.Total(), again)
	switch {
	case !v.OK():
		return fmt.Errorf("the store is not right: lost %d, doubled %d, altered %d, out of order %d", v.Lost, v.Doubled,
			v.Altered, v.Unordered)
	case again == 0:
		return errors.New("no line had to be sent again, so this run has shown nothing: try once more")
	}
	return nil
}
