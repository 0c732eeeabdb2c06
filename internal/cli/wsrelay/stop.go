package wsrelay

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wsrelay/internal/cli"
)

// grace is how long the input may continue after the first signal: syslog-ng sends
// SIGTERM and then closes the pipe, which may still be full.
const grace = 5 * time.Second

// stopper is what signals ask for.
type stopper struct {
	now context.Context // ends when the input is not waited for any more

	again atomic.Bool // now has ended because of stopOptions.again

	mu          sync.Mutex
	requested   context.Context // ends with the first signal
	requestStop context.CancelFunc
	release     func() // forget about signals
}

type stopOptions struct {
	terminal bool          // the input is one: ^C means at once
	service  bool          // nobody means us to end but by ending the input
	again    time.Duration // after this the process ends, for another to take its place; 0: never
	log      *slog.Logger
}

// watchSignals makes the first signal a request to end when the input does. The input
// not ending within grace, or a further signal, is a request to end at once;
// but under syslog-ng, where the pipe says when it is over, wsrelay continues.
func watchSignals(sigs <-chan os.Signal, o stopOptions) *stopper {
	signal.Ignore(syscall.SIGPIPE) // a stderr that nobody reads is no reason to die
	now, end := context.WithCancel(context.Background())
	s := &stopper{now: now}
	s.renew()
	done, released := make(chan struct{}), make(chan struct{})
	s.release = func() { close(done); <-released; s.requestStop(); end() }
	go func() {
		defer close(released)
		var graceOver, retry <-chan time.Time
		if o.again > 0 {
			retry = time.After(o.again)
		}
		for {
			select {
			case <-sigs:
				s.requestStop()
				if o.terminal || graceOver != nil && !o.service {
					end()
				}
				graceOver = time.After(grace)
			case <-graceOver:
				graceOver = nil
				if !o.service {
					end()
					break
				}
				s.renew()
				o.log.Warn("received a signal to exit, but the input is still open: continuing", cli.Effect, "nothing is lost", cli.Hint, "stop syslog-ng, or remove its destination, to stop wsrelay")
			case <-retry:
				s.again.Store(true)
				end()
			case <-done:
				return
			}
		}
	}()
	return s
}

// renew takes the request to end back.
func (s *stopper) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requested, s.requestStop = context.WithCancel(context.Background())
}

// stopRequested is done once wsrelay was asked to end: what is read from then on is
// kept, not delivered.
func (s *stopper) stopRequested() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requested
}
