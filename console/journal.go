package console

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// JournalSocket is where systemd's journal listens.
const JournalSocket = "/run/systemd/journal/socket"

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
	return &Journal{mu: new(sync.Mutex), buf: buf, text: New(buf, program, level, false), program: program, socket: socket}
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
	defer conn.Close() //nolint:errcheck // a datagram has gone by then, or not
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

// WithGroup is slog.Handler's; groups are not told apart.
func (j *Journal) WithGroup(string) slog.Handler { return j }
