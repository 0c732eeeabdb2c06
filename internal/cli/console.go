// Package cli is how both programs speak to an operator: what happened,
// what it means for the logs, what to do.
//
//	wsrelay: warn: disconnected err="connection refused" attempts=1
//	wsrelay: effect: nothing is lost: lines wait in the queue on disk
//	wsrelay: hint: check that the receiver runs
//
// The second and third line are the attributes "effect" and "hint" of a log
// record, or the fields of a [Error].
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Attributes of a log record that become lines of their own.
const (
	Effect = "effect"
	Hint   = "hint"
)

// Error is an error that ends a program, for an operator.
type Error struct {
	Err    error
	Effect string // what it means for the lines
	Hint   string // what to do
	Code   int    // exit status
}

func (c *Error) Error() string { return c.Err.Error() }
func (c *Error) Unwrap() error { return c.Err }

// Exit is an exit status whose reason the user has seen already.
type Exit int

func (e Exit) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// Report logs err and gives the exit status for it: an Error's own, else 1.
// Of an Exit it logs nothing.
func Report(log *slog.Logger, err error) int {
	if e, ok := errors.AsType[Exit](err); ok {
		return int(e)
	}
	var c *Error
	if !errors.As(err, &c) {
		log.Error(err.Error()) //nolint:sloglint // what an operator reads is the message
		return 1
	}
	log.Error(c.Error(), Effect, c.Effect, Hint, c.Hint) //nolint:sloglint // as above
	return c.Code
}

// Handler writes log records as lines for a human to read, each behind the
// program's name.
type Handler struct {
	mu      *sync.Mutex
	w       io.Writer
	program string
	level   slog.Level
	stamped bool
	attrs   []slog.Attr
}

// New makes a handler of records from level up. Stamped lines begin with the
// time, for a file; without, they are for a terminal or for a parent that stamps what
// the program prints.
func New(w io.Writer, program string, level slog.Level, stamped bool) *Handler {
	return &Handler{mu: new(sync.Mutex), w: w, program: program, level: level, stamped: stamped}
}

// Enabled is slog.Handler's.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle is slog.Handler's.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var line, effect, hint strings.Builder
	begin := func(b *strings.Builder, kind string) {
		if h.stamped {
			b.WriteString(r.Time.Format("2006-01-02T15:04:05.000Z07:00 "))
		}
		b.WriteString(h.program + ": " + kind + ": ")
	}
	begin(&line, strings.ToLower(r.Level.String()))
	line.WriteString(Printable(r.Message))
	add := func(a slog.Attr) bool {
		text := Printable(a.Value.Resolve().String())
		switch {
		case a.Equal(slog.Attr{}) || text == "" && (a.Key == Effect || a.Key == Hint):
		case a.Key == Effect:
			begin(&effect, "effect")
			effect.WriteString(text + "\n")
		case a.Key == Hint:
			begin(&hint, "hint")
			hint.WriteString(text + "\n")
		default:
			line.WriteString(" " + a.Key + "=" + quoted(text))
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, line.String()+"\n"+effect.String()+hint.String())
	return err
}

// WithAttrs is slog.Handler's.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := *h
	other.attrs = slices.Concat(h.attrs, attrs)
	return &other
}

// WithGroup is slog.Handler's; groups are not distinguished.
func (h *Handler) WithGroup(string) slog.Handler { return h }

func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=") {
		return strconv.Quote(s)
	}
	return s
}
