package wsreceive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"wsrelay/internal/cli"
	"wsrelay/receiver"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/logsql"
)

// span is a time that may be given in days: 90s, 1h30m, 7d.
type span time.Duration

// UnmarshalText reads one.
func (s *span) UnmarshalText(text []byte) error {
	d, err := logsql.ParseSpan(string(text))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time such as 5m, 1h30m or 2d", text)
	}
	*s = span(d)
	return nil
}

// stateOptions say from when on a sender is silent or late.
type stateOptions struct {
	SilentAfter span `default:"1h" placeholder:"TIME" help:"Show a sender as silent if no line of it has come for this long. Default: ${default}."`
	LateAfter   span `default:"5m" placeholder:"TIME" help:"Show a sender as late when its lines are this old before they are stored. Default: ${default}."`
}

func (t *stateOptions) thresholds() receiver.Thresholds {
	return receiver.Thresholds{Silent: time.Duration(t.SilentAfter), Late: time.Duration(t.LateAfter)}
}

type sendersCmd struct {
	storeOptions
	stateOptions
	State []string `placeholder:"STATE" help:"Show only senders in this state: refused, diverged, silent, late, delivering."`
	JSON  bool     `help:"Print one JSON object a line."`
	remoteOptions
}

// Help is shown below the options.
func (sendersCmd) Help() string {
	return `Failing senders come first:

  refused     The sender, or its lines, are not accepted; the reason stands beside it.
  diverged    Its queue was restored from an older copy, and it has not come back under a new stream yet.
  silent      No line has come for as long as --silent-after says.
  late        Its lines come, and are older than --late-after says when they do.
  delivering  All is well.

It shows what wsreceive has stored, which is some seconds old, or older with thousands of senders; with --url it shows the current state. A sender that has not connected for 30 days is forgotten.`
}

// Run prints the senders.
func (c *sendersCmd) Run(ctx context.Context, to *streams) error {
	for _, state := range c.State {
		if !slices.Contains(receiver.Standings, receiver.Standing(state)) {
			return &cli.Error{
				Err: fmt.Errorf("--state %s is not a state", state), Code: exitUsage,
				Hint: "use refused, diverged, silent, late or delivering",
			}
		}
	}
	all, err := c.reports(ctx, to)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(to.out)
		for i := range all {
			if c.wants(&all[i]) {
				if err := out.Encode(&all[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return c.table(to.out, all, time.Now())
}

func (c *sendersCmd) wants(r *receiver.Report) bool {
	return len(c.State) == 0 || slices.Contains(c.State, string(r.State))
}

// reports asks the wsreceive at --url, or reads what the one of this host has kept.
func (c *sendersCmd) reports(ctx context.Context, to *streams) ([]receiver.Report, error) {
	if c.URL != "" {
		r, err := c.connect(newLogger(to.err, "warn", "text"))
		if err != nil {
			return nil, err
		}
		defer r.CloseIdleConnections()
		body, err := r.request(ctx, "/api/senders", url.Values{"all": {"1"}})
		if err != nil {
			return nil, err
		}
		defer body.Close()
		var answer struct{ Senders []receiver.Report }
		if err := json.NewDecoder(body).Decode(&answer); err != nil {
			return nil, fmt.Errorf("the answer is incomplete: %w", err)
		}
		return answer.Senders, nil
	}
	all, err := c.kept(ctx, to)
	return receiver.Reports(all, time.Now(), c.thresholds()), err
}

func (c *sendersCmd) kept(ctx context.Context, to *streams) (all []receiver.Sender, err error) {
	k, path, ok := kindOf(c.To)
	switch {
	case ok && k.senders != nil:
		if _, err = os.Stat(path); err == nil {
			all, err = k.senders(path)
		}
		if err == nil && k.logs {
			warnIfStopped(ctx, path, to.err)
		}
	case ok && k.engine:
		serve := serveCmd{To: c.To, engineOptions: c.engineOptions, LogLevel: "error", LogFormat: "text"}
		store, err := serve.openStore(ctx, to.out, serve.logger(to.err))
		if err != nil {
			return nil, storeFailed(c.To, err)
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		keeper, ok := store.(receiver.SenderKeeper)
		if !ok {
			return nil, storeFailed(c.To, errors.ErrUnsupported)
		}
		all, err = keeper.Senders(ctx)
		return all, err
	default:
		return nil, &cli.Error{
			Err:  fmt.Errorf("--to %s keeps no list of senders", withoutPassword(c.To)),
			Code: exitUsage, Hint: "ask the wsreceive that runs: --url http://HOST:PORT",
		}
	}
	if err != nil {
		return nil, storeFailed(c.To, err)
	}
	return all, nil
}

// warnIfStopped says so if no wsreceive has the log database open: what it has kept is
// then how it was.
func warnIfStopped(ctx context.Context, path string, w io.Writer) {
	conn, err := logs.Dial(ctx, path)
	if err == nil {
		_ = conn.Close()
		return
	}
	fmt.Fprintln(w, "wsreceive: warn: wsreceive does not run with this store; no line has arrived since it exited")
}

func (c *sendersCmd) table(out io.Writer, all []receiver.Report, now time.Time) error {
	counts := map[receiver.Standing]int{}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tHOST\tSENDER\tLAST LINE\tLAG\tBACKLOG\tRATE\tVERSION\tSTREAM\tWHY")
	for i := range all {
		r := &all[i]
		counts[r.State]++
		if !c.wants(r) {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.State, cell(r.Host), cell(r.Name),
			ago(r.LastLine, now), seconds(r.Lag),
			humanize.Comma(int64(r.Backlog)), humanize.FtoaWithDigits(r.Rate, 1)+"/s", cell(r.Version), r.SID,
			escapeControls(r.Why))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	parts := []string{cli.Count(uint64(len(all)), "sender", "senders")}
	for _, standing := range receiver.Standings {
		if n := counts[standing]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", humanize.Comma(int64(n)), standing))
		}
	}
	_, err := fmt.Fprintln(out, parts[0]+": "+cmp.Or(strings.Join(parts[1:], ", "), "none yet"))
	return err
}

func cell(s string) string { return cmp.Or(strings.ReplaceAll(escapeControls(s), "\t", `\x09`), "-") }

func ago(at, now time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return seconds(now.Sub(at).Seconds()) + " ago"
}

// seconds gives a time in its two largest units at most.
func seconds(s float64) string {
	d := time.Duration(max(0, s) * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
