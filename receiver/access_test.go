package receiver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/connlimit"
)

const (
	key1   = "000102030405060708090a0b0c0d0e0f"
	key2   = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
	token1 = "token.of-ci/12345"
	token2 = "token.of-db/12345"
)

func keys(t testing.TB, file string) handshake.Secrets {
	t.Helper()
	k, err := handshake.ParseKeys([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func tokens(t testing.TB, file string) handshake.Secrets {
	t.Helper()
	k, err := handshake.ParseTokens([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lockedBuffer keeps a log for a test to look at.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tlsServer is a receiver behind a connlimit.Limiter, with TLS. Client certificates are
// looked at if given.
type tlsServer struct {
	*Receiver
	url    string
	store  *memStore
	log    *lockedBuffer
	client *tls.Config
}

func serveTLS(t testing.TB, o Options, room int) *tlsServer {
	t.Helper()
	s := &tlsServer{store: &memStore{}, log: new(lockedBuffer)}
	o.Log = slog.New(slog.NewTextHandler(s.log, nil))
	s.Receiver = New(s.store, o)
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.Listener = connlimit.New(srv.Listener, room, 0)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven}
	srv.StartTLS()
	pool := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	srv.TLS.ClientCAs = pool
	t.Cleanup(srv.Close)
	t.Cleanup(s.Shutdown)
	s.url, s.client = strings.Replace(srv.URL, "http", "ws", 1), &tls.Config{RootCAs: pool}
	return s
}

func (srv *tlsServer) dial(t testing.TB, header http.Header) (*sender, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, TLSClientConfig: srv.client}
	conn, resp, err := d.DialContext(t.Context(), srv.url, header)
	if err != nil {
		return nil, resp, err
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // of a test that hangs
	return &sender{t: t, conn: conn}, resp, nil
}

func (srv *tlsServer) connect(t testing.TB) *sender {
	t.Helper()
	s, _, err := srv.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func helloWith(kid string) *handshake.Hello {
	h := hello(1)
	h.KID, h.Nonce, h.Mech = kid, handshake.NewNonce(), []string{handshake.MechHMAC}
	return h
}

// prove says h, answers the challenge with the key, and gives what both have
// said.
func (s *sender) prove(h *handshake.Hello, key handshake.Secret) *handshake.Transcript {
	s.t.Helper()
	transcript := &handshake.Transcript{Hello: handshake.Encode(h)}
	s.write(websocket.TextMessage, transcript.Hello)
	chal := want[*handshake.Chal](s)
	transcript.Chal = handshake.Encode(chal)
	if t, ok := s.conn.NetConn().(*tls.Conn); ok && chal.CB == handshake.CBExporter {
		var err error
		if transcript.Binding, err = handshake.TLSBinding(t.ConnectionState()); err != nil {
			s.t.Fatal(err)
		}
	}
	transcript.Auth = handshake.Encode(&handshake.Auth{MAC: transcript.SenderMAC(key.Value)})
	s.write(websocket.TextMessage, transcript.Auth)
	return transcript
}

func TestAccess_AKeyIsProvedBothWays(t *testing.T) {
	live := keys(t, "web "+key1+" host=web1\nweb "+key2+"\n")
	srv := serveTLS(t, Options{Access: Access{Keys: live}}, 10)
	for _, key := range live {
		s := srv.connect(t)
		transcript := s.prove(helloWith("web"), key)
		if w := want[*handshake.Welcome](s); w.MAC != transcript.ReceiverMAC(key.Value) || transcript.Binding == nil {
			t.Errorf("got mac %q over binding %x, want %q over that of this connection", w.MAC, transcript.Binding,
				transcript.ReceiverMAC(key.Value))
		}
		s.lines(1, "one")
		s.wantAck(2)
	}
	if got := srv.log.String(); !strings.Contains(got, "proved=key:web") || strings.Contains(got, key1) {
		t.Errorf("want the key's name in the log, and only that:\n%s", got)
	}
}

func TestAccess_RefusesWhoHasNoKeyThatFits(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1+"\nbound "+key1+" host=other\nstream "+key1+" sid=000000000000000v\n")}
	good, bad := access.Keys[0], handshake.Secret{Value: []byte(key2)}
	tests := map[string]struct {
		code int
		log  string
		say  func(s *sender)
	}{
		"no key":         {4401, "no key, token or certificate", func(s *sender) { s.control(hello(1)) }},
		"unknown kid":    {4401, `no key \"nobody\"`, func(s *sender) { s.prove(helloWith("nobody"), good) }},
		"another key":    {4401, `key \"web\" does not match`, func(s *sender) { s.prove(helloWith("web"), bad) }},
		"another's host": {4403, `key \"bound\" is not for this host`, func(s *sender) { s.prove(helloWith("bound"), good) }},
		"another stream": {4403, `key \"stream\" is not for this host`, func(s *sender) { s.prove(helloWith("stream"), good) }},
		"no mechanism":   {4401, "without mechanism", func(s *sender) { h := helloWith("web"); h.Mech = nil; s.control(h) }},
		"short nonce": {
			4401, "without mechanism or nonce",
			func(s *sender) { h := helloWith("web"); h.Nonce = "1"; s.control(h) },
		},
		"no auth":       {4400, "where auth is due", func(s *sender) { s.control(helloWith("web")); s.control(hello(1)) }},
		"data for auth": {4400, "data in the handshake", func(s *sender) { s.control(helloWith("web")); s.lines(1, "one") }},
		"auth first":    {4400, "not hello", func(s *sender) { s.control(&handshake.Auth{MAC: "00"}) }},
		"empty mac":     {4401, "does not match", func(s *sender) { s.control(helloWith("web")); s.control(&handshake.Auth{}) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			srv := serveTLS(t, Options{Access: access}, 10)
			s := srv.connect(t)
			test.say(s)
			s.wantClose(test.code)
			if got := srv.log.String(); !strings.Contains(got, test.log) || strings.Contains(got, "connected") {
				t.Errorf("want %q in the log and no session:\n%s", test.log, got)
			}
			if srv.store.commits != 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestAccess_ARecordedHandshakeIsWorthNothing(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1)}
	srv := serveTLS(t, Options{Access: access}, 10)
	s := srv.connect(t)
	transcript := s.prove(helloWith("web"), access.Keys[0])
	want[*handshake.Welcome](s)

	s = srv.connect(t)
	s.write(websocket.TextMessage, transcript.Hello)
	want[*handshake.Chal](s)
	s.write(websocket.TextMessage, transcript.Auth)
	s.wantClose(handshake.CloseUnauthenticated)
}

// A proxy that terminates TLS sees another channel binding than the receiver.
func TestAccess_AManInTheMiddleCannotPassTheProofOn(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1)}
	srv := serveTLS(t, Options{Access: access}, 10)
	victim, middle := srv.connect(t), srv.connect(t)
	h := helloWith("web")
	middle.control(h)
	chal := want[*handshake.Chal](middle)
	transcript := handshake.Transcript{Hello: handshake.Encode(h), Chal: handshake.Encode(chal)}
	transcript.Binding, _ = handshake.TLSBinding(victim.conn.NetConn().(*tls.Conn).ConnectionState())
	middle.control(&handshake.Auth{MAC: transcript.SenderMAC(access.Keys[0].Value)})
	middle.wantClose(handshake.CloseUnauthenticated)
	if got := srv.log.String(); !strings.Contains(got, "a proxy terminates TLS in between") {
		t.Errorf("log:\n%s", got)
	}
}

func TestAccess_BelievesNobodyWithoutTLSUnlessToldSo(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1)}
	_, url := serve(t, &memStore{}, Options{Access: access})
	status, body := get(t, url, http.Header{"Sec-Websocket-Protocol": {handshake.Subprotocol}})
	if status != http.StatusForbidden || !strings.Contains(body, "TLS") {
		t.Errorf("got %d %q, want 403", status, body)
	}
	access.Unbound = true
	_, url = serve(t, &memStore{}, Options{Access: access})
	s := dial(t, url)
	transcript := s.prove(helloWith("web"), access.Keys[0])
	if w := want[*handshake.Welcome](s); w.MAC != transcript.ReceiverMAC(access.Keys[0].Value) ||
		!bytes.Contains(transcript.Chal, []byte(`"cb":"none"`)) {
		t.Errorf("got mac %q after %s", w.MAC, transcript.Chal)
	}
}

func TestAccess_TakesAToken(t *testing.T) {
	srv := serveTLS(t, Options{Access: Access{Tokens: tokens(t, "ci "+token1+"\ndb "+token2+" host=db\n")}}, 10)
	s, _, err := srv.dial(t, http.Header{"Authorization": {"bearer " + token1}})
	if err != nil {
		t.Fatal(err)
	}
	s.control(hello(1))
	if w := want[*handshake.Welcome](s); w.MAC != "" {
		t.Errorf("got a mac %q, with no key to make it of", w.MAC)
	}
	s, _, err = srv.dial(t, http.Header{"Authorization": {"Bearer " + token2}})
	if err != nil {
		t.Fatal(err)
	}
	s.control(hello(1))
	s.wantClose(handshake.CloseForbidden)

	for _, header := range []string{"", "Bearer", "Bearer " + token1 + "0", "Basic " + token1} {
		_, resp, err := srv.dial(t, http.Header{"Authorization": {header}})
		if !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != http.StatusUnauthorized ||
			resp.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%q: got %v, %+v; want 401", header, err, resp)
		}
	}
	if got := srv.log.String(); strings.Contains(got, token1) || !strings.Contains(got, "sender refused") {
		t.Errorf("want the refusals in the log, and no token:\n%s", got)
	}
}

func TestAccess_TakesACertificate(t *testing.T) {
	srv := serveTLS(t, Options{Access: Access{Certificates: true}}, 10)
	if _, resp, err := srv.dial(t, nil); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without one: got %v, want 401", err)
	}
	srv.client.Certificates = []tls.Certificate{clientCertificate(t, srv)}
	s, _, err := srv.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.control(hello(1))
	want[*handshake.Welcome](s)
	s.lines(1, "one")
	s.wantAck(2)
	if got := srv.log.String(); !strings.Contains(got, "proved=certificate:web1") {
		t.Errorf("log:\n%s", got)
	}
}

func TestSetAccess_EndsSessionsWhoseKeyIsGone(t *testing.T) {
	both := Access{Keys: keys(t, "old "+key1+"\nnew "+key2), Tokens: tokens(t, "ci "+token1)}
	srv := serveTLS(t, Options{Access: both}, 10)
	open := func(sid string, h http.Header, key *handshake.Secret) *sender {
		s, _, err := srv.dial(t, h)
		if err != nil {
			t.Fatal(err)
		}
		if key == nil {
			hi := hello(1)
			hi.SID = sid
			s.control(hi)
		} else {
			hi := helloWith(key.Name)
			hi.SID = sid
			s.prove(hi, *key)
		}
		want[*handshake.Welcome](s)
		return s
	}
	old := open("0000000000000001", nil, &both.Keys[0])
	kept := open("0000000000000002", nil, &both.Keys[1])
	token := open("0000000000000003", http.Header{"Authorization": {"Bearer " + token1}}, nil)

	srv.SetAccess(Access{Keys: keys(t, "old "+key2+"\nnew "+key2)})
	old.wantClose(handshake.CloseUnauthenticated)
	token.wantClose(handshake.CloseUnauthenticated)
	kept.lines(1, "one")
	kept.wantAck(2)

	srv.SetAccess(Access{Keys: keys(t, "new "+key2+" host=elsewhere")})
	kept.wantClose(handshake.CloseUnauthenticated)
}

func TestSetAccess_EndsWhoProvedNothingOnceItAsks(t *testing.T) {
	srv := serveTLS(t, Options{}, 10)
	s := srv.connect(t)
	s.control(hello(1))
	want[*handshake.Welcome](s)
	srv.SetAccess(Access{})
	s.lines(1, "one")
	s.wantAck(2)
	srv.SetAccess(Access{Keys: keys(t, "web "+key1)})
	s.wantClose(handshake.CloseUnauthenticated)
}

// What the upgrade proved may be withdrawn before the sender says hello.
func TestSetAccess_TurnsAwayWhoIsNotWelcomeYet(t *testing.T) {
	both := Access{Keys: keys(t, "web "+key1), Tokens: tokens(t, "ci "+token1), Certificates: true}
	for name, left := range map[string]Access{
		"token":       {Keys: both.Keys, Certificates: true},
		"certificate": {Keys: both.Keys, Tokens: both.Tokens},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serveTLS(t, Options{Access: both}, 10)
			header := http.Header{}
			if name == "token" {
				header.Set("Authorization", "Bearer "+token1)
			} else {
				srv.client.Certificates = []tls.Certificate{clientCertificate(t, srv)}
			}
			s, _, err := srv.dial(t, header)
			if err != nil {
				t.Fatal(err)
			}
			srv.SetAccess(left)
			s.control(hello(1))
			want[*handshake.Err](s) // and no welcome before it
			s.wantClose(handshake.CloseUnauthenticated)
			if got := srv.log.String(); strings.Contains(got, "msg=connected") {
				t.Errorf("log:\n%s", got)
			}
		})
	}
}

func TestReceipts_CarryATokenThatTheNextHelloShows(t *testing.T) {
	secret := []byte("a secret of the store")
	log := new(lockedBuffer)
	r, url := serve(t, &memStore{}, Options{
		Access: Access{ReceiptSecret: secret}, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	s := connect(t, url)
	s.lines(1, "one", "two")
	ack := want[*handshake.Ack](s)
	proof := &handshake.Proof{Seq: ack.Seq, UID: ack.UID.Last, RT: ack.RT}
	if !proof.Verify(secret) {
		t.Fatalf("the receipt %+v does not verify", proof)
	}
	greet := func(p *handshake.Proof, acked uint64) *sender {
		s := dial(t, url)
		h := hello(acked)
		h.Proof = p
		s.control(h)
		return s
	}
	forged := *proof
	forged.Seq++
	want[*handshake.Welcome](greet(proof, 3))
	want[*handshake.Welcome](greet(nil, 1))
	if got := log.String(); strings.Contains(got, "presents no receipt") {
		t.Errorf("a good receipt is not believed:\n%s", got)
	}
	want[*handshake.Welcome](greet(&forged, 3))
	if got := log.String(); !strings.Contains(got, "presents no receipt") {
		t.Errorf("a forged receipt goes unnoticed:\n%s", got)
	}

	r.SetAccess(Access{ReceiptSecret: secret, RequireReceipt: true})
	want[*handshake.Welcome](greet(nil, 1)) // its first receipt may have been lost
	want[*handshake.Welcome](greet(proof, 3))
	greet(nil, 1).wantClose(handshake.CloseForbidden) // it has a receipt: this is another sender, or a queue that was reset
	greet(&forged, 3).wantClose(handshake.CloseForbidden)
	greet(nil, 3).wantClose(handshake.CloseForbidden)
}
