package wsrelay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/intake"
	"wsrelay/internal/cli"
	"wsrelay/relay"
)

// The words for an operator that are not beside the code they speak of, and
// where they go.

// noneRead is what a mistake means that is found before anything is read. A
// keeper may have what an earlier process has read.
func noneRead(h intake.History) string {
	switch bytes := humanize.IBytes(uint64(h.Pending)); {
	case h.Pending == 0:
		return "nothing was read: no line is lost"
	case h.Retries(isNull(os.Stderr)):
		return "no line is lost: " + bytes + " that were read wait in memory until this is fixed"
	default:
		return "the lines in " + bytes + " that were read and are not on disk are lost"
	}
}

// configError is an error before anything is read.
func configError(err error, hint string, code int) error {
	return &cli.Error{Err: err, Effect: noneRead(intake.InheritedHistory()), Hint: hint, Code: code}
}

func usageError(err error) error {
	return configError(err, "wsrelay run --help lists every option", exitUsage)
}

func queueError(dir string, in *intake.Intake, err error) error {
	c := &cli.Error{
		Err: fmt.Errorf("cannot use the queue directory: %w", err), Code: exitConfig,
		Effect: noneRead(in.History()), Hint: buffer.Hint(err),
	}
	if errors.Is(err, context.Canceled) {
		c.Err, c.Hint = fmt.Errorf("stopped while another wsrelay uses %q", dir),
			"give each wsrelay an instance of its own"
	}
	return c
}

// sayAbandoned logs what a keeper has lost that was asked twice to exit.
func sayAbandoned(k *intake.Keeper, stderr *os.File) {
	if k.Abandoned+k.Unread == 0 {
		return
	}
	var w io.Writer = stderr
	if isNull(stderr) {
		w = &systemLog{file: w, socket: "/dev/log"}
	}
	effect := fmt.Sprintf("the lines in %s that were read and are not on disk are lost",
		humanize.IBytes(uint64(k.Abandoned)))
	if k.Unread > 0 {
		effect += fmt.Sprintf("; %s are left in the pipe", humanize.IBytes(uint64(k.Unread)))
	}
	slog.New(cli.New(w, "wsrelay", slog.LevelInfo, false)).Error("received a second signal to exit before all lines were on disk",
		cli.Effect, effect, cli.Hint, "the log says why the lines could not be written to disk")
}

// notDeliveredError reports what is left in the queue at the end of the input.
func notDeliveredError(c *config, waiting uint64, st relay.Status) error {
	err := fmt.Errorf("%s not delivered within %s", cli.Count(waiting, "line was", "lines were"), c.Drain)
	hint := "run wsrelay with this queue again when the receiver takes lines"
	if st.LastError != "" {
		err, hint = fmt.Errorf("%w: %s", err, st.LastError), st.Hint+"; then "+hint
	}
	return &cli.Error{
		Err: err, Effect: fmt.Sprintf("nothing is lost: %s in the queue %s",
			cli.Count(waiting, "line waits", "lines wait"), c.QueueDir),
		Hint: hint, Code: exitWaiting,
	}
}

func logRecovery(log *slog.Logger, r *buffer.Recovery) {
	for _, g := range r.Gaps {
		log.Error("records are damaged on disk", "first", g.First, "lines", g.Len(),
			cli.Effect, "these lines are lost; a gap document with their numbers is delivered in their place",
			cli.Hint, "check the disk's health")
	}
	if r.Copied > 0 {
		log.Info("wsrelay was killed; what it had not made durable is durable now", "lines", r.Copied)
	}
	for _, name := range r.Quarantined {
		log.Warn("a file is not a segment of this queue", "moved_to", name,
			cli.Effect, "no line that the queue knows of is lost by this", cli.Hint, "look at the file, then remove it")
	}
	if r.NewSID {
		log.Warn("the queue's directory was copied, moved or cut short",
			cli.Effect, "new lines get a new stream id, so that none replaces another",
			cli.Hint, "never use copies of one queue side by side")
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// progress redraws one line while lines are delivered; on a terminal only.
func progress(ctx context.Context, w *os.File, q *buffer.Queue) {
	if !isTerminal(w) {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer fmt.Fprint(w, "\r\x1b[K")
	for last := q.Stats().Cursor; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := q.Stats()
		rate := s.Cursor - last
		last = s.Cursor
		left := "the receiver takes none now"
		if rate > 0 {
			left = fmt.Sprintf("%s lines/s, about %s left", humanize.Comma(int64(rate)),
				time.Duration((s.Head-s.Cursor)/rate+1)*time.Second)
		}
		fmt.Fprintf(w, "\r\x1b[K%s to deliver, %s on disk, %s", cli.Count(s.Head-s.Cursor, "line", "lines"),
			humanize.IBytes(uint64(s.PendingBytes)), left)
	}
}
