package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"wsrelay/console"
)

// toJournal is the --log-file that is none.
const toJournal = "journal"

// logger logs to --log-file, or to stderr; where that is /dev/null, as for
// every program that syslog-ng starts, to a file in the queue directory. A file
// is bounded: 1 MiB, and one older one. The journal, where there is none, is
// such a file.
func (c *config) logger(stderr *os.File) *slog.Logger {
	name := c.LogFile
	if name == toJournal {
		if _, err := os.Stat(console.JournalSocket); err == nil {
			return slog.New(console.NewJournal(console.JournalSocket, "wsrelay", c.level()))
		}
		name = ""
	}
	if name == "" && isNull(stderr) {
		name = filepath.Join(cmp.Or(c.QueueDir, queueDir("default")), "wsrelay.log")
	}
	var w io.Writer = stderr
	if name != "" {
		// Several instances may have it for a moment: lumberjack appends to a file
		// only if it was there before.
		_ = os.MkdirAll(filepath.Dir(name), 0o700)
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_ = debug.SetCrashOutput(f, debug.CrashOptions{}) // what a panic says would go to /dev/null
			_ = f.Close()
		}
		w = &lumberjack.Logger{Filename: name, MaxSize: 1, MaxBackups: 1}
	}
	if isNull(stderr) {
		w = &systemLog{file: w, name: name, socket: "/dev/log"}
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: c.level()}))
	}
	return slog.New(console.New(w, "wsrelay", c.level(), name != ""))
}

func (c *config) level() (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.LogLevel)) // kong lets no other value through
	return l
}

func isNull(f *os.File) bool {
	var st, null unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && unix.Stat(os.DevNull, &null) == nil && st.Rdev == null.Rdev && st.Mode == null.Mode
}

// systemLog takes what the log file does not: where the queue directory cannot
// be used, nor the log in it, nobody would learn why. It never waits for the
// system's log, which may be the syslog-ng that waits for us; and as that may
// hand us what we tell it, which may be one more thing to tell, it says little:
// a few records a minute.
type systemLog struct {
	file   io.Writer
	name   string // of the file; "": it is /dev/null
	socket string // of the system's log

	since time.Time // the minute that is counted
	said  int       // records in it
}

const perMinute = 6

// Write is called for one record after the other.
func (l *systemLog) Write(b []byte) (int, error) {
	n, err := l.file.Write(b)
	if err == nil && l.name != "" {
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
	if err == nil {
		return fmt.Fprintf(conn, "<%d>wsrelay[%d]: %s", daemonErr, os.Getpid(), b)
	}
	return fmt.Fprintf(conn, "<%d>wsrelay[%d]: %s: %v\n%s", daemonErr, os.Getpid(), filepath.Base(l.name), err, b)
}
