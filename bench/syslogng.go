package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"wsrelay/test/e2e"
)

const (
	syslogNGSource = `@version: current
		source s { unix-stream("in.sock" flags(no-parse) log-iw-size(400000) max-connections(4) log-fetch-limit(10000)); };
	`
	syslogNGSender = syslogNGSource + `destination d { network("127.0.0.1" port(%d) transport("tcp") template("$MSG\n") time-reopen(1)
			disk-buffer(reliable(%s) disk-buf-size(4294967296) dir("%s"))); };
		log { source(s); destination(d); flags(flow-control); };`
	syslogNGReceiver = `@version: current
		source s { network(ip("127.0.0.1") port(%d) transport("tcp") flags(no-parse) log-iw-size(400000) max-connections(4) log-fetch-limit(10000)); };
		destination d { file("%s" template("$MSG\n")); };
		log { source(s); destination(d); flags(flow-control); };`
)

// syslogNG is a chain of two syslog-ngs over TCP, the first with a
// disk-buffer. Neither syncs.
func syslogNG(reliable bool) chain {
	return chain{
		queue: "disk-buffer",
		send: func(b *sandbox, port int) (*sender, error) {
			if err := os.MkdirAll(b.path("disk-buffer"), 0o700); err != nil {
				return nil, err
			}
			yes := map[bool]string{true: "yes", false: "no"}[reliable]
			return b.socketSender(b.startSyslogNG("sender", fmt.Sprintf(syslogNGSender, port, yes,
				b.path("disk-buffer"))))
		},
		receive: func(b *sandbox, port int) (*process, error) {
			p, err := b.startSyslogNG("receiver", fmt.Sprintf(syslogNGReceiver, port, b.path("out")))
			if err != nil {
				return nil, err
			}
			return p, b.awaitPort(p, port)
		},
	}
}

// startSyslogNG runs a syslog-ng that has nothing to do with the system's.
func (b *sandbox) startSyslogNG(name, conf string) (*process, error) {
	program, err := e2e.SyslogNGPath()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	path, err := b.write(name+".conf", conf)
	if err != nil {
		return nil, err
	}
	return b.start(nil, program, "--foreground", "--no-caps", "--cfgfile", path, "--persist-file",
		b.path(name+".persist"),
		"--control", b.path(name+".ctl"), "--pidfile", b.path(name+".pid"))
}

// socketSender is a sender that reads the socket in.sock.
func (b *sandbox) socketSender(p *process, err error) (*sender, error) {
	if err != nil {
		return nil, err
	}
	w, err := b.dial(p, "in.sock")
	return &sender{process: p, input: w, arrive: b.awaitBytes, accept: func() error {
		return b.await(p, func() bool {
			n, err := unix.IoctlGetInt(int(w.Fd()), unix.SIOCOUTQ)
			return err == nil && n == 0
		})
	}}, err
}

// syslogNGCount asks syslog-ng's control socket for a counter.
func syslogNGCount(control, source, counter string) (int, error) {
	c, err := net.Dial("unix", control)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, "STATS"); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "."; {
		fields := strings.Split(lines.Text(), ";")
		if n := len(fields); strings.HasPrefix(lines.Text(), source) && fields[n-2] == counter {
			return strconv.Atoi(fields[n-1])
		}
	}
	return 0, fmt.Errorf("syslog-ng does not count %s of %s", counter, source)
}
