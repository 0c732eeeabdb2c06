package status

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"wsrelay/internal/cli"
	"wsrelay/relay"
)

// fresh is how old a line may be before it counts as a backlog.
const fresh = 10.0 // seconds

// Write tells about each relay in plain words, the most important first.
func Write(w io.Writer, all []Snapshot) {
	for k := range all {
		if k > 0 {
			fmt.Fprintln(w)
		}
		all[k].write(w)
	}
}

func (s *Snapshot) write(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n", cli.Printable(s.Instance), s.headline())
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-9s %s\n", name, cli.Printable(fmt.Sprintf(format, args...)))
	}
	for _, p := range s.Problems {
		line("error", "%s", p.What)
		line("effect", "%s", p.Effect)
		line("hint", "%s", p.Hint)
	}
	if s.State == Unknown {
		return
	}
	if text := s.receiver(); text != "" {
		line("receiver", "%s", text)
	}
	line("backlog", "%s", s.backlog())
	if s.RateSeconds > 0 {
		line("rates", "in %s, out %s lines/s over the last %s", rate(s.InRate), rate(s.OutRate),
			duration(s.RateSeconds))
	}
	line("receipt", "%s", s.receipt())
	line("lost", "%s", s.losses())
	if s.DeadLetterLines > 0 {
		line("refused", "%s by the store, kept in its dead-letter index", lines(s.DeadLetterLines))
	}
	if s.PID != 0 && s.State != Silent {
		line("process", "%d, wsrelay %s, for %s%s", s.PID, s.Version, s.since(s.StartedAt), s.before())
	}
	line("queue", "%s, %s", s.QueueDir, s.disk())
}

// headline is the answer to: does it work?
func (s *Snapshot) headline() string {
	switch {
	case s.State == NotRunning:
		return "NOT RUNNING"
	case s.State == Unknown:
		return "CANNOT TELL"
	case s.State == Silent:
		return "DOES NOT ANSWER"
	case s.State == Holding:
		return "NOT DELIVERING: invalid configuration"
	case !s.Healthy && s.State == relay.StateConnected:
		return "connected, but something is WRONG"
	case !s.Healthy && s.State == relay.StateIdle:
		return "something is WRONG"
	case !s.Healthy:
		return "NOT DELIVERING"
	case s.LagSeconds >= fresh:
		return "delivering a backlog"
	case s.BacklogLines > 0:
		return "delivering"
	}
	return "all is delivered"
}

func (s *Snapshot) receiver() string {
	since := s.since(s.Since)
	switch s.State {
	case relay.StateConnected:
		return fmt.Sprintf("%s, connected for %s", s.URL, since)
	case relay.StateConnecting:
		return fmt.Sprintf("%s, connecting for %s", s.URL, since)
	case relay.StateListening:
		return "none has dialled for " + since
	case relay.StateWaiting:
		next := duration(max(0, s.NextAttemptAt.Sub(s.At).Seconds()))
		return fmt.Sprintf("%s, not connected; %s since the last receipt, the next is in %s", s.URL,
			cli.Count(uint64(s.FailedAttempts), "attempt has failed", "attempts have failed"), next)
	case relay.StateIdle:
		if s.URL == "" {
			return "not connected: that happens when a line comes"
		}
		return fmt.Sprintf("%s, not connected for %s: that happens when a line comes", s.URL, since)
	}
	return ""
}

// backlog says how much there is, and when it will be gone at this pace.
func (s *Snapshot) backlog() string {
	if s.BacklogLines == 0 {
		return "none"
	}
	text := fmt.Sprintf("%s, %s on disk, the oldest for %s", lines(s.BacklogLines),
		humanize.IBytes(uint64(s.BacklogBytes)), duration(s.LagSeconds))
	if gain := s.OutRate - s.InRate; s.LagSeconds >= fresh && s.State == relay.StateConnected && gain > 1 {
		text += "; gone in about " + duration(float64(s.BacklogLines)/gain)
	}
	if s.DrainRate > 0 {
		text += fmt.Sprintf("; sent at %s/s at most", humanize.IBytes(uint64(s.DrainRate)))
	}
	return text
}

func (s *Snapshot) receipt() string {
	switch {
	case s.ReceiptSeq == 0:
		return "none yet"
	case s.ReceiptAt.IsZero(): // of an earlier run
		return fmt.Sprintf("up to line %s, UID %s", humanize.Comma(int64(s.ReceiptSeq-1)), s.ReceiptUID)
	}
	return fmt.Sprintf("%s ago, up to line %s, UID %s", s.since(s.ReceiptAt), humanize.Comma(int64(s.ReceiptSeq-1)),
		s.ReceiptUID)
}

var reasons = map[string]string{
	"overflow": "at the queue's limit",
	"expired":  "older than --queue-max-age",
	"purged":   "by wsrelay queue purge",
	"damaged":  "damaged on disk",
	"unsynced": "not yet on disk when the machine stopped",
	"oversize": "too long for the receiver",
}

func (s *Snapshot) losses() string {
	if len(s.Lost) == 0 {
		return "none"
	}
	var all []string
	for _, l := range s.Lost {
		reason, ok := reasons[l.Why]
		if !ok {
			reason = l.Why
		}
		note := ""
		switch {
		case l.Told == 0:
			note = " (not yet reported to the receiver)"
		case l.Told < l.Lines:
			note = fmt.Sprintf(" (%s of them reported to the receiver)", humanize.Comma(int64(l.Told)))
		}
		all = append(all, lines(l.Lines)+" "+reason+note)
	}
	return strings.Join(all, ", ")
}

// before is what became of earlier workers.
func (s *Snapshot) before() string {
	switch {
	case s.WorkerRestarts == 0:
		return ""
	case s.LastWorker == "":
		return "; started again " + times(s.WorkerRestarts)
	}
	return fmt.Sprintf("; started again %s, the one before: %s", times(s.WorkerRestarts), s.LastWorker)
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return humanize.Comma(int64(n)) + " times"
}

func (s *Snapshot) disk() string {
	text := humanize.IBytes(uint64(s.DiskBytes))
	if s.DiskLimitBytes > 0 {
		text += " of at most " + humanize.IBytes(uint64(s.DiskLimitBytes))
	}
	return text + " on disk"
}

func (s *Snapshot) since(at time.Time) string { return duration(s.At.Sub(at).Seconds()) }

func lines(n uint64) string { return cli.Count(n, "line", "lines") }

func rate(r float64) string {
	if r > 0 && r < 10 {
		return fmt.Sprintf("%.1f", r)
	}
	return humanize.Comma(int64(r + 0.5))
}

// duration is a time in its two largest units.
func duration(seconds float64) string {
	n := int64(seconds + 0.5)
	switch {
	case n < 60:
		return fmt.Sprintf("%d s", n)
	case n < 3600:
		return fmt.Sprintf("%d min %d s", n/60, n%60)
	case n < 86400:
		return fmt.Sprintf("%d h %d min", n/3600, n/60%60)
	}
	return fmt.Sprintf("%d d %d h", n/86400, n/3600%24)
}
