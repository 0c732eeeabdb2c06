package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/test/certs"
)

// hosted is a relay that listens until the test ends.
type hosted struct {
	*Relay
	t    testing.TB
	q    *buffer.Queue
	log  *logged
	addr string
}

func host(t testing.TB, w DialConfig) *hosted {
	t.Helper()
	return hostPaced(t, w, func(*pace) {})
}

func hostPaced(t testing.TB, w DialConfig, change func(*pace)) *hosted {
	t.Helper()
	h := &hosted{t: t, q: openQueue(t), log: new(logged)}
	h.Relay = briskly(New(h.q, Options{
		Listen: "127.0.0.1:0", Host: "web-1", Dial: w, IdleClose: time.Nanosecond,
		Log: h.log.logger(),
	}))
	change(&h.pace)
	run(t, h.Relay)
	h.addr = h.says(`msg=listening url=wss?://([0-9.:]+)/relay`)
	return h
}

// says waits until the log matches, and gives the first group, if any.
func (h *hosted) says(pattern string) string {
	h.t.Helper()
	re := regexp.MustCompile(pattern)
	for range 2000 {
		if m := re.FindStringSubmatch(h.log.text()); m != nil {
			return m[len(m)-1]
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("the log never says %s:\n%s", pattern, h.log.text())
	return ""
}

// call dials as a receiver does.
func (h *hosted) call(header http.Header, config *tls.Config) (*peer, int) {
	h.t.Helper()
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, TLSClientConfig: config}
	scheme := "ws"
	if config != nil {
		scheme = "wss"
	}
	conn, resp, err := d.DialContext(h.t.Context(), scheme+"://"+h.addr+"/relay", header)
	if err != nil {
		if resp == nil {
			return nil, 0
		}
		return nil, resp.StatusCode
	}
	h.t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // of a test that hangs
	return &peer{Conn: conn, t: h.t, net: conn.NetConn()}, http.StatusSwitchingProtocols
}

// welcomed is a call that has given its welcome. The place of a receiver that
// has gone may be taken for a moment.
func (h *hosted) welcomed() *peer {
	h.t.Helper()
	for {
		p, status := h.call(nil, nil)
		if p == nil {
			h.t.Fatalf("status %d", status)
		}
		_, msg, err := p.ReadMessage()
		if closeCode(err) == websocket.CloseTryAgainLater {
			continue
		}
		hello, err := handshake.Decode(msg)
		if err != nil {
			h.t.Fatal(err)
		}
		p.hello = hello.(*handshake.Hello)
		p.next = p.hello.Acked
		p.send(welcomeWith(""))
		return p
	}
}

// served is a call that has given one receipt, too.
func (h *hosted) served() *peer {
	h.t.Helper()
	appendLines(h.t, h.q, 1, 1)
	p := h.welcomed()
	d, _ := p.data()
	p.ack(d.B, d.Seq+uint64(d.N))
	waitAcked(h.t, h.q, d.Seq+uint64(d.N))
	return p
}

func TestListen_GivesLinesToAReceiverThatDials(t *testing.T) {
	h, st := host(t, DialConfig{}), new(store)
	for range 2 {
		p := h.welcomed()
		done := make(chan int)
		go func() { done <- p.receive(st) }()
		end := appendLines(t, h.q, 3, 10)
		waitAcked(t, h.q, end)
		// --idle-close is over by now, and the session continues.
		end = appendLines(t, h.q, 1, 1)
		waitAcked(t, h.q, end)
		if s := h.Status(); s.State != StateConnected || s.LastError != "" {
			t.Errorf("status %+v, want connected", s)
		}
		p.net.Close()
		<-done
		for h.Status().State != StateListening {
			time.Sleep(time.Millisecond)
		}
		if s := h.Status(); s.LastError == "" || !strings.HasPrefix(s.URL, "ws://127.0.0.1:") {
			t.Errorf("status %+v, want why it listens again, and where", s)
		}
	}
	st.check(t, h.q.Stats().Head, line)
}

func TestListen_ServesOneReceiverAtATime(t *testing.T) {
	h := host(t, DialConfig{})
	early, _ := h.call(nil, nil) // it has got the hello, and waits
	early.readHello()
	first := h.served()

	second, _ := h.call(nil, nil)
	if _, msg, err := second.ReadMessage(); closeCode(err) != websocket.CloseTryAgainLater {
		t.Errorf("the second receiver got %q, %v; want Close 1013 without a hello", msg, err)
	}
	early.send(welcomeWith(""))
	if code := early.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("the one that was slower to welcome got %d, want 1013", code)
	}
	appendLines(t, h.q, 1, 1)
	taken, _ := first.data() // without a receipt
	first.net.Close()
	if d, _ := h.welcomed().data(); d.Seq != taken.Seq {
		t.Errorf("the next receiver gets %d first, want %d, which has no receipt", d.Seq, taken.Seq)
	}
}

func TestListen_RefusesWhatIsNoReceiver(t *testing.T) {
	token := file(t, "token", "abcdefghijklmnop\n")
	h := host(t, DialConfig{TokenFile: token})
	good := http.Header{"Authorization": {"Bearer abcdefghijklmnop"}}
	for name, tt := range map[string]struct {
		path, token, origin, protocol string
		want                          int
	}{
		"a web page": {
			"/relay", "abcdefghijklmnop", "https://example.com", handshake.Subprotocol,
			http.StatusForbidden,
		},
		"another subprotocol": {"/relay", "abcdefghijklmnop", "", "mqtt", http.StatusUpgradeRequired},
		"another path":        {"/", "abcdefghijklmnop", "", handshake.Subprotocol, http.StatusNotFound},
		"another token":       {"/relay", "abcdefghijklmnoq", "", handshake.Subprotocol, http.StatusUnauthorized},
		"no token":            {"/relay", "", "", handshake.Subprotocol, http.StatusUnauthorized},
	} {
		header := http.Header{"Authorization": {"Bearer " + tt.token}}
		if tt.origin != "" {
			header.Set("Origin", tt.origin)
		}
		d := websocket.Dialer{Subprotocols: []string{tt.protocol}}
		_, resp, err := d.DialContext(t.Context(), "ws://"+h.addr+tt.path, header)
		if err == nil || resp == nil || resp.StatusCode != tt.want {
			t.Errorf("%s: %v, want status %d", name, err, tt.want)
		}
	}
	if p, status := h.call(good, nil); p == nil {
		t.Errorf("the token: status %d", status)
	}
	// What the file holds counts from the next caller on.
	for text, want := range map[string]int{
		"qponmlkjihgfedcba": http.StatusUnauthorized,
		"two words":         http.StatusServiceUnavailable,
	} {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, status := h.call(good, nil); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	if strings.Contains(h.log.text(), "abcdefgh") {
		t.Error("the token is in the log")
	}
}

// dialer is the receiver of this project, dialling.
func dialer(t testing.TB, url string, a receiver.Access, config *tls.Config) (out, log *logged) {
	t.Helper()
	out, log = new(logged), new(logged)
	r := receiver.New(stdout.New(out), receiver.Options{Access: a, Log: log.logger()})
	d, err := receiver.NewDialer(r, url, func() receiver.DialConfig { return receiver.DialConfig{TLS: config} })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(t.Context())
	}()
	t.Cleanup(func() {
		r.Shutdown()
		<-done
	})
	return out, log
}

func pool(t testing.TB, name string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(pem)
	return p
}

func TestListen_BothProveTheKeyOverTLS(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Write(dir); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	way := DialConfig{KeyFile: file(t, "key", key1), CertFile: in("server.pem"), CertKeyFile: in("server.key")}
	trust := &tls.Config{RootCAs: pool(t, in("ca.pem"))}
	other := secrets(t, handshake.ParseKeys, key2)
	for name, tt := range map[string]struct {
		access receiver.Access
		tls    *tls.Config
		relay  string // what its log says; empty: it delivers
		recv   string // what the receiver's log says
	}{
		"the key": {
			receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1)},
			trust, "",
			"proved=key:web-1",
		},
		"not this connection": {
			receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1), Unbound: true},
			trust,
			"receiver refused.*leaves this TLS connection out.*remove --behind-proxy", "closed by the sender: 1000",
		},
		"another key": {
			receiver.Access{Keys: other},
			trust, "receiver refused.*does not know us",
			"does not match",
		},
		"no key": {
			receiver.Access{},
			trust, "receiver refused.*did not ask for our key",
			"closed by the sender: 1000",
		},
		"an unknown authority": {receiver.Access{Keys: other}, &tls.Config{}, "listening", "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			h := host(t, way)
			end := appendLines(t, h.q, 1, 5)
			out, log := dialer(t, "wss://"+h.addr, tt.access, tt.tls)
			r := &hosted{t: t, log: log}
			if tt.relay == "" {
				waitAcked(t, h.q, end)
				r.says(tt.recv)
				return
			}
			h.says(tt.relay)
			r.says(tt.recv)
			if h.q.Stats().Cursor != 1 || out.text() != "" {
				t.Errorf("lines have left the queue: %q", out.text())
			}
		})
	}
}

func TestListen_WantsAReceiversCertificate(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Write(dir); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	client, err := tls.LoadX509KeyPair(in("client.pem"), in("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := certificate(t, "stranger", time.Now().Add(time.Hour))
	byCA := DialConfig{CertFile: in("server.pem"), CertKeyFile: in("server.key"), CAFile: in("ca.pem")}
	byPin := DialConfig{CertFile: in("server.pem"), CertKeyFile: in("server.key"), Pins: []string{Pin(client.Leaf)}}
	for name, way := range map[string]DialConfig{"of an authority": byCA, "pinned": byPin} {
		h := host(t, way)
		for who, tt := range map[string]struct {
			certs []tls.Certificate
			good  bool
		}{
			"nobody": {}, "a stranger": {certs: []tls.Certificate{stranger}},
			"the client": {[]tls.Certificate{client}, true},
		} {
			p, _ := h.call(nil, &tls.Config{RootCAs: pool(t, in("ca.pem")), Certificates: tt.certs})
			if got := p != nil; got != tt.good {
				t.Errorf("%s: %s may dial: %v, want %v", name, who, got, tt.good)
			}
		}
	}

	// The certificate is replaced: the next caller sees the new one.
	h := host(t, DialConfig{CertFile: in("server.pem"), CertKeyFile: in("server.key")})
	old := pool(t, in("ca.pem"))
	if err := certs.Write(dir); err != nil {
		t.Fatal(err)
	}
	if p, _ := h.call(nil, &tls.Config{RootCAs: old}); p != nil {
		t.Error("the old certificate is still shown")
	}
	if p, _ := h.call(nil, &tls.Config{RootCAs: pool(t, in("ca.pem"))}); p == nil {
		t.Error("the new certificate is not shown")
	}
}

func TestListen_StrangersKeepNobodyOut(t *testing.T) {
	h := hostPaced(t, DialConfig{}, func(p *pace) { p.minSession = 0 })
	oldest := h.silent()
	for range 2 * maxCallers {
		h.silent()
	}
	h.shutOut(oldest)
	first, _ := h.call(nil, nil)
	first.readHello()
	var last *peer
	for range maxCallers { // these have got the hello, too, and say nothing
		if last, _ = h.call(nil, nil); last == nil {
			t.Fatal("a caller was kept out")
		}
	}
	h.shutOut(first.net) // in the middle of the handshake
	h.served()
	last.readHello()
	last.send(welcomeWith(""))
	if code := last.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("the last of the silent ones got %d, want 1013", code)
	}
	if n := h.log.count("receiver refused"); n > 1 {
		t.Errorf("%d log lines about strangers, want one at most", n)
	}
}

func TestListen_ManyStrangersDoNotShutOutWhoHasJustCome(t *testing.T) {
	h := hostPaced(t, DialConfig{}, func(p *pace) { p.minSession = time.Hour })
	p, _ := h.call(nil, nil)
	p.readHello()
	strangers := make([]net.Conn, 2*maxCallers) // half of them are not let in
	for i := range strangers {
		strangers[i] = h.silent()
	}
	inside := strangers[maxCallers-2] // who took the last place
	if _, err := inside.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := inside.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	appendLines(t, h.q, 1, 1)
	p.send(welcomeWith(""))
	d, _ := p.data()
	p.ack(d.B, d.Seq+uint64(d.N))
	waitAcked(t, h.q, d.Seq+uint64(d.N))
}

// silent is a connection that says nothing.
func (h *hosted) silent() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // the server's own patience is longer
	return c
}

// shutOut wants c to end, without a word of farewell.
func (h *hosted) shutOut(c net.Conn) {
	h.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Errorf("the oldest is still there: read %d bytes, %v", n, err)
	}
}

func TestListen_SaysWhyNobodyCanCome(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log, q := new(logged), openQueue(t)
	r := briskly(New(q, Options{Listen: ln.Addr().String(), Dial: DialConfig{KeyFile: "none"}, Log: log.logger()}))
	r.pace.quiet = time.Millisecond
	run(t, r)
	h := &hosted{Relay: r, t: t, q: q, log: log}
	h.says("cannot listen.*address already in use")
	ln.Close()
	h.says("msg=listening")
	h.says("the key cannot be used")
	if s := r.Status(); s.State != StateListening || !strings.Contains(s.LastError, "the key cannot be used") {
		t.Errorf("status %+v", s)
	}
	if strings.Contains(log.text(), "no receiver has dialled") {
		t.Error("it says that nobody dials while nobody can")
	}
}

func TestListen_SaysThatLinesWaitAndNobodyDials(t *testing.T) {
	log, q := new(logged), openQueue(t)
	r := briskly(New(q, Options{Listen: "127.0.0.1:0", Log: log.logger()}))
	r.pace.quiet = 20 * time.Millisecond
	appendLines(t, q, 1, 1)
	run(t, r)
	h := &hosted{Relay: r, t: t, q: q, log: log}
	h.says("still disconnected.*no receiver has dialled.*hint=")
}
