package receiver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
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

// What strangers try, what comes of it, and what each of them holds.
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
		"two sids":            {4400, text(`{"t":"hello","v":1,"sid":"` + sid + `","sid":"000000000000000v","acked":1,"head":1}`)},
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
			t.Logf("close %d, %d KiB held for each, both ends", attack.code, held>>10)
			if held > most {
				t.Errorf("%d bytes held for each, want at most %d", held, most)
			}
			if store.commits != 0 {
				t.Error("something was stored")
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
