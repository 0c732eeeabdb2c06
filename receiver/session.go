package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// session is the life of one WebSocket.
type session struct {
	r     *Receiver
	conn  *websocket.Conn
	log   *slog.Logger
	who   []identity       // who has proved to be the sender; complete after greet
	hello *handshake.Hello // set by greet, constant from then on
	party *party           // the same

	start     time.Time
	dialled   bool          // by us
	onWelcome func()        // called when the session is one; nil: nothing
	back      time.Duration // the sender's bye: it wants to see us again within it; the reader's

	// ctx is over when the session is; its cause is a *closeReason. commitCtx
	// outlives it: a peer that is gone does not stop a commit under way, or
	// a flapping line would stop all progress.
	ctx        context.Context
	cancel     context.CancelCauseFunc
	commitCtx  context.Context
	stopCommit context.CancelFunc

	out     chan handshake.Frame // to the writer
	bye     chan struct{}        // closed by drain
	queue   chan *item           // reader to committer; closed by the reader after the sender's bye
	order   sequence
	refused int // the reader's: batches answered with nak

	storeSince    atomic.Int64 // Unix ns since when the committer waits for the store; 0: it does not
	memorySince   atomic.Int64 // the same for the reader and memory
	daysSince     atomic.Int64 // the same for the reader and admitDay
	arrivingSince atomic.Int64 // Unix ns since when a message comes that has memory for what comes next; 0: none
	lines         atomic.Int64 // acknowledged

	identities atomic.Pointer[[]identity] // who, once that is complete
	drainOnce  sync.Once
	deadlineMu sync.Mutex // see alive
}

// item is a verified batch on its way to the store.
type item struct {
	Batch
	b     uint64 // its number on the wire
	epoch int    // of the sequence
	body  *body  // that holds its lines; nil for a gap
	held  share  // of the receiver's memory
}

// closeReason says why a session ends, and what the peer gets to know.
type closeReason struct {
	code  int           // close code; 0: the connection is lost, and none can be sent
	msg   string        // for the peer
	after time.Duration // the peer is to stay away so long
	log   string        // what only our log is to know
}

func (e *closeReason) Error() string { return e.msg }

var shuttingDown = &closeReason{code: websocket.CloseServiceRestart, msg: "the receiver is shutting down"}

// lingerFor is how long an ended session continues reading, so that its last
// words arrive: closing a socket with unread bytes resets it.
const lingerFor = time.Second

func newSession(r *Receiver, conn *websocket.Conn, who []identity) *session {
	s := &session{
		r:     r,
		conn:  conn,
		who:   who,
		start: time.Now(),
		log:   r.log.With("remote", conn.RemoteAddr().String()),
		out:   make(chan handshake.Frame, winBatches),
		bye:   make(chan struct{}),
		queue: make(chan *item, winBatches),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.commitCtx, s.stopCommit = context.WithCancel(context.Background())
	return s
}

// serve runs the session to its end and leaves no goroutine behind.
func (s *session) serve() {
	defer s.conn.Close()
	defer s.stopCommit()
	var stream *stream
	e := s.greet()
	if e == nil {
		stream, e = s.r.claim(s)
	}
	if e != nil {
		s.end(e)
		if s.hello != nil {
			s.r.fleet.rejected(s, s.why())
		}
		if !s.dialled { // else the Dialer says it
			s.r.refused(s.log, s.why())
		}
		s.writeClose()
		s.linger()
		return
	}
	s.r.fleet.connected(s)
	defer s.r.fleet.disconnected(s)
	if s.onWelcome != nil {
		s.onWelcome()
	}
	s.log.Info("connected", "acked", s.hello.Acked, "agent", s.hello.Agent, "proved", names(s.who))

	var writer, committer sync.WaitGroup
	writer.Go(s.writeFrames)
	committer.Go(func() {
		defer s.r.release(stream, s)
		s.commitBatches(stream)
	})
	s.end(s.readMessages())
	writer.Wait()
	s.linger()
	s.conn.Close() // before the committer is waited for: the store may take its time
	committer.Wait()
	s.dropQueued()
	s.log.Info("disconnected", "reason", s.why(), "lines", s.lines.Load(), "refused_batches", s.refused)
}

// end ends the session; the first call says why. Whatever ends it but a lost
// connection also stops a commit under way.
func (s *session) end(e *closeReason) {
	s.cancel(e)
	s.expire()
	if e.code != 0 {
		s.stopCommit()
	}
}

// why is the ending of a session that has ended.
func (s *session) why() (e *closeReason) {
	errors.As(context.Cause(s.ctx), &e) // cancel is called with nothing else
	return e
}

// drain tells the sender to stop; what it sent already is still taken.
func (s *session) drain() { s.drainOnce.Do(func() { close(s.bye) }) }

// alive gives the peer another 2.5 heartbeats to be heard of.
func (s *session) alive() {
	s.deadlineMu.Lock()
	defer s.deadlineMu.Unlock()
	if s.ctx.Err() == nil { // else expire has set, or is about to set, the last deadline
		_ = s.conn.SetReadDeadline(time.Now().Add(s.r.opts.Heartbeat * 5 / 2))
	}
}

// expire wakes a reader that waits for its peer.
func (s *session) expire() {
	s.deadlineMu.Lock()
	defer s.deadlineMu.Unlock()
	_ = s.conn.SetReadDeadline(time.Now().Add(lingerFor))
}

// linger reads until the peer has closed too, for at most lingerFor.
func (s *session) linger() {
	s.expire()
	if s.why().code == 0 {
		return
	}
	for {
		_, r, err := s.conn.NextReader()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if errors.Is(err, websocket.ErrReadLimit) { // gorilla reads no further, but the bytes are there
			_, _ = io.Copy(io.Discard, s.conn.NetConn())
		}
		if err != nil {
			return
		}
	}
}

// readError gives the reason for closing that an error of reading stands for.
func readError(err error) *closeReason {
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return &closeReason{msg: strings.TrimSpace(fmt.Sprintf("closed by the sender: %d %s", closed.Code,
			closed.Text))}
	case errors.Is(err, websocket.ErrReadLimit):
		return &closeReason{code: websocket.CloseMessageTooBig, msg: "message too big"}
	case isTimeout(err):
		return &closeReason{msg: "the sender has stopped answering"}
	}
	return &closeReason{msg: err.Error()}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
