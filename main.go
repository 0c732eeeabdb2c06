// Wsrelay ships the lines on its standard input to a WebSocket receiver, by way
// of a queue on disk: nothing is lost and nothing doubled, whatever happens to
// the network or to wsrelay itself.
//
//	stdin ─▶ intake ─▶ buffer (disk) ─▶ relay ══ws══▶ receiver
//	                     ▲                │
//	                     └─── receipts ───┘
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"wsrelay/buffer"
	"wsrelay/console"
	"wsrelay/intake"
	"wsrelay/relay"
)

// Exit statuses, those of sysexits(3) where one fits. Never 126 or 127:
// syslog-ng gives a destination up for them.
const (
	exitFailed  = 1
	exitUsage   = 64
	exitWaiting = 75
	exitConfig  = 78
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin, stdout, stderr *os.File) int {
	if k, ok := intake.Wanted(args, stdin); ok && ships(args) {
		k.Service = isNull(stderr)
		status, err := k.Keep()
		if err == nil {
			return status
		}
		_ = os.Setenv("WSRELAY_KEEPER", "off") // without one, then: see what it costs in the README
	}
	var c cli
	command, err := parse(&c, args, stdout)
	if err == nil {
		err = command.Run(&streams{in: stdin, out: stdout, err: stderr})
	}
	if err == nil || errors.Is(err, errHelp) {
		return 0
	}
	return console.Report(c.Run.logger(stderr), err)
}

// ships tells whether args mean the command run, by its name or by none.
func ships(args []string) bool {
	return len(args) == 0 || args[0] == "run" || strings.HasPrefix(args[0], "-") || strings.Contains(args[0], "://")
}

// streams are what a command reads and writes.
type streams struct{ in, out, err *os.File }

// Run ships lines: the command that is meant when none is named.
func (c *config) Run(s *streams) error {
	return ship(c, s.in, s.err, c.logger(s.err))
}

// ship moves lines from stdin to the receiver until the input ends and all is
// delivered, or until a signal and all is on disk.
func ship(c *config, stdin, stderr *os.File, log *slog.Logger) error {
	in, err := intake.New(stdin)
	if err != nil {
		return err
	}
	stop := obey(in.Signals(), stopOptions{
		terminal: isTerminal(stdin), service: in.Kept() && isNull(stderr), log: log,
	})
	defer stop.release()
	q, found, err := open(c, in, stop, log)
	if err != nil {
		return queueTrouble(c.QueueDir, err)
	}
	logRecovery(log, found)
	r := relay.New(q, relay.Options{
		URLs: c.URL, Host: hostname(), Agent: "wsrelay/" + console.Version(), Boot: strconv.FormatInt(time.Now().UnixNano(), 36),
		IdleClose: c.IdleClose, Ping: c.Ping, Log: log,
	})
	session, endSession := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(session) }()

	err = in.Run(context.Background(), stop.now, q, found, log)
	if err == nil && !stop.asked.Load() {
		drain(q, c.Drain, stop, stderr)
	}
	endSession()
	err = errors.Join(err, <-ended, persist(q))

	s, st := q.Stats(), r.Status()
	log.Info("stopped", "lines", in.Lines(), "receipted", st.ReceiptedLines, "sent_again", st.SentAgain, "waiting", s.Head-s.Cursor)
	if waiting := s.Head - s.Cursor; err == nil && waiting > 0 && !stop.asked.Load() {
		return undelivered(c, waiting, st)
	}
	return err
}

// open takes the queue. Until it is ours, the pipe's content goes to memory, as
// far as that may, where a keeper holds it; else a request to end ends the wait.
func open(c *config, in *intake.Intake, stop *stopper, log *slog.Logger) (*buffer.Queue, *buffer.Recovery, error) {
	wait := stop.now
	if in.Kept() {
		wait = context.Background()
	}
	filling, stopFilling := context.WithCancel(context.Background())
	filled := make(chan error, 1)
	go func() { filled <- in.Fill(filling) }()
	q, found, err := buffer.Open(wait, c.QueueDir, buffer.Options{
		Limit: int64(c.QueueLimit), DropOldest: c.QueueFull == "drop-oldest", MaxAge: c.QueueAge, Sync: time.Duration(c.Sync), Compress: c.compress(), Living: in.Living(), Log: log,
	})
	stopFilling()
	return q, found, errors.Join(err, <-filled)
}

// drain waits until the queue is delivered, for the time that the user gives,
// or until a signal.
func drain(q *buffer.Queue, limit time.Duration, stop *stopper, stderr *os.File) {
	ctx, cancel := context.WithTimeout(stop.first, limit)
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

// persist closes the queue; a disk that does not take the lines holds it up for
// a minute at most.
func persist(q *buffer.Queue) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return q.Close(ctx)
}

// grace is how long the input may go on after the first signal: syslog-ng sends
// SIGTERM and then closes the pipe, which may still be full.
const grace = 5 * time.Second

// stopper is what signals ask for.
type stopper struct {
	asked   atomic.Bool     // a signal came: what is read from here on is kept, not delivered
	first   context.Context // ends with the first signal
	now     context.Context // ends when the input is not waited for any more
	release func()
}

type stopOptions struct {
	terminal bool // the input is one: ^C means at once
	service  bool // nobody means us to end but by ending the input
	log      *slog.Logger
}

// obey makes the first signal a request to end when the input does. The input
// not ending within grace, or a further signal, is a request to end at once;
// but under syslog-ng, where the pipe says when it is over, wsrelay goes on.
func obey(sigs <-chan os.Signal, o stopOptions) *stopper {
	first, asked := context.WithCancel(context.Background())
	now, end := context.WithCancel(context.Background())
	s := &stopper{first: first, now: now}
	done := make(chan struct{})
	s.release = func() { close(done); asked(); end() }
	signal.Ignore(syscall.SIGPIPE) // a stderr that nobody reads is no reason to die
	go func() {
		var late <-chan time.Time
		for {
			select {
			case <-sigs:
				if o.terminal || late != nil && !o.service {
					end()
				}
				late = time.After(grace)
				s.asked.Store(true)
				asked()
			case <-late:
				if !o.service {
					end()
					break
				}
				s.asked.Store(false)
				o.log.Warn("told to end, but the input goes on: going on", console.Effect, "nothing is lost", console.Hint, "end syslog-ng, or its destination, to end wsrelay")
			case <-done:
				return
			}
		}
	}()
	return s
}

func hostname() string {
	name, _ := os.Hostname() // none is as good as any
	return name
}
