package receiver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// clientCertificate makes one that srv comes to trust.
func clientCertificate(t testing.TB, srv *tlsServer) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	srv.client.RootCAs.AddCert(leaf) // it is the server's pool, too
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestDoor_ShutsTheOldestStrangerOut(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1)}
	srv := serveTLS(t, Options{Access: access}, 4)
	s := srv.connect(t)
	s.prove(helloWith("web"), access.Keys[0])
	want[*handshake.Welcome](s)

	addr := strings.TrimPrefix(srv.url, "wss://")
	strangers := make([]net.Conn, 20)
	for i := range strangers {
		var err error
		if strangers[i], err = net.Dial("tcp", addr); err != nil {
			t.Fatal(err)
		}
		defer strangers[i].Close()
	}
	for _, c := range strangers[:len(strangers)-4] { // shut out, and so at their end
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Fatalf("a stranger is still inside: %v", err)
		}
	}
	s.lines(1, "one") // who is known stays
	s.wantAck(2)
	s = srv.connect(t) // and comes in
	s.prove(helloWith("web"), access.Keys[0])
	want[*handshake.Welcome](s)
}

func TestAdmit_AsksACrowdOfStrangersToComeLater(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1), Tokens: tokens(t, "ci "+token1)}
	srv := serveTLS(t, Options{Access: access, Greets: 1e-9}, 10)
	if _, _, err := srv.dial(t, nil); err != nil {
		t.Fatal(err)
	}
	_, resp, err := srv.dial(t, nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("got %v, want 503", err)
	}
	if after, _ := strconv.Atoi(resp.Header.Get("Retry-After")); after < retryAfter || after >= 2*retryAfter {
		t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
	}
	if _, _, err := srv.dial(t, http.Header{"Authorization": {"Bearer " + token1}}); err != nil {
		t.Errorf("who is known has to wait, too: %v", err)
	}
}

// What strangers try, what comes of it, and what each of them holds; and what
// comes of it if it is we who have dialled.
func TestHostile_StrangersGetNothingAndHoldLittle(t *testing.T) {
	access := Access{Keys: keys(t, "web "+key1), Unbound: true}
	const strangers, most = 50, 128 << 10 // bytes each, of both ends
	text := func(s string) func(*sender) {
		return func(p *sender) { p.write(websocket.TextMessage, []byte(s)) }
	}
	for name, attack := range map[string]struct {
		code int
		say  func(*sender)
	}{
		"hello, then silence": {4408, func(s *sender) { s.control(helloWith("web")) }},
		"silence":             {4408, func(*sender) {}},
		"a hello of 17 KiB":   {1009, text(`{"t":"hello","agent":"` + strings.Repeat("x", 17<<10) + `"}`)},
		"a frame of 1 MiB":    {1009, text(strings.Repeat("x", 1<<20))},
		"binary before hello": {4400, func(s *sender) { s.lines(1, "one") }},
		"nested lists":        {4400, text(strings.Repeat("[", 8000) + strings.Repeat("]", 8000))},
		"two sids": {4400, text(`{"t":"hello","v":1,"sid":"` + sid +
			`","sid":"000000000000000v","acked":1,"head":1}`)},
		"auth without a chal": {4400, func(s *sender) { s.control(&handshake.Auth{MAC: strings.Repeat("0", 64)}) }},
		"a forged mac":        {4401, func(s *sender) { s.control(helloWith("web")); s.control(&handshake.Auth{MAC: strings.Repeat("0", 64)}) }},
		"an auth of 17 KiB": {1009, func(s *sender) {
			s.control(helloWith("web"))
			s.control(&handshake.Auth{MAC: strings.Repeat("0", 17<<10)})
		}},
		"no kid": {4401, func(s *sender) { s.control(hello(1)) }},
	} {
		t.Run(name, func(t *testing.T) {
			store := &memStore{}
			_, url := serve(t, store, Options{Access: access, HandshakeTimeout: time.Second})
			before := heap()
			crowd := make([]*sender, strangers)
			for i := range crowd {
				crowd[i] = dialBuffered(t, url, 4<<10)
				attack.say(crowd[i])
			}
			held := (heap() - before) / strangers
			for _, s := range crowd {
				s.wantClose(attack.code)
			}
			t.Logf("%s: close %d, %d KiB held for each, both ends", name, attack.code, held>>10)
			if held > most {
				t.Errorf("%d bytes held for each, want at most %d", held, most)
			}
			if store.commits != 0 {
				t.Error("something was stored")
			}

			impostor := listen(t)
			_, _, store, _ = dialling(t, impostor.url, Options{Access: access, HandshakeTimeout: time.Second})
			s := <-impostor.calls
			attack.say(s)
			s.wantClose(attack.code)
			s.conn.Close()
			if store.commits != 0 {
				t.Error("something of an impostor was stored")
			}
		})
	}
}

// A byte at a time buys the server that we dial no time.
func TestHostile_AnAnswerAtACrawlIsNotWaitedFor(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, err = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nX: "))
		for err == nil {
			_, err = conn.Write([]byte("y"))
			time.Sleep(time.Millisecond)
		}
	}))
	defer srv.Close()
	r := New(&memStore{}, Options{HandshakeTimeout: 200 * time.Millisecond})
	d, err := NewDialer(r, strings.Replace(srv.URL, "http", "ws", 1), func() DialConfig { return DialConfig{} })
	if err != nil {
		t.Fatal(err)
	}
	if a := d.once(t.Context()); !strings.Contains(a.reason, "timeout") || a.session != nil {
		t.Errorf("got %+v, want that it took too long", a)
	}
}

// What a sender with a key can try, what comes of it, and what each of them
// holds meanwhile. An honest sender gets its receipt beside them, and the store
// gets what it would have got anyway.
func TestHostile_WhoIsKnownHarmsNobodyElse(t *testing.T) {
	access := Access{
		Keys: keys(t, "web "+key1), Unbound: true, ReceiptSecret: []byte("the store's"),
		RequireReceipt: true,
	}
	const known, most = 20, 128 << 10 // bytes each, of both ends
	bomb := bombOf(t, 64<<20)
	for name, attack := range map[string]struct {
		gets  string
		holds int64 // beyond most: what it has announced
		says  func(*sender)
	}{
		"a zstd bomb of 64 MiB": {"nak decode", 0, func(s *sender) {
			s.data(handshake.Data{Seq: 1, N: 1, Enc: "zstd", Raw: 8, C: handshake.CRC(bomb)}, bomb)
			s.wantNak(handshake.NakDecode, 1)
		}},
		"an S2 block that says 16 MiB": {"nak decode", 0, func(s *sender) {
			lie := binary.AppendUvarint(nil, 16<<20)
			s.data(handshake.Data{Seq: 1, N: 1, Enc: "s2", Raw: 16 << 20, C: handshake.CRC(lie)}, lie)
			s.wantNak(handshake.NakDecode, 1)
		}},
		"8 million empty lines in a batch": {"nak too_big", 0, func(s *sender) {
			s.data(handshake.Data{Seq: 1, N: 8 << 20, Enc: handshake.EncRaw, Raw: 8 << 20, C: "00000000"}, nil)
			s.wantNak(handshake.NakTooBig, 1)
		}},
		"1 MiB, a few bytes at a time": {"it is waited for", 1 << 20, func(s *sender) {
			w, err := s.conn.NextWriter(websocket.BinaryMessage)
			if err == nil {
				_, err = w.Write(handshake.AppendData(nil, handshake.Data{
					B: 1, Seq: 1, N: 1, Enc: handshake.EncRaw,
					Raw: 1 << 20, C: "00000000",
				}, make([]byte, 8<<10)))
			}
			if err != nil {
				s.t.Error(err)
			}
		}},
		"a message without end": {"close 4400", 0, func(s *sender) {
			_ = s.conn.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)) // no header in it
			s.wantClose(handshake.CloseBadFrame)
		}},
		"the second batch first": {"nak order", 0, func(s *sender) {
			s.lines(1, "one")
			s.wantAck(2)
			s.lines(3, "three")
			s.wantNak(handshake.NakOrder, 2)
		}},
		"a batch replayed": {"nak order", 0, func(s *sender) {
			s.lines(1, "one")
			s.wantAck(2)
			s.lines(1, "one")
			s.wantNak(handshake.NakOrder, 2)
		}},
		"100 hellos": {"close 4400", 0, func(s *sender) {
			for range 100 {
				_ = s.conn.WriteMessage(websocket.TextMessage, handshake.Encode(hello(1))) // it closes at the first
			}
			s.wantClose(handshake.CloseBadFrame)
		}},
		"a gap beyond all numbers": {"close 4400", 0, func(s *sender) {
			s.write(websocket.TextMessage, []byte(`{"t":"gap","b":1,"seq":9007199254740991,"n":9007199254740991,"why":"overflow"}`))
			s.wantClose(handshake.CloseBadFrame)
		}},
		"10,000 pings": {"pongs", 0, func(s *sender) {
			for range 10_000 {
				if err := s.conn.WriteControl(websocket.PingMessage, []byte("ping"),
					time.Now().Add(time.Minute)); err != nil {
					s.t.Error(err)
				}
			}
			s.lines(1, "one")
			s.wantAck(2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			store := &memStore{}
			_, url := serve(t, store, Options{Access: access})
			enter := func(sid string) *sender {
				s, h := dialBuffered(t, url, 4<<10), helloWith("web")
				h.SID = sid
				s.prove(h, access.Keys[0])
				want[*handshake.Welcome](s)
				return s
			}
			before := heap()
			for range known {
				attack.says(enter(handshake.NewSID()))
			}
			held := (heap() - before) / known
			t.Logf("%s: %s, %d KiB held for each, both ends", name, attack.gets, held>>10)
			if held > most+attack.holds {
				t.Errorf("%d bytes held for each, want at most %d", held, most+attack.holds)
			}
			honest := enter(sid)
			honest.lines(1, "an honest line")
			honest.wantAck(2)
			if got := store.get(1); got != "an honest line" {
				t.Errorf("stored %q", got)
			}
		})
	}
}

// What is shown or said again that was seen on the wire, or made up.
func TestHostile_WhatIsReplayedOrForgedOpensNothing(t *testing.T) {
	secret := []byte("the store's")
	receipt := func(sid string, secret []byte) *handshake.Proof {
		uid := handshake.UID(sid, 1)
		return &handshake.Proof{Seq: 2, UID: uid, RT: handshake.ReceiptToken(secret, sid, 2, uid)}
	}
	for name, tt := range map[string]struct {
		proof *handshake.Proof
		code  int // 0: welcome
	}{
		"the receipt":                 {receipt(sid, secret), 0},
		"none":                        {nil, handshake.CloseForbidden},
		"one signed with another key": {receipt(sid, []byte("another's")), handshake.CloseForbidden},
		"one of its former stream":    {receipt("vvvvvvvvvvvvvvvv", secret), 0},
		"one with a higher number": {&handshake.Proof{
			Seq: 3, UID: handshake.UID(sid, 2),
			RT: receipt(sid, secret).RT,
		}, handshake.CloseForbidden},
		"one of an engine's own making": {&handshake.Proof{Seq: 2, UID: "AVxyz", RT: receipt(sid, secret).RT}, handshake.CloseForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lockedBuffer)
			_, url := serve(t, &memStore{}, Options{
				Access: Access{ReceiptSecret: secret, RequireReceipt: true},
				Log:    slog.New(slog.NewTextHandler(log, nil)),
			})
			s, h := dial(t, url), hello(2)
			h.Proof = tt.proof
			s.control(h)
			if tt.code == 0 {
				want[*handshake.Welcome](s)
				return
			}
			s.wantClose(tt.code)
			t.Logf("%s: close %d", name, tt.code)
			if got := log.String(); !strings.Contains(got, "no valid receipt") {
				t.Errorf("log:\n%s", got)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
