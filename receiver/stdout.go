package receiver

import (
	"bufio"
	"context"
	"io"
	"sync"

	"wsrelay/handshake"
)

// Stdout is a Store that writes lines to a stream, each with its newline. It
// cannot look back, so a line that comes again is written again, and a gap
// leaves no trace but the one in the receiver's log. What is final is what
// Write has taken.
type Stdout struct {
	mu sync.Mutex // guards w
	w  *bufio.Writer
	to io.Writer
}

var _ Store = (*Stdout)(nil)

// NewStdout returns a store that writes to w, which stays the caller's.
func NewStdout(w io.Writer) *Stdout {
	return &Stdout{w: bufio.NewWriterSize(w, 256<<10), to: w}
}

// Describe implements Store.
func (s *Stdout) Describe() (name, guarantee string) { return "stdout", handshake.AtLeastOnce }

// Close implements Store.
func (s *Stdout) Close() error { return nil }

// Begin implements Store: nothing is remembered.
func (s *Stdout) Begin(*handshake.Hello) {}

// Commit implements Store.
func (s *Stdout) Commit(ctx context.Context, batches []Batch) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]Result, len(batches))
	for i, b := range batches {
		results[i].New = len(b.Lines)
		for _, line := range b.Lines {
			_, _ = s.w.Write(line) // Flush says what went wrong
			_ = s.w.WriteByte('\n')
		}
	}
	if err := s.w.Flush(); err != nil {
		s.w.Reset(s.to) // the batches come again, from their beginning
		return nil, err
	}
	return results, nil
}
