package wsrelay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"wsrelay/internal/cli"
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
		if _, err := os.Stat(cli.JournalSocket); err == nil {
			return slog.New(cli.NewJournal(cli.JournalSocket, "wsrelay", c.level()))
		}
		name = ""
	}
	named := name != ""
	if name == "" && isNull(stderr) {
		name = filepath.Join(cmp.Or(c.QueueDir, queueDir("default")), "wsrelay.log")
	}
	var w io.Writer = stderr
	if name != "" {
		w = &logFile{dir: filepath.Dir(name), base: filepath.Base(name), named: named}
	}
	if isNull(stderr) {
		w = &systemLog{file: w, name: name, socket: "/dev/log"}
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: c.level()}))
	}
	if name != "" {
		return slog.New(cli.New(w, "wsrelay", c.level(), true))
	}
	return slog.New(cli.For(w, "wsrelay", c.level()))
}

func (c *config) level() (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.LogLevel)) // kong lets no other value through
	return l
}

func isNull(f *os.File) bool {
	var st, null unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && unix.Stat(os.DevNull, &null) == nil && st.Rdev == null.Rdev &&
		st.Mode == null.Mode
}

// logFile is a file that is created again after it was removed, or its
// directory. In the queue directory it is not written to where it is a link, or
// another user's directory: what is there could be anything.
type logFile struct {
	dir, base string
	named     bool // by the user: then it may be anything

	open *os.File           // the directory
	file *lumberjack.Logger // in it, whatever the path leads to by now
}

// errRemoved is no failure to write: the record that it comes with was written.
var errRemoved = errors.New("the log file was removed; it was created again")

// Write is called for one record after the other.
func (l *logFile) Write(b []byte) (int, error) {
	again, err := l.prepare()
	if err != nil {
		return 0, err
	}
	n, err := l.file.Write(b)
	if err == nil && again {
		err = errRemoved
	}
	return n, err
}

// prepare makes sure that there is a file to write to, and reports whether it is there
// again.
func (l *logFile) prepare() (again bool, err error) {
	if l.open != nil {
		var st unix.Stat_t
		if err := unix.Fstat(int(l.open.Fd()), &st); err != nil || st.Nlink == 0 {
			again = true
			_ = errors.Join(l.file.Close(), l.open.Close()) // nobody can read it any more
			l.open = nil
		}
	}
	if l.open == nil {
		if err := l.openDir(); err != nil {
			return again, err
		}
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(l.open.Fd()), l.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return again || l.started(), l.create()
	case err != nil:
		return again, err
	case !l.named && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1):
		return again, fmt.Errorf("%s/%s is not a file of its own: it is not written to", l.dir, l.base)
	}
	if !l.started() {
		return again, l.create()
	}
	return again, nil
}

func (l *logFile) started() bool { return l.file != nil }

func (l *logFile) openDir() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	d, err := os.OpenFile(l.dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || !l.named && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return errors.Join(fmt.Errorf("%s belongs to the user with id %d", l.dir, st.Uid), d.Close())
	}
	l.open, l.file = d, nil
	return nil
}

// create makes the file where there is none, and lumberjack open it: that
// appends only to a file that was there before, and several instances may have
// it for a moment.
func (l *logFile) create() error {
	flags := unix.O_CREAT | unix.O_APPEND | unix.O_WRONLY | unix.O_CLOEXEC
	if !l.named {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(int(l.open.Fd()), l.base, flags, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(l.dir, l.base), Err: err}
	}
	f := os.NewFile(uintptr(fd), l.base)
	_ = debug.SetCrashOutput(f, debug.CrashOptions{}) // what a panic says would go to /dev/null
	_ = f.Close()
	if l.file != nil {
		_ = l.file.Close() // of what was removed
	}
	at := fmt.Sprintf("/proc/self/fd/%d", l.open.Fd())
	if _, err := os.Stat(at); err != nil {
		at = l.dir
	}
	l.file = &lumberjack.Logger{Filename: filepath.Join(at, l.base), MaxSize: 1, MaxBackups: 1}
	return nil
}

// systemLog takes what the log file does not: where the queue directory cannot
// be used, nor the log in it, nobody would learn why. It also takes the record
// after the file was removed. It never waits for the
// system's log, which may be the syslog-ng that waits for us; and as that may
// return to us what we send it, which may cause one more record, it is used little:
// for a few records a minute.
type systemLog struct {
	file   io.Writer
	name   string // of the file; "": it is /dev/null
	socket string // of the system's log

	since   time.Time // the minute that is counted
	records int       // records in it
}

const perMinute = 6

// Write is called for one record after the other.
func (l *systemLog) Write(b []byte) (int, error) {
	n, err := l.file.Write(b)
	if err == nil && l.name != "" {
		return n, nil
	}
	if now := time.Now(); now.Sub(l.since) >= time.Minute {
		l.since, l.records = now, 0
	}
	if l.records++; l.records > perMinute {
		return n, err
	}
	conn, dialErr := net.DialTimeout("unixgram", l.socket, time.Second)
	if dialErr != nil {
		return n, err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	const daemonErr = 3<<3 | 3
	if err == nil {
		return fmt.Fprintf(conn, "<%d>wsrelay[%d]: %s", daemonErr, os.Getpid(), b)
	}
	return fmt.Fprintf(conn, "<%d>wsrelay[%d]: %s: %v\n%s", daemonErr, os.Getpid(), filepath.Base(l.name), err, b)
}
