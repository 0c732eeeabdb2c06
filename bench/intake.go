package main

import (
	"errors"
	"fmt"
	"time"
)

// intake writes each line in a write of its own into wsrelay, whose receiver is unavailable. The
// time is that until all is on disk, synced, and wsrelay has ended.
func intake(b *sandbox, n int) (values, verdict, error) {
	p, w, err := b.startOnPipe(b.program("wsrelay"), nobody, "--queue-dir", b.path("queue"), "--drain", "0s")
	if err != nil {
		return nil, verdict{}, err
	}
	settle()
	v, err := b.feedAndWait(p, w, n)
	if err == nil {
		err = b.queued("queue")
	}
	return b.conclude(v, n, err)
}

// nobody is where nobody listens.
const nobody = "ws://127.0.0.1:1/relay"

// reader is what syslog-ng writes to.
type reader struct {
	command func(b *sandbox) (string, error)
	// collect stops syslog-ng and puts what the reader got into the file out.
	collect func(b *sandbox, syslogNG *process, n int) error
}

var (
	null = reader{command: func(*sandbox) (string, error) { return "exec cat >/dev/null", nil }}

	alone = reader{
		command: func(b *sandbox) (string, error) { return b.wsrelayCommand(nobody), nil },
		collect: func(b *sandbox, syslogNG *process, _ int) error {
			if err := syslogNG.stop(); err != nil {
				return err
			}
			return b.queued("queue")
		},
	}

	connected = reader{
		command: func(b *sandbox) (string, error) {
			port, err := freePort()
			if err != nil {
				return "", err
			}
			_, err = receiveTo("file:out")(b, port)
			return b.wsrelayCommand(wsURL(port)), err
		},
		collect: func(b *sandbox, syslogNG *process, n int) error {
			return errors.Join(b.awaitBytes(n), syslogNG.stop())
		},
	}
)

func (b *sandbox) wsrelayCommand(url string) string {
	return fmt.Sprintf("exec %s %s --queue-dir %s", b.program("wsrelay"), url, b.path("queue"))
}

// underSyslogNG feeds syslog-ng, which writes to a program. The time is that
// until it has written all, by its own count.
func underSyslogNG(to reader) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		command, err := to.command(b)
		if err != nil {
			return nil, verdict{}, err
		}
		s, err := b.startSyslogNG("sender", syslogNGSource+fmt.Sprintf(`destination d { program(%q template("$MSG\n")); };
			log { source(s); destination(d); flags(flow-control); };`, command))
		if err != nil {
			return nil, verdict{}, err
		}
		w, err := b.dial(s, "in.sock")
		if err != nil {
			return nil, verdict{}, err
		}
		settle()
		start := time.Now()
		if err := b.in.feed(w, 0, n); err != nil {
			return nil, verdict{}, err
		}
		err = b.awaitCount(n, func() (int, error) { return syslogNGCount(b.path("sender.ctl"), "dst.program;", "written") })
		v := mean(n, time.Since(start).Seconds())
		if err != nil {
			return nil, verdict{}, err
		}
		if to.collect == nil {
			return v, verdict{}, s.stop()
		}
		return b.conclude(v, n, to.collect(b, s, n))
	}
}
