package wsreceive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"wsrelay/receiver/store/elastic"
)

type replayCmd struct {
	To string `placeholder:"URL" help:"URL of the engine: http(s)://HOST:PORT; several nodes of a cluster with commas."`
	engineOptions
	DeadFile string `placeholder:"FILE" help:"Also replay the dead letters in this local file; no wsreceive may have it open."`
	LogLevel string `default:"info" enum:"debug,info,warn,error" help:"Lowest level that is logged: debug, info, warn, error; debug logs why a dead letter was refused again. Default: ${default}."`
}

// Help is shown below the options.
func (c *replayCmd) Help() string {
	return `Tries every dead letter again in the index that refused it. Run it after you have fixed the cause, such as a mapping, a closed index or a limit. A line that is accepted is stored exactly once, and its dead letter is removed; the other dead letters stay. It can be run again, and while lines arrive.`
}

// Run brings back what it can and says how many those were.
func (c *replayCmd) Run(ctx context.Context, to *streams) (err error) {
	if err := c.need(c.To); err != nil {
		return err
	}
	log := newLogger(to.err, c.LogLevel, "text")
	access, err := c.elasticAccess(log)
	if err != nil {
		return engineFailed(c.To, err)
	}
	store, err := elastic.Open(ctx, c.To, elastic.Options{
		Prefix: c.Index, DataStream: c.DataStream,
		Pipeline: c.Pipeline, Access: access, Log: log,
	})
	if err != nil {
		return engineFailed(c.To, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	back, err := store.Replay(ctx)
	printReplayed(to.out, withoutPassword(c.To), back)
	if err != nil {
		return engineFailed(c.To, err)
	}
	if c.DeadFile == "" {
		return nil
	}
	back, err = store.ReplayFile(ctx, c.DeadFile)
	printReplayed(to.out, c.DeadFile, back)
	if err != nil {
		return engineFailed(c.To, err)
	}
	return nil
}

func printReplayed(out io.Writer, from string, r elastic.Replayed) {
	left, kinds := 0, []string(nil)
	for _, kind := range slices.Sorted(maps.Keys(r.Left)) {
		left += r.Left[kind]
		kinds = append(kinds, fmt.Sprintf("%d %s", r.Left[kind], kind))
	}
	fmt.Fprintf(out, "%s: %d indexed again, %d were stored already, %d are still dead letters", from, r.Stored, r.There, left)
	if left > 0 {
		fmt.Fprintf(out, ": %s", strings.Join(kinds, ", "))
	}
	fmt.Fprintln(out)
}
