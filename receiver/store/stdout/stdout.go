// Package stdout is a store that writes lines to a stream, at least once each.
package stdout

import (
	"bufio"
	"context"
	"io"
	"sync"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Store is a [receiver.Store] that writes lines to a stream, each with its newline. It
// cannot look back, so a line that comes again is written again, and a gap
// leaves no trace but the one in the receiver's log. What is final is what
// Write has taken.
type Store struct {
	mu sync.Mutex // guards w
	w  *bufio.Writer
	to io.Writer
}

var _ receiver.Store = (*Store)(nil)

// New returns a store that writes to w, which stays the caller's.
func New(w io.Writer) *Store {
	return &Store{w: bufio.NewWriterSize(w, 256<<10), to: w}
}

// Describe implements receiver.Store.
func (s *Store) Describe() (name, guarantee string) { return "stdout", handshake.AtLeastOnce }

// Close implements receiver.Store.
func (s *Store) Close() error { return nil }

// Begin implements receiver.Store: nothing is remembered.
func (s *Store) Begin(*handshake.Hello) {}

// Commit implements receiver.Store.
func (s *Store) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]receiver.Result, len(batches))
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
