package receiver

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// send hands a frame to the writer.
func (s *session) send(f handshake.Frame) {
	select {
	case s.out <- f:
	case <-s.ctx.Done():
	}
}

// writeFrames is the session's only writer of messages after welcome. It ends
// with the session, with its last words.
func (s *session) writeFrames() {
	ping := time.NewTicker(s.r.opts.Heartbeat)
	defer ping.Stop()
	watch := time.NewTicker(max(s.r.opts.AckTimeout/6, time.Millisecond))
	defer watch.Stop()
	bye := s.bye
	for {
		var err error
		select {
		case f := <-s.out:
			err = s.writeMessage(f)
		case <-bye:
			bye = nil
			err = s.writeMessage(&handshake.Bye{Why: "shutdown", AfterMS: s.r.opts.DrainTimeout.Milliseconds()})
		case <-ping.C:
			err = s.conn.WriteControl(websocket.PingMessage, nil, s.writeDeadline())
		case <-watch.C:
			err = s.reportWaiting()
		case <-s.ctx.Done():
			s.writeClose()
			return
		}
		if err != nil {
			s.end(&closeReason{msg: err.Error()})
			return
		}
	}
}

// reportWaiting keeps the sender patient while the store, or the budget, keeps
// the session waiting. It ends the session if the store has not answered for
// Options.StoreTimeout, and other sessions if their incomplete messages hold the memory
// that this one waits for. It is the writer's task: the committer may hang in the store.
func (s *session) reportWaiting() error {
	why, since := "store", s.storeSince.Load()
	memory := s.memorySince.Load()
	if since == 0 {
		why, since = "quota", cmp.Or(memory, s.daysSince.Load())
	}
	if since == 0 {
		return nil
	}
	waited := time.Since(time.Unix(0, since))
	if why == "store" && waited >= s.r.opts.StoreTimeout {
		s.r.health.failed(s.hello.SID, s.hello.Host, fmt.Errorf("no answer for %v", s.r.opts.StoreTimeout))
		s.end(&closeReason{code: handshake.CloseStoreDown, msg: fmt.Sprintf("the store has not answered for %v",
			s.r.opts.StoreTimeout)})
		return nil
	}
	if waited < s.r.opts.AckTimeout/6 {
		return nil
	}
	if memory != 0 && time.Since(time.Unix(0, memory)) >= s.r.opts.AckTimeout {
		s.r.endSlow()
	}
	if _, err := s.r.health.blocked(s.hello.SID); err != nil && why == "store" {
		why = "the store works, but not for this stream"
		if id := documentOf(err); id != "" {
			why = "the store refuses document " + id
		}
	}
	return s.writeMessage(&handshake.Busy{MS: waited.Milliseconds(), Why: why})
}

// writeClose says what is left to say: receipts that are ready, then why the
// session ends. Nobody may write beside it.
func (s *session) writeClose() {
	e := s.why()
	if e.code == 0 {
		return
	}
	for {
		select {
		case f := <-s.out:
			if s.writeMessage(f) != nil {
				return
			}
			continue
		default:
		}
		break
	}
	if e.code >= 4000 {
		retry := e.code == handshake.CloseStoreDown || e.code == handshake.CloseHandshakeTimeout
		if s.writeMessage(&handshake.Err{
			Code: e.code, Msg: e.msg, Retry: retry,
			AfterMS: e.after.Milliseconds(),
		}) != nil {
			return
		}
	}
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.code, clip(e.msg)),
		s.writeDeadline())
}

// clip keeps a close reason within the 123 bytes that RFC 6455 (5.5) leaves it.
func clip(msg string) string { return strings.ToValidUTF8(msg[:min(len(msg), 123)], "") }

func (s *session) writeMessage(f handshake.Frame) error { return s.writeText(handshake.Encode(f)) }

func (s *session) writeText(msg []byte) error {
	if err := s.conn.SetWriteDeadline(s.writeDeadline()); err != nil {
		return err
	}
	return s.conn.WriteMessage(websocket.TextMessage, msg)
}

func (s *session) writeDeadline() time.Time { return time.Now().Add(s.r.opts.WriteTimeout) }
