package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// systemLog takes what the log file does not: where the queue directory cannot
// be used, nor the log in it, nobody would learn why. It never waits for the
// system's log, which may be the syslog-ng that waits for us; and as that may
// hand us what we tell it, which may be one more thing to tell, it says little:
// a few records a minute.
type systemLog struct {
	file   io.Writer
	name   string // of the file
	socket string // of the system's log

	since time.Time // the minute that is counted
	said  int       // records in it
}

const perMinute = 6

// Write is called for one record after the other.
func (l *systemLog) Write(b []byte) (int, error) {
	n, err := l.file.Write(b)
	if err == nil {
		return n, nil
	}
	if now := time.Now(); now.Sub(l.since) >= time.Minute {
		l.since, l.said = now, 0
	}
	if l.said++; l.said > perMinute {
		return n, err
	}
	conn, dialErr := net.DialTimeout("unixgram", l.socket, time.Second)
	if dialErr != nil {
		return n, err
	}
	defer conn.Close() //nolint:errcheck // a datagram has gone by then, or not
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	const daemonErr = 3<<3 | 3
	return fmt.Fprintf(conn, "<%d>wsrelay[%d]: %s: %v\n%s", daemonErr, os.Getpid(), filepath.Base(l.name), err, b)
}
