package journal

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Stream is what the journal knows of one stream of lines.
type Stream struct {
	SID    string    `json:"sid"`
	Host   string    `json:"host,omitempty"`
	Owner  string    `json:"owner,omitempty"`  // see receiver.Owners
	Seen   time.Time `json:"seen"`             // the last commit
	Lines  Spans     `json:"lines,omitempty"`  // committed
	Gaps   Spans     `json:"gaps,omitempty"`   // numbers that a committed gap covers
	Lacks  Spans     `json:"lacks,omitempty"`  // of Lines: the database lacked them after it was restored
	Forgot uint64    `json:"forgot,omitempty"` // lines below may be committed without being in Lines
}

// maxSpans is how many spans of a stream are remembered. Below the lowest of
// them the database is asked whether it has a line.
const maxSpans = 1 << 14

func (s *Stream) empty() bool {
	return s.Owner == "" && len(s.Lines) == 0 && len(s.Gaps) == 0 && len(s.Lacks) == 0 && s.Forgot == 0
}

func (s *Stream) addLines(from, to uint64) {
	s.Lines.add(from, to)
	s.Lacks.remove(from, to)
	for len(s.Lines) > maxSpans {
		s.Forgot = max(s.Forgot, s.Lines[0][1])
		s.Lines = s.Lines[1:]
	}
}

func (s *Stream) addGap(from, to uint64) {
	s.Gaps.add(from, to)
	if len(s.Gaps) > maxSpans {
		s.Gaps = s.Gaps[1:] // should it come again, it is stored again: nothing is lost
	}
}

// stream is a Stream in use. The holder of turn reads it; it changes while turn
// and Journal.mu are both held, so that holders of either see it whole.
type stream struct {
	Stream
	number uint32 // of this stream in recent
	users  int    // guarded by Journal.mu

	turn sync.Mutex // held by the one Commit or SetOwner that is under way

	// fork is where a sender that was restored from an older copy uses numbers
	// again that are committed. Guarded by turn.
	fork uint64
}

const noFork = math.MaxUint64

// acquire gives the stream of a sid, for the caller alone.
func (j *Journal) acquire(sid string) *stream {
	j.mu.Lock()
	st := j.streamLocked(sid)
	st.users++
	j.mu.Unlock()
	st.turn.Lock()
	return st
}

// release forgets a stream of which nothing was committed.
func (j *Journal) release(st *stream) {
	st.turn.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if st.users--; st.users == 0 && st.empty() {
		delete(j.streams, st.SID)
	}
}

func (j *Journal) streamLocked(sid string) *stream {
	st := j.streams[sid]
	if st == nil {
		j.lastStream++
		st = &stream{Stream: Stream{SID: sid}, number: j.lastStream, fork: noFork}
		j.streams[sid] = st
	}
	return st
}

// Begin implements receiver.Store. The sender has given no number from head on, so
// what is committed there is another's line. If it has receipts for numbers that
// the journal does not know, the store was restored, emptied or exchanged. Of a
// stream that is new here that is only sure if the store was new, too: the stream
// may have begun in the middle of its queue, as after a restore of that.
func (j *Journal) Begin(hello *handshake.Hello) {
	st := j.acquire(hello.SID)
	st.fork = noFork
	if hello.Head < st.Lines.End() {
		st.fork = hello.Head
	}
	first := max(st.Lines.End(), st.Gaps.End(), 1)
	known := first > 1 || hello.Proof != nil && strings.HasPrefix(hello.Proof.UID, hello.SID)
	j.mu.Lock()
	lacks := hello.Acked > first && (known || j.wasEmpty && !j.hasHostLocked(hello.Host))
	if lacks {
		st.Host = hello.Host
		st.Lacks.add(first, hello.Acked)
	}
	j.mu.Unlock()
	j.release(st)
	if lacks {
		receiver.LogLacks(j.log, hello, first)
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		j.nameLacks(ctx)
	}
}

// hasHostLocked reports whether a stream of this host has lines. The caller holds mu.
func (j *Journal) hasHostLocked(host string) bool {
	for _, st := range j.streams {
		if st.Host == host && len(st.Lines) > 0 {
			return true
		}
	}
	return false
}
