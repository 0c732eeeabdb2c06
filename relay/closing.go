package relay

import (
	"cmp"
	"errors"
	"time"

	"github.com/gorilla/websocket"
)

// How a session ends, and why.

// overdue is the end of the wait for a receipt.
func (s *session) overdue() *Fault {
	f := Transient("no receipt in time", hintServer+", and at its store; the link may be too slow", nil)
	f.shrink = true
	return f
}

// drainResult is how a session came out that was taking its last receipts.
func (s *session) drainResult() *Fault {
	switch {
	case s.peerErr != nil:
		f := closeFault(s.peerErr.Code, s.peerErr.Msg)
		f.floor = millis(s.peerErr.AfterMS)
		return f
	case s.peerBye != nil:
		f := Transient("the receiver ended the session: "+clean(s.peerBye.Why),
			"it should be back soon; if not, "+hintServer, nil)
		away := millis(s.peerBye.AfterMS)
		f.spread = &away
		return f
	case s.fault != nil:
		return s.fault
	case !s.win.empty():
		return s.overdue()
	}
	return nil
}

// ended is the reason why the reader came to an end.
func (s *session) ended(err error) *Fault {
	var ours *Fault
	var ce *websocket.CloseError
	switch {
	case errors.As(err, &ours):
		return ours
	case s.peerErr != nil, s.peerBye != nil:
		return s.drainResult()
	case errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure:
		return closeFault(ce.Code, ce.Text)
	}
	return lostFault(err)
}

// writeFault finds out why a write failed. The receiver may have said it in what
// is still to be read.
func (s *session) writeFault(err error) *Fault {
	if err == nil {
		return nil
	}
	t := time.NewTimer(s.r.pace.goodbye)
	defer t.Stop()
	for {
		select {
		case m := <-s.in:
			if f := s.handle(m); f != nil {
				return f
			}
		case <-t.C:
			return lostFault(err)
		}
	}
}

// close sends the close frame and waits a short time for the answer, so that what we
// wrote last is not lost to a reset. Then it closes the connection.
func (s *session) close(f *Fault) {
	cut := time.AfterFunc(s.r.pace.goodbye, func() { s.wire.Close() })
	defer cut.Stop()
	if s.r.sayGoodbye(s.conn, f) {
		s.await()
	}
	s.wire.Close()
	close(s.done)
}

// sayGoodbye sends the close frame after a session that ended with f. False: it could
// not, or the end is not ours to announce.
func (r *Relay) sayGoodbye(conn *websocket.Conn, f *Fault) bool {
	if f == nil {
		f = &Fault{}
	}
	words := websocket.FormatCloseMessage(cmp.Or(f.code, websocket.CloseNormalClosure), "")
	return !f.closed && conn.WriteControl(websocket.CloseMessage, words, time.Now().Add(r.pace.goodbye)) == nil
}

// await waits until the receiver has closed too.
func (s *session) await() {
	for {
		select {
		case m := <-s.in:
			if m.err != nil {
				return
			}
		case <-s.gone:
			return
		}
	}
}
