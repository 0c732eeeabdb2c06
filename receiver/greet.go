package receiver

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
	"wsrelay/internal/connlimit"
)

// maxHost is the longest DNS name (RFC 1035, 2.3.4).
const maxHost = 255

// greet takes hello, has the sender prove who it is, and answers welcome.
func (s *session) greet() *closeReason {
	s.conn.SetReadLimit(handshake.MaxHello)
	transcript := &handshake.Transcript{}
	frame, e := s.listen(&transcript.Hello)
	if e != nil {
		return e
	}
	hello, e := asHello(frame)
	if e != nil {
		return e
	}
	s.hello = hello
	s.log = s.log.With("host", hello.Host, "sid", hello.SID)
	s.order.expect = hello.Acked
	welcome := s.welcome()
	access := s.r.access.Load()
	if welcome.MAC, e = s.authenticate(access, transcript); e != nil {
		return e
	}
	if e := s.r.addSession(s); e != nil {
		return e
	}
	if e := s.authorizeStream(access); e != nil {
		return e
	}
	s.identities.Store(&s.who)
	s.recheck(s.r.access.Load()) // what the upgrade proved, or hello, may have been withdrawn since
	if s.ctx.Err() != nil {
		return s.why()
	}
	connlimit.Admit(s.conn.NetConn())
	s.conn.SetReadLimit(maxMessage)
	if err := s.writeMessage(welcome); err != nil {
		return &closeReason{msg: err.Error()}
	}
	return nil
}

// listen reads the next message of the handshake and keeps it in raw.
func (s *session) listen(raw *[]byte) (handshake.Frame, *closeReason) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.r.opts.HandshakeTimeout))
	if s.ctx.Err() != nil { // ended before the deadline above was set
		return nil, shuttingDown
	}
	kind, body, err := s.conn.ReadMessage()
	switch {
	case isTimeout(err):
		return nil, &closeReason{
			code: handshake.CloseHandshakeTimeout,
			msg:  fmt.Sprintf("no answer within %v", s.r.opts.HandshakeTimeout),
		}
	case err != nil:
		return nil, readError(err)
	case kind != websocket.TextMessage:
		return nil, &closeReason{code: handshake.CloseBadFrame, msg: "data in the handshake"}
	}
	frame, err := handshake.Decode(body)
	if err != nil {
		return nil, badFrame(err)
	}
	*raw = body
	return frame, nil
}

func asHello(frame handshake.Frame) (*handshake.Hello, *closeReason) {
	hello, ok := frame.(*handshake.Hello)
	switch {
	case !ok:
		return nil, &closeReason{code: handshake.CloseBadFrame, msg: "the first frame is not hello"}
	case hello.V != handshake.Version:
		return nil, &closeReason{
			code: handshake.CloseVersion,
			msg:  fmt.Sprintf("version %d, this receiver speaks %d", hello.V, handshake.Version),
		}
	case len(hello.Host) > maxHost:
		return nil, &closeReason{
			code: handshake.CloseBadFrame,
			msg:  fmt.Sprintf("a host name of %d bytes", len(hello.Host)),
		}
	}
	return hello, nil
}

// authenticate asks for a proof of the key that hello names, if it names one,
// and gives ours. It fails when nothing proves who the sender is, or when that
// one may not send this.
func (s *session) authenticate(a *Access, transcript *handshake.Transcript) (mac string, e *closeReason) {
	if s.hello.KID != "" && len(a.Keys) > 0 {
		key, e := s.challenge(a, transcript)
		if e != nil {
			return "", e
		}
		mac = transcript.ReceiverMAC(key.Value)
		s.who = append(s.who, identity{byKey, key})
	}
	if a.requiresProofOf(s) && len(s.who) == 0 {
		return "", &closeReason{
			code: handshake.CloseUnauthenticated,
			msg:  "this receiver wants a key, and hello names none", log: "no key, token or certificate",
		}
	}
	for _, w := range s.who {
		if !w.Allows(s.hello.Host, s.hello.SID) {
			return "", &closeReason{
				code: handshake.CloseForbidden, msg: fmt.Sprintf("the %s is for other hosts or streams", w.kind),
				log: fmt.Sprintf("%s %q is not for this host or stream", w.kind, w.Name),
			}
		}
	}
	return mac, nil
}

// challenge gives the key that the sender has proved to hold. A sender without
// one is not told whether the name or the proof was wrong.
func (s *session) challenge(a *Access, transcript *handshake.Transcript) (*handshake.Secret, *closeReason) {
	unproved := func(why string) *closeReason {
		return &closeReason{code: handshake.CloseUnauthenticated, msg: "unknown key, or it does not match", log: why}
	}
	if !slices.Contains(s.hello.Mech, handshake.MechHMAC) || !handshake.ValidNonce(s.hello.Nonce) {
		return nil, unproved("hello with a kid, but without mechanism or nonce")
	}
	chal := &handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: handshake.CBNone}
	if t, ok := s.conn.NetConn().(*tls.Conn); ok && !a.Unbound {
		var err error
		if transcript.Binding, err = handshake.TLSBinding(t.ConnectionState()); err != nil {
			return nil, unproved("no channel binding: " + err.Error())
		}
		chal.CB = handshake.CBExporter
	}
	transcript.Chal = handshake.Encode(chal)
	if err := s.writeText(transcript.Chal); err != nil {
		return nil, &closeReason{msg: err.Error()}
	}
	frame, e := s.listen(&transcript.Auth)
	if e != nil {
		return nil, e
	}
	auth, ok := frame.(*handshake.Auth)
	if !ok {
		return nil, badFrame(fmt.Errorf("%T where auth is due", frame))
	}
	live := a.Keys.Named(s.hello.KID)
	for i := range live {
		if handshake.SameMAC(auth.MAC, transcript.SenderMAC(live[i].Value)) {
			return &live[i], nil
		}
	}
	if len(live) == 0 {
		return nil, unproved(fmt.Sprintf("no key %.64q", s.hello.KID))
	}
	return nil, unproved(fmt.Sprintf("key %q does not match: it is another key, or a proxy terminates TLS in between, or a handshake was replayed", s.hello.KID))
}

func (s *session) welcome() *handshake.Welcome {
	return &handshake.Welcome{
		Session:   rand.Text(),
		Win:       handshake.Win{Bytes: winBytes, Batches: winBatches},
		Max:       maxMessage,
		MaxRaw:    maxRaw,
		Enc:       codec.Names(),
		HB:        s.r.opts.Heartbeat.Milliseconds(),
		Guarantee: s.r.guarantee,
		Store:     s.r.name,
		AckTo:     s.r.opts.AckTimeout.Milliseconds(),
	}
}
