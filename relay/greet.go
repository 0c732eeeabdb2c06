package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// open says hello, proves our key if we have one, and waits for the welcome.
func (s *session) open(ctx context.Context) *Fault {
	s.setPing(s.r.o.Ping)
	s.transcript.Hello = handshake.Encode(s.hello(s.r.q.Stats()))
	if err := s.conn.WriteMessage(websocket.TextMessage, s.transcript.Hello); err != nil {
		return s.writeFault(err)
	}
	timeout := time.NewTimer(s.r.pace.dial)
	defer timeout.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timeout.C:
			f := Transient("no welcome in time", hintServer, nil)
			f.code = handshake.CloseHandshakeTimeout
			return f
		case m := <-s.in:
			switch f := m.frame.(type) {
			case *handshake.Welcome:
				if fault := s.checkProof(f); fault != nil {
					return fault
				}
				if s.claim != nil {
					if fault := s.claim(); fault != nil {
						return fault
					}
				}
				s.welcome(f, s.r.q.Stats().Cursor)
				return nil
			case *handshake.Chal:
				if fault := s.answerChallenge(f, m.raw); fault != nil {
					return fault
				}
				timeout.Reset(s.r.pace.dial)
			case *handshake.Err:
				s.peerErr = f // the close that follows says the rest
			case nil:
				return s.ended(m.err)
			default:
				return protocolError(websocket.CloseProtocolError, fmt.Errorf("%T before welcome", f))
			}
		}
	}
}

func (s *session) hello(st buffer.Stats) *handshake.Hello {
	hello := &handshake.Hello{
		V: handshake.Version, SID: s.sid, Host: s.r.o.Host, Agent: s.r.o.Agent, Boot: s.r.o.Boot,
		Enc: codec.Names(), Max: handshake.MaxControl,
		Acked: st.Cursor, Head: st.Head, Pending: handshake.Pending{N: st.Head - st.Cursor, Bytes: st.PendingBytes},
	}
	if s.key != nil {
		hello.KID, hello.Nonce, hello.Mech = s.key.Name, handshake.NewNonce(), []string{handshake.MechHMAC}
	}
	if st.Receipt.RT != "" {
		hello.Proof = &handshake.Proof{Seq: st.Receipt.Seq, UID: st.Receipt.UID, RT: st.Receipt.RT}
	}
	return hello
}

// answerChallenge answers the receiver's challenge.
func (s *session) answerChallenge(c *handshake.Chal, raw []byte) *Fault {
	switch {
	case s.key == nil:
		return Permanent("the receiver asks for a key", "give this host's key with --key-file", nil)
	case s.transcript.Chal != nil:
		return protocolError(websocket.CloseProtocolError, errors.New("a second challenge"))
	case c.Mech != handshake.MechHMAC || !handshake.ValidNonce(c.Nonce):
		return protocolError(websocket.CloseProtocolError, fmt.Errorf("a challenge with mechanism %.20q and a nonce of %d characters", c.Mech, len(c.Nonce)))
	}
	if fault := s.bind(c.CB); fault != nil {
		return fault
	}
	s.transcript.Chal = raw
	s.transcript.Auth = handshake.Encode(&handshake.Auth{MAC: s.transcript.SenderMAC(s.key.Value)})
	return s.writeFault(s.conn.WriteMessage(websocket.TextMessage, s.transcript.Auth))
}

// bind ties the proof to the connection. Whether it must be is for the receiver
// to say, which alone knows whether TLS ends at itself; what it says is part of
// what both prove. Where we listen, TLS that ends here ends at the receiver, too.
func (s *session) bind(cb string) *Fault {
	t, ok := s.conn.NetConn().(*tls.Conn)
	switch {
	case cb == handshake.CBNone && ok && s.r.o.Listen != "":
		return Permanent("the receiver's proof leaves this TLS connection out",
			"remove --behind-proxy or --allow-insecure from the wsreceive that dials here", nil)
	case cb == handshake.CBNone:
		return nil
	case cb != handshake.CBExporter:
		return Permanent("the receiver asks for an unknown kind of proof",
			"update the older of the two ends", fmt.Errorf("channel binding %.40q", cb))
	case !ok:
		return Permanent("a proxy terminates TLS between us and the receiver",
			"use wss:// as far as the receiver, or run wsreceive with --behind-proxy", nil)
	}
	var err error
	if s.transcript.Binding, err = handshake.TLSBinding(t.ConnectionState()); err != nil {
		return Permanent("this TLS connection cannot be part of a proof", "have both ends speak TLS 1.3", err)
	}
	return nil
}

// checkProof makes sure that the receiver holds our key, too. Without that it
// could be anybody, and gets no line.
func (s *session) checkProof(w *handshake.Welcome) *Fault {
	switch {
	case s.key == nil:
		return nil
	case s.transcript.Auth == nil:
		return Permanent("the receiver did not ask for our key and does not prove that it has it",
			"give wsreceive this host's key with --keys, or remove --key-file here", nil)
	case !handshake.SameMAC(w.MAC, s.transcript.ReceiverMAC(s.key.Value)):
		return Permanent("the receiver does not prove that it has our key",
			"something pretends to be the receiver; check the URL and what stands in between", nil)
	}
	return nil
}
