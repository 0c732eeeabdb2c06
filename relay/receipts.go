package relay

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// What the receiver says, and what it makes the session do.

// handle handles one message of the receiver.
func (s *session) handle(m inbound) *Fault {
	switch f := m.frame.(type) {
	case nil:
		return s.ended(m.err)
	case *handshake.Ack:
		return s.acked(f, m.at)
	case *handshake.Nak:
		return s.refused(f)
	case *handshake.Busy:
		return s.stalled(f)
	case *handshake.Bye:
		s.peerBye = f
		s.sendNoMore()
	case *handshake.Err:
		s.peerErr = f
		s.sendNoMore()
	default:
		return protocolError(websocket.CloseProtocolError, fmt.Errorf("%T in a session", f))
	}
	return nil
}

// acked takes a receipt: the only way for records to leave the queue.
func (s *session) acked(a *handshake.Ack, at time.Time) *Fault {
	if err := s.genuine(a); err != nil {
		return protocolError(websocket.CloseProtocolError, err)
	}
	sent := s.win.sent
	n, err := s.win.ack(a.Seq)
	if err != nil {
		return protocolError(websocket.CloseProtocolError, err)
	}
	s.r.recompressor.acked(sent[:len(sent)-len(s.win.sent)], s.ready != nil, at)
	if a.Win != nil {
		s.win.limit = *a.Win
	}
	if n == 0 {
		return nil
	}
	r := buffer.Receipt{Seq: a.Seq, RT: a.RT}
	if a.UID != nil {
		r.UID = a.UID.Last
	}
	if err := s.r.q.Ack(a.Seq, r); err != nil {
		return QueueFault(err)
	}
	s.busy, s.busyAgain = time.Time{}, 0
	if a.Seq > s.r.suspect+1 {
		s.r.suspect = 0
	}
	s.receipt.Stop()
	if !s.win.empty() {
		s.receipt.Reset(s.ackTo)
	}
	s.idle.Reset(s.r.o.IdleClose)
	s.receipts++
	s.pack.grow()
	s.r.status.receipt(n, len(a.Rej)+a.RejMore)
	st := s.r.q.Stats()
	s.r.report.acknowledged(s.url, st.Head-st.Cursor)
	s.log.Debug("receipt", "seq", a.Seq, "new", a.New, "dup", a.Dup, "took", millis(a.Took))
	s.logRejected(a)
	return nil
}

// genuine checks what will be kept of a receipt, and shown to a receiver
// again: the id must be one of this stream.
func (s *session) genuine(a *handshake.Ack) error {
	const gapIDLen = handshake.UIDLen + 1 + len("9007199254740991")
	switch {
	case len(a.RT) > 128:
		return errors.New("a receipt with an overlong rt")
	case a.UID != nil && a.UID.Last != "" && (len(a.UID.Last) > gapIDLen || !strings.HasPrefix(a.UID.Last, s.sid)):
		return fmt.Errorf("a receipt with uid %q in stream %s", clean(a.UID.Last), s.sid)
	}
	return nil
}

func (s *session) logRejected(a *handshake.Ack) {
	if len(a.Rej) == 0 {
		return
	}
	suppressed, ok := s.rejects.allow(time.Now())
	if !ok {
		return
	}
	first := a.Rej[0]
	s.log.Warn("the store rejected lines", "lines", len(a.Rej)+a.RejMore, "first_seq", first.Seq,
		"status", first.Status, "err", clean(first.Error), "suppressed", suppressed,
		"effect", "they are kept in the dead-letter index, with the reason",
		"hint", "fix the index's mapping, or the lines, and index them again from there")
}

// stalled handles a receiver that lives while its store keeps it waiting. If that
// lasts too long, the relay goes to the next URL, if there is one.
func (s *session) stalled(b *handshake.Busy) *Fault {
	if s.win.empty() { // we are not waiting
		return nil
	}
	s.receipt.Reset(s.ackTo)
	const hint = "look at the receiver's store"
	s.r.status.stalled("the receiver is busy: "+clean(b.Why), hint)
	switch busy := time.Since(s.busy); {
	case s.busy.IsZero():
		s.busy = time.Now()
	case busy > s.r.pace.busy && len(s.r.o.URLs) > 1:
		return Transient("the receiver has been busy for too long", hint,
			fmt.Errorf("for %v", busy.Round(time.Second)))
	case b.Why == s.busyLogged || busy < s.busyAgain:
		return nil
	default: // less and less often: the receiver may be anybody
		s.busyAgain = 2 * (busy + time.Second)
	}
	s.busyLogged = b.Why
	s.log.Warn("the receiver is busy", "why", clean(b.Why), "since", millis(b.MS), "effect", effectWait, "hint", hint)
	return nil
}

// refused goes back to where the receiver stopped reading.
func (s *session) refused(n *handshake.Nak) *Fault {
	switch {
	case n.Expect > s.win.next:
		return protocolError(websocket.CloseProtocolError, fmt.Errorf("a nak that expects %d, where %d was sent last",
			n.Expect, s.win.next))
	case n.Expect < s.win.base:
		return Permanent("the receiver asks again for lines that it has acknowledged",
			"it may have lost data: look at the receiver's store",
			fmt.Errorf("expects %d, receipts up to %d", n.Expect, s.win.base))
	case n.Code == handshake.NakDiverged:
		return s.diverged(n.Expect)
	}
	if s.naks.seq != n.Expect {
		s.naks = refusals{seq: n.Expect}
	}
	s.naks.n++
	if f := s.adapt(n); f != nil {
		return f
	}
	s.log.Warn("the receiver refused a batch", "code", n.Code, "seq", n.Expect, "times", s.naks.n,
		"effect", "the batch is sent again", "hint", hintServer)
	return s.goBack(n.Expect)
}

// diverged gives the lines from seq on a new stream, and ends the session: one
// carries one stream. The next begins after a pause, should a receiver say so
// again and again.
func (s *session) diverged(seq uint64) *Fault {
	if seq == s.win.next {
		return protocolError(websocket.CloseProtocolError, fmt.Errorf("a nak that finds another line at %d, which was not sent", seq))
	}
	if err := s.r.q.Diverge(seq); err != nil {
		return QueueFault(err)
	}
	return &Fault{
		What:   "the store holds other lines under our numbers",
		Err:    fmt.Errorf("from seq %d of stream %s on", seq, s.sid),
		Effect: "nothing is lost: what the store has stays there, and these lines go under a new stream",
		Hint:   "this queue, or a copy of it, was restored from an older state; see that no other wsrelay uses a copy",
	}
}

// goBack makes the session continue at seq.
func (s *session) goBack(seq uint64) *Fault {
	if err := s.r.q.Rewind(seq); err != nil {
		return QueueFault(err)
	}
	s.ready = nil
	s.pack.reset(seq)
	s.win.rewind(seq)
	if s.win.empty() {
		s.receipt.Stop()
	}
	return nil
}
