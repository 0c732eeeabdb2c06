// Package wsrelay is the sender's command line: it wires intake, buffer and relay.
package wsrelay

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"wsrelay/buffer"
	"wsrelay/intake"
	"wsrelay/internal/cli"
	"wsrelay/relay"
)

// Exit statuses, those of sysexits(3) where one fits. Never 127, for which
// syslog-ng drops the destination until a reload.
const (
	exitFailed  = 1
	exitUsage   = 64
	exitWaiting = 75
	exitConfig  = 78
)

// Main runs the program and gives its exit status.
func Main() int {
	worker := intake.Worker()
	status := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if !worker && (status == 0 || status == exitWaiting || intake.Ended(os.Stdin)) {
		status = exitEnded(os.Args[1:], status)
	}
	return status
}

// exitEnded is the status that --exit-ended asks for when the input has ended. A
// program that is not wsrelay, or half of it, does not give it.
func exitEnded(args []string, otherwise int) int {
	n, err := strconv.Atoi(intake.FlagValue(args, "--exit-ended", ""))
	if err != nil {
		return otherwise
	}
	return n
}

func run(args []string, stdin, stdout, stderr *os.File) int {
	var keeperErr error // why there is no keeper
	if k, ok := intake.Wanted(args, stdin); ok && meansRun(args) {
		var status int
		k.Service = isNull(stderr)
		if status, keeperErr = k.Keep(); keeperErr == nil {
			sayAbandoned(k, stderr)
			return status
		}
		_ = os.Setenv("WSRELAY_KEEPER", "off")
	}
	var c commandLine
	command, err := parse(&c, args, stdout)
	s := &stdio{in: stdin, out: stdout, err: stderr, log: sync.OnceValue(func() *slog.Logger { return c.Run.logger(stderr) })}
	kept := intake.Worker()
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err == nil && errors.Is(keeperErr, intake.ErrTakeOver):
		err = &cli.Error{
			Err: keeperErr, Code: exitFailed,
			Effect: "the previous version still has its pipe, and stores what is in it in the queue; if its worker had just died, what that had read is lost",
			Hint:   "syslog-ng starts wsrelay again automatically; without syslog-ng, start it again",
		}
	case err == nil:
		if keeperErr != nil {
			s.log().Warn("running without a keeper", "err", keeperErr,
				cli.Effect, "if wsrelay is killed, it loses what it has read and not yet put on disk",
				cli.Hint, "allow it memory files (memfd_create), processes, a few pipes, /proc, and files of any size (ulimit -f)")
		}
		err = command.Run(s)
	case kept && isNull(stderr):
		err = c.Run.queueOnly(err, s)
	}
	if err == nil {
		return 0
	}
	status := cli.Report(s.log(), err)
	if (status == exitUsage || status == exitConfig) && isNull(stderr) && !kept && meansRun(args) {
		signal.Reset() // a signal to exit need not wait for that
		time.Sleep(retryInterval)
	}
	return status
}

// meansRun reports whether args name the command run, or no command.
func meansRun(args []string) bool {
	return len(args) == 0 || args[0] == "run" || strings.HasPrefix(args[0], "-") || strings.Contains(args[0], "://")
}

// stdio is what a command reads and writes.
type stdio struct {
	in, out, err *os.File
	log          func() *slog.Logger // made when it is first needed: that may make a file
}

// Run sends lines: it is the command where none is named.
func (c *config) Run(s *stdio) error {
	if len(c.exposed) > 0 {
		s.log().Warn("a secret is in the arguments of a process", "options", strings.Join(c.exposed, ", "),
			cli.Effect, "every local user can read it", cli.Hint, "put it into a file that only this user can read, and name that with header-file or proxy-file; then replace the secret")
	}
	return runRelay(c, s, nil)
}

// retryInterval is how often a configuration that cannot work is looked at again, where
// nobody sees an exit status: by the keeper's next worker, or by what syslog-ng
// starts in place of a wsrelay without a keeper, and would start at once.
var retryInterval = 30 * time.Second

// queueOnly keeps lines under a configuration that cannot work, where nobody sees an
// exit status and the pipe must not be left alone. After a while it ends, and the
// keeper's next worker looks at the configuration again.
func (c *config) queueOnly(wrong error, s *stdio) error {
	if c.QueueDir == "" {
		return wrong
	}
	status := cli.Report(s.log(), wrong)
	s.log().Warn("not delivering until the configuration is fixed", "queue", c.QueueDir,
		cli.Effect, "no line is lost: they wait in the queue",
		cli.Hint, "fix it, and reload syslog-ng if it is part of its configuration")
	c.URL, c.Listen = nil, ""
	if c.QueueLimit < buffer.MinLimit {
		c.QueueLimit = 0
	}
	if err := runRelay(c, s, wrong); !errors.Is(err, errAgain) {
		return err
	}
	return cli.Exit(status)
}

// errAgain reports that runRelay returned for another process to take its place.
var errAgain = errors.New("another worker is to look at the configuration")

// runRelay moves lines from stdin to the receiver until the input has ended and all
// is delivered, or, after a signal, all is on disk. With a configuration that is
// wrong it only fills the queue.
func runRelay(c *config, s *stdio, wrong error) error {
	debug.SetGCPercent(50) // what is live is some MiB of buffers, and little of it is garbage
	limitMemory()
	log := s.log()
	in, err := intake.New(s.in)
	if err != nil {
		return err
	}
	o := stopOptions{terminal: isTerminal(s.in), service: in.Kept() && isNull(s.err), log: log}
	if wrong != nil {
		o.again = retryInterval
	}
	stop := watchSignals(in.Signals(), o)
	defer stop.release()
	in.Unread = c.unread(log)
	q, found, err := open(c, in, stop, log)
	if err != nil {
		return queueError(c.QueueDir, in, err)
	}
	logRecovery(log, found)
	confirmed := c.confirm(q, s.out)
	var out relay.Queue = q
	if c.DrainRate > 0 {
		out = relay.Paced(q, int64(c.DrainRate))
	}
	r := relay.New(out, relay.Options{
		URLs: c.URL, Listen: c.Listen, Host: hostname(), Agent: "wsrelay/" + cli.Version(),
		Boot:      strconv.FormatInt(time.Now().UnixNano(), 36),
		IdleClose: c.IdleClose, Ping: c.Ping, Dial: c.dialConfig(), Dialect: c.dialect(), Recompress: c.codec() == nil,
		Quarantine: quarantine(q, c.QueueDir), Log: log,
	})
	stopReport := c.report(in, q, r, wrong, log)
	session, endSession := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		if !c.delivers() {
			ended <- nil
			return
		}
		ended <- r.Run(session)
	}()

	err = in.Run(context.Background(), stop.now, q, found, log)
	stopRequested := stop.stopRequested()
	if err == nil && c.delivers() && stopRequested.Err() == nil {
		drain(q, c.Drain, stopRequested, s.err)
	}
	endSession()
	err = errors.Join(err, <-ended)
	stopReport() // while the lock is ours: what another has made by then is not ours to remove
	err = errors.Join(err, persist(q, in.Kept()))

	<-confirmed

	left, st := q.Stats(), r.Status()
	waiting := left.Head - left.Cursor
	log.Info("stopped", "lines", in.Lines(), "acknowledged", st.ReceiptedLines, "sent_again", st.SentAgain,
		"waiting", waiting)
	if err == nil && stop.again.Load() {
		return errAgain
	}
	if err == nil && waiting > 0 && stopRequested.Err() == nil {
		return notDeliveredError(c, waiting, st)
	}
	return err
}

// open takes the queue. Until it is ours, the pipe's content goes to memory, as
// far as that may, where a keeper holds it, unless a worker whose keeper was killed
// still reads that pipe. A request to end ends the wait, but for the sake of what was
// taken from the pipe by then.
func open(c *config, in *intake.Intake, stop *stopper, log *slog.Logger) (*buffer.Queue, *buffer.Recovery, error) {
	filling, stopFilling := context.WithCancel(stop.now)
	filled := make(chan struct{})
	wait, cancelWait := context.WithCancel(context.Background())
	defer cancelWait()
	holder, others := buffer.Locked(c.QueueDir)
	others = append(others, holder)
	go func() {
		defer close(filled)
		if !in.SharedWith(others) {
			in.Fill(filling)
		}
		if <-filling.Done(); in.History().Pending == 0 {
			cancelWait()
		}
	}()
	q, found, err := buffer.Open(wait, c.QueueDir, buffer.Options{
		Limit: int64(c.QueueLimit), DropOldest: c.QueueFull == "drop-oldest", MaxAge: c.QueueAge,
		Sync: time.Duration(c.Sync), Codec: c.codec(), LiveInput: in.LiveInput(), Log: log,
	})
	stopFilling()
	<-filled
	return q, found, err
}

// quarantine keeps lines that the receiver will never take.
func quarantine(q *buffer.Queue, dir string) relay.Quarantine {
	return func(sid string, seq uint64, line []byte, why string) (string, error) {
		name, err := q.Quarantine(sid, seq, line, why)
		return filepath.Join(dir, name), err
	}
}

// drain waits until the queue is delivered, for the time that the user gives,
// or until a signal to exit.
func drain(q *buffer.Queue, limit time.Duration, stop context.Context, stderr *os.File) {
	ctx, cancel := context.WithTimeout(stop, limit)
	defer cancel()
	drawn := make(chan struct{})
	go func() {
		defer close(drawn)
		progress(ctx, stderr, q)
	}()
	_ = q.WaitAcked(ctx, q.Stats().Head) // how far it came is in Stats
	cancel()
	<-drawn
}

// persist closes the queue. A disk that does not take the lines holds it up: for
// a minute at most, or, where a keeper has them as well, for as long as it takes,
// as nobody else may have the queue before they are in it.
func persist(q closer, kept bool) error {
	if kept {
		return q.Close(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return q.Close(ctx)
}

type closer interface {
	Close(ctx context.Context) error
}

func hostname() string {
	name, _ := os.Hostname() // without one it is empty
	return name
}
