package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where systemd's journal listens.
const JournalSocket = "/run/systemd/journal/socket"

// For makes a handler of records from level up for what w is: where systemd has
// connected it to its journal (JOURNAL_STREAM, systemd.exec(5)), entries of that with their
// priorities; for a file, lines that begin with the time; else lines alone.
func For(w io.Writer, program string, level slog.Level) slog.Handler {
	f, ok := w.(*os.File)
	var st unix.Stat_t
	if !ok || unix.Fstat(int(f.Fd()), &st) != nil {
		return New(w, program, level, false)
	}
	if os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		if _, err := os.Stat(JournalSocket); err == nil {
			return NewJournal(JournalSocket, program, level)
		}
	}
	return New(w, program, level, st.Mode&unix.S_IFMT == unix.S_IFREG)
}

// Journal gives log records to systemd's journal, by its native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL), each as one entry with the text that a
// Handler writes. It waits a second for the journal, and no longer.
type Journal struct {
	mu      *sync.Mutex
	buf     *bytes.Buffer // of text
	text    slog.Handler
	program string
	socket  string
}

// NewJournal makes a handler of records from level up.
func NewJournal(socket, program string, level slog.Level) *Journal {
	buf := new(bytes.Buffer)
	return &Journal{
		mu: new(sync.Mutex), buf: buf, text: New(buf, program, level, false), program: program,
		socket: socket,
	}
}

// Enabled is slog.Handler's.
func (j *Journal) Enabled(ctx context.Context, l slog.Level) bool { return j.text.Enabled(ctx, l) }

// Handle is slog.Handler's.
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf.Reset()
	if err := j.text.Handle(ctx, r); err != nil {
		return err
	}
	message := bytes.TrimSuffix(j.buf.Bytes(), []byte("\n"))
	entry := fmt.Appendf(nil, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nMESSAGE\n", priority(r.Level), j.program)
	entry = binary.LittleEndian.AppendUint64(entry, uint64(len(message)))
	entry = append(append(entry, message...), '\n')
	conn, err := net.DialTimeout("unixgram", j.socket, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err = conn.Write(entry)
	return err
}

// priority is a level as syslog(3) has it.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// WithAttrs is slog.Handler's.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := *j
	other.text = j.text.WithAttrs(attrs)
	return &other
}

// WithGroup is slog.Handler's; groups are not distinguished.
func (j *Journal) WithGroup(string) slog.Handler { return j }
