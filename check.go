package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"

	"wsrelay/console"
	"wsrelay/handshake"
	"wsrelay/options"
	"wsrelay/relay"
)

// checkCmd is wsrelay check.
type checkCmd struct {
	reach

	Config    options.File `placeholder:"FILE" env:"WSRELAY_CONFIG" help:"Read options from FILE, as run does."`
	OptionsFD options.FD   `name:"options-fd" placeholder:"N" help:"Read options from the open descriptor N."`
}

// Run goes to each URL as a relay would, as far as the receiver's welcome.
func (c *checkCmd) Run(s *streams) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := relay.Options{Host: hostname(), Agent: "wsrelay/" + console.Version(), Way: c.way(), Dialect: c.dialect(nil)}
	failed, hint := 0, ""
	for _, u := range c.URL {
		address, _, _ := strings.Cut(u, "?") // what follows may be secret
		fmt.Fprintln(s.out, address)
		line := func(step, found string) { fmt.Fprintf(s.out, "  %-10s %s\n", step, found) }
		step, fault := relay.Check(ctx, o, u, line)
		if fault == nil {
			line("ok", "lines would be accepted")
			continue
		}
		line(step, "FAILED: "+fault.Error())
		line("", fault.Hint)
		failed, hint = failed+1, fault.Hint
	}
	if failed == 0 {
		return nil
	}
	return &console.Complaint{
		Err: fmt.Errorf("%d of %d receivers would accept no line", failed, len(c.URL)), Effect: "none was sent; a relay keeps them in its queue and tries again",
		Hint: hint, Code: exitFailed,
	}
}

// keygenCmd is wsrelay keygen.
type keygenCmd struct {
	File string `arg:"" optional:"" help:"Where to put it, readable by this user alone; a file that is there is not touched. Default: standard output."`
	Name string `placeholder:"NAME" help:"The key's name: [A-Za-z0-9_.-], at most 64. Default: this host's."`
}

// Run makes a key.
func (k *keygenCmd) Run(s *streams) error {
	if k.Name == "" {
		k.Name = regexp.MustCompile(`[^A-Za-z0-9_.-]`).ReplaceAllString(hostname(), "-")
	}
	line := handshake.NewKeyLine(k.Name)
	if _, err := handshake.ParseKeys([]byte(line)); err != nil {
		return usage(fmt.Errorf("--name: %w", err))
	}
	if k.File == "" {
		fmt.Fprintln(s.out, line)
		return nil
	}
	f, err := os.OpenFile(k.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString("# a key of wsrelay; who has it can send lines in this host's name\n" + line + "\n")
		if closed := f.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return &console.Complaint{
			Err: fmt.Errorf("no key was made: %w", err), Effect: "nothing has changed", Hint: "name a file that is not there yet", Code: exitFailed,
		}
	}
	fmt.Fprintf(s.out, "The key %q is in %s.\nHere:     wsrelay --key-file %s\nReceiver: add the line of %q in that file, by a safe way, to the file of wsreceive --keys, and send it SIGHUP; host=%s behind it allows this key for this host only.\n",
		k.Name, k.File, k.File, k.Name, hostname())
	return nil
}
