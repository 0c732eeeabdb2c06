package receiver

import (
	"context"
	"slices"
	"time"

	"wsrelay/handshake"
)

// stream is what the sessions of one sid share.
type stream struct {
	owner *session      // the newest; guarded by Receiver.mu
	users int           // sessions between claim and release; guarded by Receiver.mu
	turn  chan struct{} // held while a session may commit

	takeovers []time.Time // by another process, while the owner was there; guarded by Receiver.mu
}

// A queue that was copied, and runs twice, makes two senders take their stream
// from each other for ever. After the third time the one that has it keeps it
// until the takeovers are older than contestTime, so that it gets on, and then
// the other. A sender that lives again after a crash is not held up longer than
// its dead connection is there.
const (
	contestTimes = 3
	contestTime  = 10 * time.Minute
	contestRetry = time.Minute // how soon the other may ask again
)

// contested says that another process may not take the stream now.
func (st *stream) contested(boot string, now time.Time) bool {
	if st.owner == nil || st.owner.hello.Boot == boot {
		return false
	}
	st.takeovers = slices.DeleteFunc(st.takeovers, func(at time.Time) bool { return now.Sub(at) >= contestTime })
	if len(st.takeovers) >= contestTimes {
		return true
	}
	st.takeovers = append(st.takeovers, now)
	return false
}

// claim makes s the session of its sid. An older one is ended; s may commit
// when that one's committer has given its turn back.
func (r *Receiver) claim(s *session) (*stream, *closeReason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.streams[s.hello.SID]
	if st == nil {
		st = &stream{turn: make(chan struct{}, 1)}
		r.streams[s.hello.SID] = st
	}
	if st.contested(s.hello.Boot, time.Now()) {
		s.log.Error("two senders have one stream", "other_host", st.owner.hello.Host,
			"other_remote", st.owner.conn.RemoteAddr().String(),
			"effect", "nothing is lost: they take turns of ten minutes; lines of both that have one number are distinguished by the store",
			"hint", "a copy of the queue is in use: find it and end one of the two")
		return nil, &closeReason{
			code: handshake.CloseSuperseded,
			msg:  "another sender has this stream: a copy of the queue is in use", after: contestRetry,
		}
	}
	if st.owner != nil {
		st.owner.end(&closeReason{
			code: handshake.CloseSuperseded,
			msg:  "a newer session of this stream has taken over",
		})
	}
	st.owner = s
	st.users++
	return st, nil
}

// release forgets s, and its stream with the last session of it.
func (r *Receiver) release(st *stream, s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.owner == s {
		st.owner = nil
	}
	if st.users--; st.users == 0 {
		delete(r.streams, s.hello.SID)
	}
}

// acquire waits until no other session of the stream commits.
func (st *stream) acquire(ctx context.Context) bool {
	select {
	case st.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (st *stream) releaseTurn() { <-st.turn }
