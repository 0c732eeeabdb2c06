package wsreceive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"wsrelay/internal/cli"
	"wsrelay/receiver/store/logs"
)

type verifyCmd struct {
	To   string `default:"${logs}" placeholder:"STORE" help:"The log database. Default: ${default}."`
	JSON bool   `help:"Print the whole report as JSON."`
	configOption
}

// Run waits until the journal is in the database, compares both for each stream,
// and fails if they do not agree.
func (c *verifyCmd) Run(ctx context.Context, to *streams) error {
	store, err := openDatabase(ctx, c.To, to)
	if err != nil {
		return err
	}
	defer store.close()
	body, err := store.get(ctx, "/store/verify", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	var r logs.Report
	if err := json.NewDecoder(body).Decode(&r); err != nil {
		return fmt.Errorf("the answer is incomplete: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(to.out).Encode(r)
	}
	return report(to, &r)
}

func report(to *streams, r *logs.Report) error {
	var lines, missing, excess uint64
	for _, s := range r.Streams {
		lines, missing, excess = lines+s.Lines, missing+s.Missing, excess+s.Excess
		if s.Missing+s.Excess > 0 {
			fmt.Fprintf(to.out, "%s: %d lines are final, %d rows: %d missing, %d too many\n", s.SID, s.Lines, s.Rows,
				s.Missing, s.Excess)
		}
	}
	for _, what := range r.Damaged {
		fmt.Fprintln(to.out, "damaged, quarantined:", what)
	}
	fmt.Fprintf(to.out, "%s lines of %d streams are final; %s missing, %s too many\n", humanize.Comma(int64(lines)),
		len(r.Streams), humanize.Comma(int64(missing)), humanize.Comma(int64(excess)))
	if missing > 0 && r.Deleted {
		fmt.Fprintln(to.out, "retention deletes old days: their lines count as missing here")
		missing = 0
	}
	if missing+excess+uint64(len(r.Damaged)) > 0 {
		return &cli.Error{
			Err: errors.New("journal and database do not agree"), Code: 1,
			Effect: "the lines that are missing cannot be found",
			Hint:   "restore a backup beside this store to look for them; the log says when a day was quarantined",
		}
	}
	return nil
}
