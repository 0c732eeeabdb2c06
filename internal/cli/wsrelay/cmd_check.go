package wsrelay

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"wsrelay/internal/cli"
	"wsrelay/internal/cli/options"
	"wsrelay/relay"
)

// checkCmd is wsrelay check.
type checkCmd struct {
	connectOptions

	Config    options.File `placeholder:"FILE" env:"WSRELAY_CONFIG" help:"Read options from FILE, as run does."`
	OptionsFD options.FD   `name:"options-fd" placeholder:"N" help:"Read options from the open descriptor N."`
}

// Run goes to each URL as a relay would, as far as the receiver's welcome.
func (c *checkCmd) Run(s *stdio) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := relay.Options{Host: hostname(), Agent: "wsrelay/" + cli.Version(), Dial: c.dialConfig(), Dialect: c.dialect()}
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
	return &cli.Error{
		Err:    fmt.Errorf("%d of %d receivers would accept no line", failed, len(c.URL)),
		Effect: "none was sent; a relay keeps them in its queue and tries again",
		Hint:   hint, Code: exitFailed,
	}
}
