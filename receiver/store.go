package receiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"wsrelay/handshake"
)

// Store makes records final. Commit may be called concurrently by several
// sessions, each for a stream of its own.
type Store interface {
	// Commit makes every record of the batches final and returns only when
	// the store has said so. The batches are of one stream, in ascending
	// order. Results stand in the order of the batches. Commit is idempotent
	// by UID: a record that is there already counts as Dup. If some record
	// that is there differs, it returns a *DivergedError and has stored
	// nothing of the batches; neither has it after a *RefusedError. After any other
	// error the outcome is unknown, and the caller tries again. Once Commit has
	// returned, the caller uses the memory of the lines again.
	Commit(ctx context.Context, batches []Batch) ([]Result, error)

	// Describe gives the store's name for welcome and its guarantee:
	// handshake.ExactlyOnce or handshake.AtLeastOnce.
	Describe() (name, guarantee string)

	// Begin tells the store what the sender of a stream says of it when a session
	// begins to commit: what the store remembers may be another session's, long ago.
	Begin(hello *handshake.Hello)

	Close() error
}

// ErrInUse is returned when a store is opened that another process has open.
var ErrInUse = errors.New("another process has this store open")

// Owners is a Store that remembers durably, for each stream, the name of the
// sender that began it. Several receivers may share the memory. Its methods may
// be called concurrently.
type Owners interface {
	// Owner gives the name, which is empty for a stream that has none.
	Owner(ctx context.Context, sid string) (string, error)

	// SetOwner makes to the name if it is from, and gives the name that the
	// stream then has.
	SetOwner(ctx context.Context, sid, from, to string) (owner string, err error)

	// EachOwner calls f with each stream that has a name, until f returns false.
	EachOwner(ctx context.Context, f func(sid, owner string) bool) error
}

// Batch is what one data message, or one gap, brings to the store.
type Batch struct {
	SID   string
	Host  string         // who sends: hello.host
	Seq   uint64         // of the first record
	At    time.Time      // when the lines entered the sender's queue, UTC
	Lines [][]byte       // without their newlines; nil for a gap
	Gap   *handshake.Gap // nil for lines

	text []byte // Lines, and maybe more, each with its newline, as they lie in memory; nil: they do not
}

// End is the number after the batch's last record.
func (b *Batch) End() uint64 {
	if b.Gap != nil {
		return b.Gap.Seq + b.Gap.N
	}
	return b.Seq + uint64(len(b.Lines))
}

// Text is the lines from one index up to another, each with its newline.
func (b *Batch) Text(from, to int) []byte {
	if b.text == nil {
		return append(bytes.Join(b.Lines[from:to], newline), '\n')
	}
	first := 0
	for _, line := range b.Lines[:from] {
		first += len(line) + 1
	}
	last := first
	for _, line := range b.Lines[from:to] {
		last += len(line) + 1
	}
	return b.text[first:last]
}

// Result is what became of one batch.
type Result struct {
	New      int                  // documents stored now
	Dup      int                  // documents that were there already
	Rejected []handshake.Rejected // in the dead-letter index, with the reason
	Index    string               // where they are, if the store has indices
}

// DivergedError says that the store holds another line under the UID of Seq,
// the first such of the batches.
type DivergedError struct {
	SID string
	Seq uint64
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("stream %s: the store holds another line under seq %d", e.SID, e.Seq)
}

// RefusedError says that the store cannot take what these batches bring, now or
// later, and that nothing is wrong with the store. The session ends.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// DocumentError says that the store does not take one document now, whatever it
// does with others'. It is there to name the document.
type DocumentError struct {
	ID  string // the UID, or GapID
	Err error  // which says so, too
}

func (e *DocumentError) Error() string { return e.Err.Error() }

func (e *DocumentError) Unwrap() error { return e.Err }
