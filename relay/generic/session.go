package generic

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/relay"
)

// pingBytes is how much is sent at most between two pings that ask for an
// acknowledgement.
const pingBytes = 64 << 10

const hintServer = "look at the server's log"

// session is one connection. Its listener marks in the window what the server
// acknowledges, and sends to changed; everything else is one goroutine's.
type session struct {
	p *Plain
	l *relay.Link

	cut            cutter
	win            window
	pings          string // what the payload of our pings begins with
	k              uint64 // number of the last ping
	unpinged       int    // bytes sent since
	changed        chan struct{}
	refused        atomic.Bool
	otherSent      atomic.Int64 // messages sent that are no lines: as many may be answered
	unknownAnswers atomic.Int64 // messages that answer nothing

	ackTimeout, idle *time.Timer
}

func newSession(p *Plain, l *relay.Link) *session {
	ackTimeout := time.NewTimer(p.pace.receipt)
	ackTimeout.Stop()
	return &session{
		p: p, l: l, cut: cutter{uid: p.o.UID}, pings: "wsrelay " + rand.Text()[:8] + " ",
		changed: make(chan struct{}, 1), ackTimeout: ackTimeout, idle: time.NewTimer(l.IdleClose),
	}
}

// open begins the connection, and sees whether pings are answered if they are
// what counts.
func (s *session) open(ctx context.Context) *relay.Fault {
	limit := int64(0)
	if s.p.o.Ack == AckReceipt {
		limit = maxAnswer
	}
	s.l.Listen(limit, s.hear)
	words := strings.NewReplacer("{uid}", s.p.last, "{host}", s.l.Host)
	for _, text := range s.p.o.Open {
		s.otherSent.Add(1)
		if fault := s.l.Write(websocket.TextMessage, []byte(words.Replace(text))); fault != nil {
			return fault
		}
	}
	if s.p.o.Ack != AckPing {
		return nil
	}
	if fault := s.ping(); fault != nil {
		return fault
	}
	timeout := time.NewTimer(s.p.pace.probe)
	defer timeout.Stop()
	for !s.win.answered() {
		select {
		case <-ctx.Done():
			return nil
		case <-s.l.Gone():
			return s.l.Lost()
		case <-timeout.C:
			return relay.Permanent("the server does not answer pings, which acknowledge lines here",
				"use --plain-ack receipt, or none; "+hintServer, nil)
		case <-s.changed:
		}
	}
	return nil
}

// always is ready whenever a select asks.
var always = make(chan struct{})

func init() { close(always) }

// serve sends first and what the queue has, and takes acknowledgements, until something
// ends it.
func (s *session) serve(ctx context.Context, first *buffer.Block) (fault *relay.Fault) {
	beat := time.NewTicker(s.l.Ping)
	defer beat.Stop()
	for fault == nil {
		if fault = s.commit(); fault != nil {
			break
		}
		var now, more <-chan struct{}
		if s.cut.empty() {
			if more, fault = s.load(first); fault != nil {
				break
			}
			first = nil
		}
		if !s.cut.empty() && s.win.canSend() {
			now = always
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.l.Gone():
			return s.l.Lost()
		case <-more:
		case <-now:
			fault = s.send()
		case <-s.changed:
			fault = s.checkRefused()
		case <-beat.C:
			fault = s.beat()
		case <-s.ackTimeout.C:
			fault = s.overdue()
		case <-s.idle.C:
			if s.win.empty() && s.cut.empty() {
				return nil
			}
		}
	}
	return fault
}

// load takes the block b, or, without one, the queue's next. If there is none, the
// channel is closed when there may be one.
func (s *session) load(b *buffer.Block) (more <-chan struct{}, fault *relay.Fault) {
	var err error
	if b == nil {
		b, err = s.l.Queue.TryNext()
	}
	switch {
	case b != nil:
		err = s.cut.load(b, s.p.done)
	case err == nil:
		return s.l.Queue.Ready(), nil
	}
	if err != nil {
		return nil, relay.QueueFault(err)
	}
	return nil, nil
}

// send sends one line, and asks for its acknowledgement if it is time to.
func (s *session) send() *relay.Fault {
	m := s.cut.message()
	if s.win.empty() {
		s.ackTimeout.Reset(s.p.pace.receipt)
	}
	s.win.add(m) // before it leaves: the answer may be there before Write returns
	s.idle.Reset(s.l.IdleClose)
	s.l.Sent(m.of, m.gap, len(m.text))
	if fault := s.l.Write(m.kind, m.text); fault != nil {
		return fault
	}
	s.unpinged += len(m.text)
	if !s.cut.empty() && s.unpinged < pingBytes && s.win.canSend() {
		return nil
	}
	switch s.p.o.Ack {
	case AckPing:
		return s.ping()
	case AckNone:
		s.unpinged = 0
		s.win.passAll()
	}
	return nil
}

// ping sends a ping whose answer acknowledges all that was sent.
func (s *session) ping() *relay.Fault {
	s.k++
	s.unpinged = 0
	s.win.ping(s.k)
	return s.l.WritePing(s.pings + strconv.FormatUint(s.k, 10))
}

// beat keeps the connection alive: a ping, and the heartbeat that the server
// wants. The ping is one that asks, where pings do: a server may answer no ping
// but the latest (RFC 6455, 5.5.3).
func (s *session) beat() *relay.Fault {
	var fault *relay.Fault
	if s.p.o.Ack == AckPing {
		fault = s.ping()
	} else {
		fault = s.l.WritePing("")
	}
	if fault != nil || s.p.o.Heartbeat == "" {
		return fault
	}
	s.otherSent.Add(1)
	return s.l.Write(websocket.TextMessage, []byte(s.p.o.Heartbeat))
}

// commit moves the queue's cursor as far as everything was acknowledged.
func (s *session) commit() *relay.Fault {
	last, records := s.win.popDone()
	if records == 0 {
		return nil
	}
	s.p.done, s.p.last = last.of.End, last.uid
	s.idle.Reset(s.l.IdleClose)
	s.ackTimeout.Stop()
	if !s.win.empty() {
		s.ackTimeout.Reset(s.p.pace.receipt)
	}
	return s.l.Ack(buffer.Receipt{Seq: last.of.End, UID: last.uid}, records)
}

// overdue is the end of the wait for an acknowledgement.
func (s *session) overdue() *relay.Fault {
	var why error
	hint := hintServer
	if n := s.unknownAnswers.Load(); n > 0 {
		why = fmt.Errorf("%d messages came that acknowledge no line", n)
		hint += ", and at --plain-receipt: it must say where an answer has the UID"
	}
	return relay.Transient("no acknowledgement in time", hint, why)
}

// checkRefused ends the session if the listener has noted that a line was refused.
func (s *session) checkRefused() *relay.Fault {
	if s.refused.Load() {
		return relay.Transient("the server refuses a line: its answer is not what --plain-receipt-if asks for",
			hintServer+"; the line is sent again until it is taken", nil)
	}
	return nil
}

// hear is the listener: it never waits.
func (s *session) hear(kind int, msg []byte) {
	switch {
	case kind == websocket.PongMessage:
		number, ours := strings.CutPrefix(string(msg), s.pings)
		k, err := strconv.ParseUint(number, 10, 64)
		if !ours || err != nil || !s.win.pong(k) {
			return
		}
	case s.p.o.Ack != AckReceipt || !s.answered(msg):
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// answered takes a message for an answer, if it is one.
func (s *session) answered(msg []byte) bool {
	a, err := s.p.o.answer(msg)
	known := a.oldest && s.win.confirmNext()
	for _, uid := range a.uids {
		known = s.win.confirm(uid) || known
	}
	if a.refused {
		s.refused.Store(true)
		return true
	}
	if err == nil && !known {
		err = errUnknown
	}
	if err != nil && s.otherSent.Add(-1) < 0 {
		s.warnUnknown(err)
	}
	return known
}

// warnUnknown logs, occasionally, that an answer acknowledges nothing.
func (s *session) warnUnknown(err error) {
	s.unknownAnswers.Add(1)
	if time.Since(s.p.warned) < time.Minute {
		return
	}
	s.p.warned = time.Now()
	s.l.Log.Warn("the server sent a message that is not a receipt", "err", err,
		"effect", "nothing is lost: lines without a receipt stay in the queue and are sent again",
		"hint", "if receipts come as well, all is well; if not, see that --plain-receipt says where an answer has the UID")
}
