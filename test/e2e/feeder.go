package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Feeder writes numbered lines of all kinds, in turn, where the sample
// configuration reads them.
type Feeder struct {
	writers [kinds]io.StringWriter
	closers []io.Closer
	sent    atomic.Int64

	stop func()
	done chan struct{} // closed when run has ended and err is set
	err  error
}

// Feed starts to send rate lines a second to the syslog-ng of the sandbox.
func (s *Sandbox) Feed(rate int) (*Feeder, error) {
	f := &Feeder{done: make(chan struct{})}
	if err := f.open(s); err != nil {
		return nil, errors.Join(err, f.close())
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() {
		defer close(f.done)
		f.err = errors.Join(f.run(ctx, rate), f.close())
	}()
	return f, nil
}

func (f *Feeder) open(s *Sandbox) error {
	for kind, socket := range map[Kind]string{Access: AccessSocket, Syslog: LocalSocket} {
		conn, err := net.Dial("unixgram", s.Path(socket))
		if err != nil {
			return err
		}
		f.writers[kind] = datagrams{conn}
		f.closers = append(f.closers, conn)
	}
	file, err := os.OpenFile(s.supervisorLog(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	f.writers[Supervisor] = file
	f.closers = append(f.closers, file)
	return nil
}

func (f *Feeder) close() error {
	var err error
	for _, c := range f.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

type datagrams struct{ net.Conn }

func (d datagrams) WriteString(s string) (int, error) { return d.Write([]byte(s)) }

// run sends until ctx ends. A socket that syslog-ng does not empty holds it
// up; what it has missed meanwhile it sends in one go.
func (f *Feeder) run(ctx context.Context, rate int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for due := int(time.Since(start).Seconds() * float64(rate)); f.Sent() < due; f.sent.Add(1) {
			kind, n := Kind(f.Sent()%int(kinds)), f.Sent()/int(kinds)
			if _, err := f.writers[kind].WriteString(kind.frame(n)); err != nil {
				return fmt.Errorf("send line %d: %w", f.Sent(), err)
			}
		}
	}
}

// Sent is the number of lines of all kinds sent so far.
func (f *Feeder) Sent() int { return int(f.sent.Load()) }

// Err is why the feeder has ended before it was stopped, nil if it has not.
func (f *Feeder) Err() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// WaitSent waits until more further lines are sent.
func (f *Feeder) WaitSent(ctx context.Context, more int) error {
	goal := f.Sent() + more
	return poll(ctx, func() (bool, error) { return f.Sent() >= goal, errors.Join(f.Err(), ctx.Err()) })
}

// Stop ends the sending; Sent does not change any more.
func (f *Feeder) Stop() error {
	f.stop()
	<-f.done
	return f.err
}
