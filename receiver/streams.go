package receiver

import (
	"context"

	"wsrelay/handshake"
)

// stream is what the sessions of one sid share.
type stream struct {
	owner *session      // the newest; guarded by Receiver.mu
	users int           // sessions between claim and release; guarded by Receiver.mu
	turn  chan struct{} // held while a session may commit
}

// claim makes s the session of its sid. An older one is ended; s may commit
// when that one's committer has given its turn back.
func (r *Receiver) claim(s *session) *stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.streams[s.hello.SID]
	if st == nil {
		st = &stream{turn: make(chan struct{}, 1)}
		r.streams[s.hello.SID] = st
	}
	if st.owner != nil {
		st.owner.end(&ending{code: handshake.CloseSuperseded, msg: "a newer session of this stream has taken over"})
	}
	st.owner = s
	st.users++
	return st
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

// take waits until no other session of the stream commits.
func (st *stream) take(ctx context.Context) bool {
	select {
	case st.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (st *stream) give() { <-st.turn }
