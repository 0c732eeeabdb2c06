package relay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

func TestAddress_TakesWebSocketAddresses(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"ws://h", "ws://h/relay"},
		{"wss://h:8514", "wss://h:8514/relay"},
		{"wss://h/", "wss://h/"},
		{"WSS://h/a/b?c=d", "wss://h/a/b?c=d"},
		{"ws://[::1]:80/x", "ws://[::1]:80/x"},
	} {
		u, err := new(Options).address(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
		} else if got := u.String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestParseURL_SaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"http://h/relay", "write ws://"},
		{"https://h/relay", "write wss://"},
		{"h:8514", "want ws://HOST"},
		{"localhost", "want ws://HOST"},
		{"", "want ws://HOST"},
		{"ws://", "no host"},
		{"ws://:80/relay", "no host"},
		{"ws://h/#x", "#fragment"},
		{"wss://user:sesame@h/", "--token-file"},
		{"http://user:sesame@h/", "--token-file"},
		{"user:sesame@h/", "want ws://HOST"},
		{"http://h/relay?token=sesame", `"http://h/relay": write ws://`},
		{"ws://?token=sesame", `"ws://": no host`},
		{"ws://h/#token=sesame", `"ws://h/": a WebSocket URL has no #fragment`},
		{"ws://user:sesame@h:port/", "port"},
		{"ws://h/%zz", "invalid URL escape"},
	} {
		_, err := ParseURL(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want it to say %q", tt.in, err, tt.want)
		} else if strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: the error gives the password away: %v", tt.in, err)
		}
	}
}

func TestShown_LeavesOutTheQuery(t *testing.T) {
	u, err := ParseURL("wss://h:1/a?token=sesame")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := logURL(u), "wss://h:1/a"; got != want || u.RawQuery == "" {
		t.Errorf("got %s, want %s, and the URL as it was: %s", got, want, u)
	}
}

// certificate makes a self-signed one for 127.0.0.1 or for name, and a file
// with it.
func certificate(t *testing.T, name string, until time.Time) (cert tls.Certificate, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca
}

// dialed is what dialling u with o comes to.
func dialed(t *testing.T, u string, o Options) *Fault {
	t.Helper()
	r := New(nil, o)
	r.pace.dial = time.Second
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	with, fault := o.Dial.ready(parsed)
	if fault != nil {
		return fault
	}
	conn, w, fault := r.dial(t.Context(), parsed, with)
	if conn != nil {
		if w == nil {
			t.Error("the connection has no wire")
		}
		conn.Close()
	}
	return fault
}

func checkFault(t *testing.T, f *Fault, what string, hold bool) {
	t.Helper()
	if f == nil {
		t.Fatalf("connected, want %q", what)
	}
	if !strings.Contains(f.What, what) || f.permanent != hold {
		t.Errorf("got %q (%v), hold %v; want %q, hold %v", f.What, f.Err, f.permanent, what, hold)
	}
	if f.Effect == "" || f.Hint == "" {
		t.Errorf("%q: effect is %q, hint is %q", f.What, f.Effect, f.Hint)
	}
}

func TestDial_SaysWhatATLSPortIs(t *testing.T) {
	day := 24 * time.Hour
	good, ca := certificate(t, "127.0.0.1", time.Now().Add(day))
	other, otherCA := certificate(t, "other.example", time.Now().Add(day))
	old, oldCA := certificate(t, "127.0.0.1", time.Now().Add(-day))

	for name, tt := range map[string]struct {
		cert   tls.Certificate
		roots  string
		client tls.ClientAuthType
		scheme string
		want   string
	}{
		"unknown authority":  {cert: good, roots: otherCA, want: "unknown authority"},
		"other name":         {cert: other, roots: otherCA, want: "for another name"},
		"expired":            {cert: old, roots: oldCA, want: "expired"},
		"client certificate": {cert: good, roots: ca, client: tls.RequireAnyClientCert, want: "refuses our side of TLS"},
		"plain to TLS":       {cert: good, roots: ca, scheme: "ws", want: "requires TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(handler(t, func(*peer) {}))
			srv.Config.ErrorLog = quiet()
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{tt.cert}, ClientAuth: tt.client}
			srv.StartTLS()
			defer srv.Close()
			scheme := "wss"
			if tt.scheme != "" {
				scheme = tt.scheme
			}
			f := dialed(t, scheme+"://"+srv.Listener.Addr().String(), Options{Dial: DialConfig{CAFile: tt.roots}})
			checkFault(t, f, tt.want, true)
		})
	}
	t.Run("good", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(handler(t, func(*peer) {}))
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{good}}
		srv.StartTLS()
		defer srv.Close()
		if f := dialed(t, "wss://"+srv.Listener.Addr().String(), Options{Dial: DialConfig{CAFile: ca}}); f != nil {
			t.Errorf("got %v", f)
		}
	})
}

func TestDial_SaysWhatAnHTTPAnswerMeans(t *testing.T) {
	for _, tt := range []struct {
		code  int
		head  string
		value string
		want  string
		hold  bool
		floor time.Duration
	}{
		{code: 401, want: "not authenticated", hold: true},
		{code: 403, want: "forbidden", hold: true},
		{code: 404, want: "nothing at this path", hold: true},
		{code: 426, want: "another version", hold: true},
		{code: 302, head: "Location", value: "https://elsewhere/", want: "redirects to another address", hold: true},
		{code: 200, want: "instead of opening a WebSocket", hold: true},
		{code: 429, head: "Retry-After", value: "7", want: "retry later", floor: 7 * time.Second},
		{code: 503, head: "Retry-After", value: "120", want: "retry later", floor: 2 * time.Minute},
		{code: 503, want: "retry later"},
		{code: 503, head: "Retry-After", value: "-5", want: "retry later"},
		{code: 502, want: "HTTP 502"},
	} {
		t.Run(http.StatusText(tt.code)+tt.value, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.head != "" {
					w.Header().Set(tt.head, tt.value)
				}
				w.WriteHeader(tt.code)
			}))
			defer srv.Close()
			f := dialed(t, "ws://"+srv.Listener.Addr().String(), Options{})
			checkFault(t, f, tt.want, tt.hold)
			if f.floor != tt.floor {
				t.Errorf("stays away %v, want %v", f.floor, tt.floor)
			}
		})
	}
}

func TestDial_SaysWhatAServerIsNot(t *testing.T) {
	for name, tt := range map[string]struct {
		up   websocket.Upgrader
		head http.Header
		want string
	}{
		"no subprotocol":    {want: "does not speak wsrelay.v1"},
		"other subprotocol": {head: http.Header{"Sec-Websocket-Protocol": {"mqtt"}}, want: "does not speak wsrelay.v1"},
		"an extension": {
			up:   websocket.Upgrader{Subprotocols: []string{handshake.Subprotocol}},
			head: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; server_no_context_takeover; client_no_context_takeover"}},
			want: "violates the protocol",
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if c, err := hijacked(w, req, &tt.up, tt.head); err == nil {
					c.Close()
				}
			}))
			defer srv.Close()
			checkFault(t, dialed(t, "ws://"+srv.Listener.Addr().String(), Options{}), tt.want, true)
		})
	}
}

// hijacked upgrades with head, which gorilla's server would not send all of.
func hijacked(w http.ResponseWriter, req *http.Request, up *websocket.Upgrader, head http.Header) (net.Conn, error) {
	if head.Get("Sec-Websocket-Extensions") == "" {
		c, err := up.Upgrade(w, req, head)
		if err != nil {
			return nil, err
		}
		return c.NetConn(), nil
	}
	req.Header.Set("Sec-Websocket-Extensions", "permessage-deflate")
	up.EnableCompression = true
	c, err := up.Upgrade(w, req, nil)
	if err != nil {
		return nil, err
	}
	return c.NetConn(), nil
}

func TestDial_SaysWhyThereIsNoConnection(t *testing.T) {
	listen := func(t *testing.T, serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serve(c)
			}
		}()
		t.Cleanup(func() { l.Close(); <-done })
		return l.Addr().String()
	}
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		checkFault(t, dialed(t, "ws://"+l.Addr().String(), Options{}), "refused", false)
	})
	t.Run("closed at once", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) { c.Close() })
		checkFault(t, dialed(t, "ws://"+addr, Options{}), "closed before the upgrade", false)
	})
	t.Run("silent", func(t *testing.T) {
		var held []net.Conn
		addr := listen(t, func(c net.Conn) { held = append(held, c) })
		checkFault(t, dialed(t, "ws://"+addr, Options{}), "no answer in time", false)
	})
	t.Run("TLS to plain", func(t *testing.T) {
		srv := httptest.NewServer(http.NotFoundHandler())
		defer srv.Close()
		checkFault(t, dialed(t, "wss://"+srv.Listener.Addr().String(), Options{}), "does not speak TLS", true)
	})
	t.Run("plain to TLS that answers with an alert", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = c.Write([]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46, '\n'})
			c.(*net.TCPConn).CloseWrite()
			_, _ = c.Read(make([]byte, 4096))
			c.Close()
		})
		checkFault(t, dialed(t, "ws://"+addr, Options{}), "requires TLS", true)
	})
	for want, err := range map[string]error{
		"no such host":           &net.DNSError{Err: "no such host", Name: "h", IsNotFound: true},
		"could not be looked up": &net.DNSError{Err: "server misbehaving", Name: "h", IsTemporary: true},
		"no connection":          net.UnknownNetworkError("x"),
		"no answer in time":      context.DeadlineExceeded,
	} {
		t.Run(want, func(t *testing.T) {
			checkFault(t, dialFault(&net.OpError{Op: "dial", Err: err}), want, false)
		})
	}
}

func TestDial_EndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Read(make([]byte, 1)) // the request has come
			cancel()
			_, _ = c.Read(make([]byte, 4096))
			defer c.Close()
			<-t.Context().Done()
		}
	}()
	r := New(nil, Options{})
	r.pace.dial = time.Hour
	if _, _, fault := r.dial(ctx, &url.URL{Scheme: "ws", Host: l.Addr().String()}, &credentials{}); fault == nil {
		t.Error("connected")
	}
}
