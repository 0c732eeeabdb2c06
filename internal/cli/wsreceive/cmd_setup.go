package wsreceive

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"wsrelay/receiver/store/elastic"
	"wsrelay/receiver/store/elastic/setup"
)

type setupCmd struct {
	To string `placeholder:"URL" help:"URL of the engine: http(s)://HOST:PORT; several nodes of a cluster with commas."`
	engineOptions
	Retain          days   `placeholder:"30d" help:"Delete older indices, by a lifecycle policy of the engine. Default: do not change the policy."`
	Dashboards      string `placeholder:"URL" help:"Also import the dashboards into Kibana or OpenSearch Dashboards at this address, with the same credentials."`
	PrintDashboards bool   `help:"Only print the dashboards (NDJSON), to be imported by hand, without a request to the engine."`
	DryRun          bool   `help:"Change nothing; print what would be done."`
	LogLevel        string `default:"info" enum:"debug,info,warn,error" help:"Lowest level that is logged: debug, info, warn, error. Default: ${default}."`
}

// Help is shown below the options.
func (c *setupCmd) Help() string {
	return `Installs index templates, so that fields have types and names of the Elastic Common Schema, and a lifecycle policy. What is already correct is not changed, so it can be run at any time; the component template wsrelay-custom is for your own settings and is never changed. Lines are also stored without it, but then the engine guesses the types.`
}

// days is an age.
type days int

// UnmarshalText reads the form 30d.
func (d *days) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "d")
	n, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil || n == 0 {
		return fmt.Errorf("%q is not a number of days such as 30d", text)
	}
	*d = days(n)
	return nil
}

// Run tells a line for each thing it sees to.
func (c *setupCmd) Run(ctx context.Context, to *streams) error {
	if c.PrintDashboards {
		_, err := to.out.Write(setup.Dashboards(c.DataStream))
		return err
	}
	if err := c.need(c.To); err != nil {
		return err
	}
	access, err := c.elasticAccess(newLogger(to.err, c.LogLevel, "text"))
	if err != nil {
		return engineFailed(c.To, err)
	}
	client, err := elastic.Dial(c.To, access)
	if err != nil {
		return engineFailed(c.To, err)
	}
	defer client.Close()
	report := func(s setup.Step) { fmt.Fprintf(to.out, "%-12s %s\n", s.Did, s.What) }
	if err := setup.Run(ctx, client, setup.Options{
		Prefix: c.prefix(), Stream: c.DataStream, Days: int(c.Retain),
		DryRun: c.DryRun, Report: report,
	}); err != nil {
		return engineFailed(c.To, err)
	}
	switch {
	case c.Dashboards == "":
		return nil
	case c.DryRun:
		report(setup.Step{Did: "would import", What: "dashboards"})
		return nil
	}
	step, err := setup.Import(ctx, c.Dashboards, c.DataStream, access)
	if err != nil {
		return engineFailed(c.Dashboards, err)
	}
	report(step)
	return nil
}
