package login

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"wsrelay/internal/connlimit"
	"wsrelay/test/certs"
)

// What htpasswd -nbBC 5 ann 'correct horse' has printed.
const htpasswd = "ann:$2y$05$WU.R/1Cb0Olm2q9lw4lm7ONp5V.8RGK7H6DWZ7B0cyx0JtFgvw9d.\n"

func users(t *testing.T, text string) Users {
	t.Helper()
	u, err := ParseUsers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// cheap makes the line of a user, with a hash that takes no time.
func cheap(t *testing.T, name, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash) + "\n"
}

// ask gives the answer to a client behind the login, from the address 192.0.2.1
// if set says no other.
func ask(g *Auth, set ...func(*http.Request)) *http.Response {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Host = "127.0.0.1:8514"
	for _, f := range set {
		f(r)
	}
	w := httptest.NewRecorder()
	g.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })).ServeHTTP(w, r)
	return w.Result()
}

func as(name, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGate_WithoutUsersLetsInThisMachineOnly(t *testing.T) {
	if resp := ask(New(Policy{Local: true})); resp.StatusCode != http.StatusOK || body(t, resp) != "secret" {
		t.Errorf("on loopback: %d", resp.StatusCode)
	}
	resp := ask(New(Policy{}), host("logs.example"), as("ann", "correct horse"))
	if text := body(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(text, "--page-users") ||
		!strings.Contains(text, "wsreceive passwd") {
		t.Errorf("beyond: %d, %s", resp.StatusCode, text)
	}
}

func TestGate_WithUsersWantsAPassword(t *testing.T) {
	for _, local := range []bool{true, false} { // a proxy may be in between
		g := New(Policy{Users: users(t, "# who may look\n\n"+htpasswd+cheap(t, "bob", "ü and ☃")), Local: local})
		for i := range 2 { // hashed, and then remembered
			for _, tt := range []struct{ name, password string }{{"ann", "correct horse"}, {"bob", "ü and ☃"}} {
				if resp := ask(g, as(tt.name, tt.password)); resp.StatusCode != http.StatusOK ||
					body(t, resp) != "secret" {
					t.Errorf("%s, %d: %d", tt.name, i, resp.StatusCode)
				}
			}
		}
		for _, set := range []func(*http.Request){
			func(*http.Request) {}, as("ann", ""), as("ann", "ü and ☃"), as("", ""), as("eve", "correct horse"),
			as("Ann", "correct horse"),
			func(r *http.Request) { r.Header.Set("Authorization", "Bearer correct horse") },
		} {
			resp := ask(g, set)
			if text := body(t, resp); resp.StatusCode != http.StatusUnauthorized ||
				!strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") || strings.Contains(text, "secret") {
				t.Errorf("got %d, %s", resp.StatusCode, text)
			}
		}
	}
}

func TestGate_KnowsItsNames(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Write(dir, "logs.example", "*.wild.example"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	g := New(Policy{Local: true, Hosts: []string{"Proxy.example"}, Cert: cert})
	for name, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8514": 200, "localhost.": 200, "127.0.0.1:1": 200, "[::1]:8514": 200, "[::1]": 200,
		"192.0.2.7":       200,
		"logs.example:99": 200, "LOGS.example.": 200, "a.wild.example": 200, "proxy.example": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:8514": 421, "xlogs.example": 421,
		"a.b.wild.example": 421, "": 421, ":8514": 421,
	} {
		if got := ask(g, host(name)).StatusCode; got != want {
			t.Errorf("%q: got %d, want %d", name, got, want)
		}
	}
}

func TestGate_TryingPasswordsIsSlow(t *testing.T) { synctest.Test(t, tryPasswords) }

// tryPasswords runs where the clock stands still.
func tryPasswords(t *testing.T) {
	g := New(Policy{Users: users(t, htpasswd)})
	if got := ask(g, as("ann", "correct horse")).StatusCode; got != 200 {
		t.Fatalf("got %d", got)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	got := map[int]int{}
	for i := range 3 * mostTries { // at once, as who tries would
		all.Go(func() {
			resp := ask(g, as("ann", fmt.Sprint("wrong ", i)), from(fmt.Sprintf("[2001:db8::%d]:1", i)))
			mu.Lock()
			defer mu.Unlock()
			got[resp.StatusCode]++
		})
	}
	all.Wait()
	if got[401] != mostTries || got[429] != 2*mostTries {
		t.Errorf("got %v, want %d × 401, the others 429", got, mostTries)
	}
	if got := ask(g, as("ann", "correct horse"), from("[2001:db8::9999]:1")).StatusCode; got != 200 {
		t.Errorf("who was known: got %d", got)
	}
	if got := ask(g, as("ann", "wrong"), from("[2001:db8:0:1::1]:1")).StatusCode; got != 401 {
		t.Errorf("from elsewhere: got %d", got)
	}
}

func TestTries_ComeBackWithTime(t *testing.T) {
	tr, now, a := newTries(), time.Now(), try{netip.MustParseAddr("192.0.2.1"), "ann"}
	used := func() (n int) {
		for tr.allow(a, now) {
			n++
		}
		return n
	}
	if got := used(); got != mostTries {
		t.Errorf("got %d tries", got)
	}
	now = now.Add(eachTry)
	if got := used(); got != 1 {
		t.Errorf("%v later: got %d", eachTry, got)
	}
	tr.refund(a)
	if got := used(); got != 1 {
		t.Errorf("returned: got %d", got)
	}
	now = now.Add(time.Hour)
	if got := used(); got != mostTries {
		t.Errorf("an hour later: got %d", got)
	}
	for i := range 2 * maxSources {
		tr.allow(try{from: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, now)
	}
	if len(tr.owing) > maxSources {
		t.Errorf("%d addresses are remembered", len(tr.owing))
	}
}

// Who is no user any more loses what is being answered, too.
func TestGate_ANewPolicyEndsWhatWasAllowed(t *testing.T) {
	g := New(Policy{Users: users(t, htpasswd)})
	in, ended := make(chan struct{}), make(chan struct{})
	r := httptest.NewRequest(http.MethodGet, "/api/tail", nil)
	r.Host = "127.0.0.1"
	r.SetBasicAuth("ann", "correct horse")
	go func() {
		defer close(ended)
		g.Before(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(in)
			<-r.Context().Done()
		})).ServeHTTP(httptest.NewRecorder(), r)
	}()
	<-in
	g.Set(Policy{Users: users(t, cheap(t, "bob", "b"))})
	<-ended
	if got := ask(g, as("ann", "correct horse")).StatusCode; got != 401 {
		t.Errorf("who was a user: got %d", got)
	}
	if got := ask(g, as("bob", "b")).StatusCode; got != 200 {
		t.Errorf("who is one: got %d", got)
	}
}

func TestParseUsers_SaysWhatIsWrongAndShowsNothing(t *testing.T) {
	hash := strings.TrimSpace(htpasswd[4:])
	for text, want := range map[string]string{
		"":                           "no user in it",
		"\n# nobody\n":               "no user in it",
		htpasswd + "sesame":          "line 2: want name:hash",
		":" + hash:                   "line 1: want name:hash",
		"ann:sesame":                 "line 1: this is not a bcrypt hash",
		"ann:$apr1$sesame$x":         "line 1: this is not a bcrypt hash",
		htpasswd + htpasswd:          "line 2: a name that is there already",
		"a:" + "$2y$31" + hash[6:]:   "line 1: cost 31 is too slow",
		strings.Repeat("x", 100_000): "token too long",
	} {
		_, err := ParseUsers([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func TestLine_RefusesWhatCouldNotBeUsed(t *testing.T) {
	for name, password := range map[string]string{
		"": "x", "a:b": "x", "a b": "x", "#a": "x", "a\n": "x", "empty": "", "long": strings.Repeat("x", 73),
	} {
		if line, err := Line(name, []byte(password)); err == nil {
			t.Errorf("%q: got %s", name, line)
		}
	}
	line, err := Line("long", []byte(strings.Repeat("x", maxPassword)))
	if err != nil {
		t.Fatal(err)
	}
	if bcrypt.CompareHashAndPassword(users(t, line)["long"], []byte(strings.Repeat("x", maxPassword))) != nil {
		t.Error("the longest password does not fit its line")
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte(htpasswd))
	f.Add([]byte("a:$2y$31$\n:\n#"))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := ParseUsers(text)
		if (err == nil) == (len(u) == 0) {
			t.Errorf("%q: %d users, %v", text, len(u), err)
		}
		for name, hash := range u {
			if cost, err := bcrypt.Cost(hash); name == "" || err != nil || cost > maxCost {
				t.Errorf("%q: %q, cost %d, %v", text, name, cost, err)
			}
		}
	})
}

func forwarded(hops ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.RemoteAddr = "127.0.0.1:1"
		for _, h := range hops {
			r.Header.Add("X-Forwarded-For", h)
		}
	}
}

// Twelve wrong passwords, through a proxy, keep nobody out but him who tries: not
// another user there, and not the same user elsewhere.
func TestGate_WrongPasswordsLockOutWhoTriesOnly(t *testing.T) {
	two := htpasswd + cheap(t, "bob", "battery staple")
	for name, proxied := range map[string]bool{"behind a proxy": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			at := func(addr string) func(*http.Request) {
				if proxied {
					return forwarded("10.0.0.1", "198.51.100.1, "+addr)
				}
				return from(addr + ":1")
			}
			g := New(Policy{Users: users(t, two), Proxied: proxied})
			for range mostTries + 2 {
				ask(g, as("ann", "wrong"), at("192.0.2.1"))
				ask(g, as("nobody", "wrong"), at("192.0.2.1"))
			}
			for _, c := range []struct {
				user, password, addr string
				want                 int
			}{
				{"ann", "correct horse", "192.0.2.1", http.StatusTooManyRequests},
				{"bob", "battery staple", "192.0.2.1", http.StatusOK},
				{"ann", "correct horse", "192.0.2.2", http.StatusOK},
			} {
				if got := ask(g, as(c.user, c.password), at(c.addr)).StatusCode; got != c.want {
					t.Errorf("%s from %s: got %d, want %d", c.user, c.addr, got, c.want)
				}
			}
		})
	}
}

// What stands in X-Forwarded-For before the last hop, or without a proxy of ours,
// anybody can have written.
func TestGate_BelievesTheLastHopOfItsProxyOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		proxied bool
		hops    func(i int) func(*http.Request)
	}{
		"no proxy":       {false, func(i int) func(*http.Request) { return forwarded(fmt.Sprint("192.0.2.", i)) }},
		"an earlier hop": {true, func(i int) func(*http.Request) { return forwarded(fmt.Sprintf("192.0.2.%d, 198.51.100.1", i)) }},
		"no address":     {true, func(i int) func(*http.Request) { return forwarded(fmt.Sprint("host", i)) }},
	} {
		g, last := New(Policy{Users: users(t, htpasswd), Proxied: tt.proxied}), 0
		for i := range mostTries + 1 {
			last = ask(g, as("ann", "wrong"), tt.hops(i)).StatusCode
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("%s: got %d for one try more than there are", name, last)
		}
	}
}

// The hashes of users may have different costs: the time that a login takes tells
// neither which, nor whether there is such a user.
func TestGate_ALoginTakesTheSameForEveryName(t *testing.T) {
	work := 0
	compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Error(err)
		}
		work += 1 << cost
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	defer func() { compare = bcrypt.CompareHashAndPassword }()
	dear, err := bcrypt.GenerateFromPassword([]byte("battery staple"), 8)
	if err != nil {
		t.Fatal(err)
	}
	g := New(Policy{Users: users(t, htpasswd+"bob:"+string(dear)+"\n")})
	for _, user := range [][2]string{
		{"ann", "wrong"},
		{"bob", "wrong"},
		{"eve", "wrong"},
		{"eve", ""},
		{"ann", "correct horse"},
		{"bob", "battery staple"},
	} {
		work = 0
		got := ask(g, as(user[0], user[1])).StatusCode
		if in := got == http.StatusOK; work != 1<<8 || in != (len(user[1]) > 5) {
			t.Errorf("%s with %q: got %d, and %d rounds, want %d", user[0], user[1], got, work, 1<<8)
		}
	}
}

// The connection of a user is none of the strangers' any more.
func TestGate_ALoginAdmitsTheConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const places = 3
	g := New(Policy{Users: users(t, htpasswd)})
	shown, watching := make(chan struct{}), make(chan struct{})
	srv := &http.Server{ConnContext: connlimit.Context, Handler: g.Before(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request,
	) {
		if User(r) != "ann" {
			t.Errorf("the user is %q", User(r))
		}
		close(watching)
		<-shown
		_, _ = io.WriteString(w, "secret")
	}))}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(connlimit.New(ln, places, 0)) }()
	defer func() { srv.Close(); <-served }()

	answer := make(chan string, 1)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln.Addr().String()+"/", nil)
		req.SetBasicAuth("ann", "correct horse")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answer <- string(text)
	}()
	<-watching
	for range 10 * places { // strangers that connect and say nothing
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, err := net.Dial("tcp", ln.Addr().String()) // that another has come in shows that all before were accepted
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	fmt.Fprint(first, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(shown)
	if got := <-answer; got != "secret" {
		t.Errorf("the user got %q", got)
	}
}
