package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"wsrelay/handshake"
	"wsrelay/internal/retry"
	"wsrelay/receiver"
)

const (
	key1 = "web-1 000102030405060708090a0b0c0d0e0f"
	key2 = "web-1 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

// file writes a file of the test's own, which only its owner may read.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func secrets(t testing.TB, parse func([]byte) (handshake.Secrets, error), text string) handshake.Secrets {
	t.Helper()
	s, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// real is the receiver of this project, behind TLS; what it stores is in out.
type real struct {
	*receiver.Receiver
	addr    string
	ca      string // a file
	cert    *x509.Certificate
	clients *x509.CertPool // whose certificates it takes
	out     *logged
	log     *logged
}

func startReal(t testing.TB, a receiver.Access) *real {
	t.Helper()
	r := &real{out: new(logged), log: new(logged)}
	r.Receiver = receiver.New(stdout.New(r.out), receiver.Options{Access: a, Log: r.log.logger()})
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ErrorLog = quiet()
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(r.Shutdown)
	r.addr, r.cert = srv.Listener.Addr().String(), srv.Certificate()
	r.ca = file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})))
	r.clients = x509.NewCertPool()
	srv.TLS.ClientCAs = r.clients
	return r
}

func (r *real) url() string { return "wss://" + r.addr + "/relay" }

// tries gives the fault that each attempt of a relay of one line ends with.
func tries(t *testing.T, u string, w DialConfig) *Fault {
	t.Helper()
	q := openQueue(t)
	appendLines(t, q, 1, 1)
	parsed, err := ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	r := New(q, Options{Dial: w, Host: "web-1", Ping: time.Second})
	r.backoff = retry.Connect(time.Second)
	end := r.once(t.Context(), parsed)
	if q.Stats().Cursor != 1 {
		t.Error("a line has left the queue")
	}
	if end.fault == nil {
		t.Fatal("the session came to its end without a fault")
	}
	return end.fault
}

func TestRelay_DeliversToWhoProvesTheSameKey(t *testing.T) {
	r := startReal(t, receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1+"\n"+key2)})
	keyFile := file(t, "key", key1)
	q := openQueue(t)
	relay := briskly(New(q, Options{
		URLs: []string{r.url()}, Host: "web-1",
		Dial: DialConfig{KeyFile: keyFile, CAFile: r.ca},
	}))
	run(t, relay)
	waitAcked(t, q, appendLines(t, q, 2, 10))

	// The key is replaced: first here, then the old one goes there.
	if err := os.WriteFile(keyFile, []byte(key2), 0o600); err != nil {
		t.Fatal(err)
	}
	r.SetAccess(receiver.Access{Keys: secrets(t, handshake.ParseKeys, key2)})
	waitAcked(t, q, appendLines(t, q, 2, 10))
	if got := r.log.count("proved=key:web-1"); got != 2 {
		t.Errorf("%d sessions with the key, want one with each:\n%s", got, r.log.text())
	}
	if got := r.out.count("\n"); got != 40 {
		t.Errorf("%d lines arrived, want 40", got)
	}
}

func TestRelay_HoldsWhereItIsNotKnown(t *testing.T) {
	key := secrets(t, handshake.ParseKeys, key1)
	token := secrets(t, handshake.ParseTokens, "ci abcdefghijklmnop")
	for name, tt := range map[string]struct {
		access receiver.Access
		way    DialConfig
		want   string
	}{
		"another key": {
			receiver.Access{Keys: key},
			DialConfig{KeyFile: file(t, "k", key2)},
			"does not know us",
		},
		"another kid": {
			receiver.Access{Keys: key},
			DialConfig{KeyFile: file(t, "k", "x"+key1)},
			"does not know us",
		},
		"no key": {receiver.Access{Keys: key}, DialConfig{}, "does not know us"},
		"for another host": {
			receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1+" host=db")},
			DialConfig{KeyFile: file(t, "k", key1)},
			"forbids it",
		},
		"the receiver is not": {receiver.Access{}, DialConfig{KeyFile: file(t, "k", key1)}, "did not ask for our key"},
		"token for a key": {
			receiver.Access{Tokens: token},
			DialConfig{KeyFile: file(t, "k", key1), TokenFile: file(t, "t", "abcdefghijklmnop\n")},
			"did not ask for our key",
		},
		"another token": {
			receiver.Access{Tokens: token},
			DialConfig{TokenFile: file(t, "t", "abcdefghijklmnoP")},
			"HTTP 401",
		},
		"no token":       {receiver.Access{Tokens: token}, DialConfig{}, "HTTP 401"},
		"no certificate": {receiver.Access{Certificates: true}, DialConfig{}, "HTTP 401"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReal(t, tt.access)
			tt.way.CAFile = r.ca
			checkFault(t, tries(t, r.url(), tt.way), tt.want, true)
			if r.out.text() != "" {
				t.Errorf("something was stored: %q", r.out.text())
			}
		})
	}
}

// A receiver that does not hold the key gets no line.
func TestCheck_SaysThatAKeyMayBeForAnotherStream(t *testing.T) {
	r := startReal(t, receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1+" sid=000000000000000v")})
	o := Options{Host: "web-1", Dial: DialConfig{KeyFile: file(t, "key", key1), CAFile: r.ca}}
	step, fault := Check(t.Context(), o, r.url(), func(string, string) {})
	if step != "handshake" || fault == nil || !strings.Contains(fault.Hint, "sid=") {
		t.Errorf("got %s, %+v; want a hint about sid=", step, fault)
	}
}

func TestRelay_HoldsWhereTheReceiverProvesNothing(t *testing.T) {
	key := DialConfig{KeyFile: file(t, "key", key1)}
	chal := func(cb string) *handshake.Chal {
		return &handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: cb}
	}
	for name, tt := range map[string]struct {
		way  DialConfig
		want string
		run  script
	}{
		"no challenge":     {key, "did not ask", func(p *peer) { p.greet() }},
		"a mac, not asked": {key, "did not ask", func(p *peer) { p.greet(func(w *handshake.Welcome) { w.MAC = strings.Repeat("0", 64) }) }},
		"no mac":           {key, "does not prove", func(p *peer) { p.readHello(); p.send(chal("none")); p.frame(); p.send(welcomeWith("")) }},
		"our own mac back": {key, "does not prove", reflect},
		"challenged twice": {key, "violates the protocol", func(p *peer) { p.readHello(); p.send(chal("none")); p.frame(); p.send(chal("none")) }},
		"a short nonce": {key, "violates the protocol", func(p *peer) {
			p.readHello()
			p.send(&handshake.Chal{Nonce: "1", Mech: handshake.MechHMAC, CB: "none"})
		}},
		"another mechanism": {key, "violates the protocol", func(p *peer) { c := chal("none"); c.Mech = "plain"; p.readHello(); p.send(c) }},
		"bound without TLS": {
			key, "a proxy terminates TLS",
			func(p *peer) { p.readHello(); p.send(chal("tls-exporter")) },
		},
		"bound in a new way": {key, "an unknown kind of proof", func(p *peer) { p.readHello(); p.send(chal("tls-unique")) }},
		"we have no key":     {DialConfig{}, "asks for a key", func(p *peer) { p.readHello(); p.send(chal("none")) }},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(handler(t, func(p *peer) {
				tt.run(p)
				kind, msg, err := p.ReadMessage()
				if err == nil && !bytes.Contains(msg, []byte(`"bye"`)) {
					t.Errorf("the impostor got a message of kind %d: %.80q", kind, msg)
				}
			}))
			defer srv.Close()
			checkFault(t, tries(t, "ws://"+srv.Listener.Addr().String(), tt.way), tt.want, true)
		})
	}
}

func welcomeWith(mac string) *handshake.Welcome {
	return &handshake.Welcome{
		MAC: mac, Win: handshake.Win{Bytes: 1 << 20, Batches: 16}, Max: 1 << 20, MaxRaw: 1 << 20, HB: 20000,
		AckTo: 30000,
	}
}

// reflect sends a sender's own proof back to it.
func reflect(p *peer) {
	p.readHello()
	p.send(&handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: handshake.CBNone})
	auth, _ := p.frame().(*handshake.Auth)
	p.send(welcomeWith(auth.MAC))
}

func TestRelay_ShowsItsTokenOverTLS(t *testing.T) {
	r := startReal(t, receiver.Access{Tokens: secrets(t, handshake.ParseTokens, "ci abcdefghijklmnop")})
	q := openQueue(t)
	log := new(logged)
	relay := New(q, Options{
		URLs: []string{r.url()}, Log: log.logger(),
		Dial: DialConfig{
			TokenFile: file(t, "token", " abcdefghijklmnop\n"), CAFile: r.ca,
			Header: http.Header{"X-Tenant": {"7"}},
		},
	})
	run(t, relay)
	waitAcked(t, q, appendLines(t, q, 1, 1))
	if strings.Contains(log.text()+r.log.text(), "abcdefghijklmnop") {
		t.Error("the token is in a log")
	}
}

func TestWay_SaysWhatCannotBeUsed(t *testing.T) {
	good := file(t, "good", key1)
	token := file(t, "token", "abcdefghijklmnop")
	empty := file(t, "empty", "")
	for name, tt := range map[string]struct {
		way DialConfig
		url string
		want,
		err string
	}{
		"no key file":       {DialConfig{KeyFile: "none"}, "wss://h", "the key cannot be used", "no such file"},
		"an empty key file": {DialConfig{KeyFile: empty}, "wss://h", "the key cannot be used", "no line"},
		"two keys": {
			DialConfig{KeyFile: file(t, "two", key1+"\n"+key2)},
			"wss://h", "the key cannot be used",
			"2 keys",
		},
		"no token file": {DialConfig{TokenFile: "none"}, "wss://h", "the token cannot be used", "no such file"},
		"two tokens": {
			DialConfig{TokenFile: file(t, "two", "abcdefghijklmnop\nabcdefghijklmnop")},
			"wss://h",
			"the token cannot be used", "a token and nothing else",
		},
		"a line of --tokens": {DialConfig{TokenFile: file(t, "line", "abcdefghijklmnop host=web-1")}, "wss://h", "the token cannot be used", "a token and nothing else"},
		"a token and a line": {DialConfig{TokenFile: file(t, "more", "abcdefghijklmnop\nci abcdefghijklmnop")}, "wss://h", "the token cannot be used", "a token and nothing else"},
		"a token in clear":   {DialConfig{TokenFile: token}, "ws://192.0.2.1", "must not travel without TLS", ""},
		"through a proxy": {
			DialConfig{TokenFile: token, Proxy: "http://p"},
			"ws://127.0.0.1",
			"must not travel without TLS", "",
		},
		"no authorities":    {DialConfig{CAFile: "none"}, "wss://h", "cannot be read", "no such file"},
		"empty authorities": {DialConfig{CAFile: empty}, "wss://h", "holds no certificate", "empty"},
		"no certificate": {
			DialConfig{CertFile: "none", CertKeyFile: good},
			"wss://h",
			"our certificate cannot be used", "no such file",
		},
		"no certificate key": {DialConfig{CertFile: good, CertKeyFile: "none"}, "wss://h", "the key of our certificate", "no such file"},
		"a SOCKS proxy": {
			DialConfig{Proxy: "socks5://sesame@p"},
			"wss://h", "the proxy cannot be used",
			"want http://",
		},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			_, f := tt.way.ready(u)
			checkFault(t, f, tt.want, true)
			if got := f.Error(); !strings.Contains(got, tt.err) || strings.Contains(got, "sesame") ||
				strings.Contains(got, "000102") {
				t.Errorf("got %q, want it to say %q and no secret", got, tt.err)
			}
		})
	}
	for _, u := range []string{"wss://h", "ws://127.0.0.1:1", "ws://[::1]", "ws://localhost"} {
		parsed, _ := url.Parse(u)
		way := DialConfig{TokenFile: token}
		if c, f := way.ready(parsed); f != nil || c.header.Get("Authorization") != "Bearer abcdefghijklmnop" {
			t.Errorf("%s: got %v, want the token in the header", u, f)
		}
	}
}

func TestRelay_SaysOnceThatOthersCanReadASecret(t *testing.T) {
	loose := file(t, "key", key1)
	if err := os.Chmod(loose, 0o640); err != nil {
		t.Fatal(err)
	}
	log := new(logged)
	r := New(nil, Options{Log: log.logger()})
	for _, name := range []string{loose, loose, file(t, "tight", key1)} {
		c, f := (&DialConfig{KeyFile: name}).ready(&url.URL{Scheme: "wss"})
		if f != nil {
			t.Fatal(f)
		}
		r.warn(c.exposed)
	}
	if got := log.count("others can read"); got != 1 {
		t.Errorf("said %d times, want once:\n%s", got, log.text())
	}
}

func TestWay_PinsAKey(t *testing.T) {
	day := 24 * time.Hour
	cert, ca := certificate(t, "other.example", time.Now().Add(day))
	old, _ := certificate(t, "127.0.0.1", time.Now().Add(-day))
	leaf := func(c tls.Certificate) *x509.Certificate {
		parsed, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for name, tt := range map[string]struct {
		cert tls.Certificate
		way  DialConfig
		want string // empty: it connects
	}{
		"whatever its name":   {cert, DialConfig{Pins: []string{Pin(leaf(cert))}}, ""},
		"however old":         {old, DialConfig{Pins: []string{Pin(leaf(old))}}, ""},
		"one of two":          {cert, DialConfig{Pins: []string{Pin(leaf(old)), Pin(leaf(cert))}}, ""},
		"another key":         {cert, DialConfig{Pins: []string{Pin(leaf(old))}}, "not the pinned one"},
		"authority, too":      {cert, DialConfig{Pins: []string{Pin(leaf(cert))}, CAFile: ca}, "another name"},
		"authority, and name": {cert, DialConfig{CAFile: ca}, "another name"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(handler(t, func(*peer) {}))
			srv.Config.ErrorLog = quiet()
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{tt.cert}}
			srv.StartTLS()
			defer srv.Close()
			f := dialed(t, "wss://"+srv.Listener.Addr().String(), Options{Dial: tt.way})
			if tt.want == "" && f != nil {
				t.Errorf("got %v", f)
			} else if tt.want != "" {
				checkFault(t, f, tt.want, true)
			}
		})
	}
	for _, s := range []string{"", "sha256//", "sha256//AAAA", Pin(leaf(cert))[1:], "sha1//" + Pin(leaf(cert))[8:]} {
		if ParsePin(s) == nil {
			t.Errorf("ParsePin(%q): no error", s)
		}
	}
	if err := ParsePin(Pin(leaf(cert))); err != nil {
		t.Error(err)
	}
}

// connectProxy is an HTTP proxy that connects clients that ask for host to addr; it
// keeps the requests.
type connectProxy struct {
	mu   sync.Mutex
	asks []*http.Request
}

func (c *connectProxy) start(t *testing.T, addr string) (host string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c.mu.Lock()
		c.asks = append(c.asks, req)
		c.mu.Unlock()
		there, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(there, here); there.Close() })
		both.Go(func() { _, _ = io.Copy(here, there); here.Close() })
		both.Wait()
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestDial_GoesThroughAProxy(t *testing.T) {
	r := startReal(t, receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1)})
	proxy := new(connectProxy)
	addr := proxy.start(t, r.addr)
	q := openQueue(t)
	stop := run(t, New(q, Options{URLs: []string{"wss://example.com:8514"}, Host: "web-1", Dial: DialConfig{
		KeyFile: file(t, "key", key1), CAFile: r.ca, Proxy: "http://user:pass%3Aword@" + addr, // the test server's certificate is for example.com
	}}))
	waitAcked(t, q, appendLines(t, q, 1, 1))
	stop()
	ask := proxy.asks[0]
	user, password, _ := (&http.Request{Header: http.Header{"Authorization": ask.Header["Proxy-Authorization"]}}).BasicAuth()
	if ask.Method != http.MethodConnect || ask.RequestURI != "example.com:8514" || user != "user" ||
		password != "pass:word" {
		t.Errorf("the proxy was asked %s %s by %q with %q", ask.Method, ask.RequestURI, user, password)
	}
}

func TestDial_SaysWhatAProxyMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		want   string
		hold   bool
	}{
		"credentials": {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "it requires credentials", true},
		"forbidden":   {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refuses to connect us to h:80", true},
		"unreachable": {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "cannot reach h:80", false},
		"talkative":   {"HTTP/1.1 200 OK\r\n\r\nSSH-2.0", "no connection", false},
		"endless":     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), "closed before the upgrade", false},
		"not HTTP":    {"SSH-2.0\r\n", "no connection", false},
		"closed":      {"", "closed before the upgrade", false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			defer served.Wait()
			defer l.Close()
			served.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, tt.answer)
			})
			f := dialed(t, "ws://h", Options{Dial: DialConfig{Proxy: "http://u:sesame@" + l.Addr().String()}})
			checkFault(t, f, tt.want, tt.hold)
			if strings.Contains(f.Error(), "sesame") {
				t.Errorf("the password is in %q", f)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	checkFault(t, dialed(t, "ws://h", Options{Dial: DialConfig{Proxy: "http://" + l.Addr().String()}}),
		"the proxy "+l.Addr().String()+": connection refused", false)
}
