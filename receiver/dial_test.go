package receiver

import (
	"context"
	"crypto/sha1" //nolint:gosec // of the WebSocket handshake
	"encoding/base64"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// post is a scripted relay that listens: calls are the connections of those who
// have dialled, in the order in which they came.
type post struct {
	url   string
	calls chan *sender
}

func listen(t testing.TB) *post {
	t.Helper()
	p := &post{calls: make(chan *sender, 10)}
	up := websocket.Upgrader{Subprotocols: []string{handshake.Subprotocol}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := up.Upgrade(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // of a test that hangs
		p.calls <- &sender{t: t, conn: conn}
	}))
	t.Cleanup(srv.Close)
	p.url = strings.Replace(srv.URL, "http", "ws", 1)
	return p
}

// next is the next call, after hello and welcome.
func (p *post) next() *sender {
	s := <-p.calls
	s.control(hello(1))
	want[*handshake.Welcome](s)
	return s
}

// dialling lets a receiver dial url until the test ends.
func dialling(t testing.TB, url string, o Options) (r *Receiver, d *Dialer, store *memStore, log *lockedBuffer) {
	t.Helper()
	store, log = &memStore{}, new(lockedBuffer)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	r = New(store, o)
	d, err := NewDialer(r, url, func() DialConfig { return DialConfig{} })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		r.Shutdown()
		wg.Wait()
	})
	return r, d, store, log
}

func TestDialer_TakesLinesAndComesBack(t *testing.T) {
	p := listen(t)
	_, d, store, log := dialling(t, p.url, Options{})
	s := p.next()
	s.lines(1, "one", "two")
	s.wantAck(3)
	if st := d.State(); !st.Connected || !strings.HasPrefix(st.String(), p.url+"/relay connected since 2") {
		t.Errorf("state %v, want connected", st)
	}
	s.conn.NetConn().Close()

	s = p.next()
	s.lines(1, "one", "two", strings.Repeat("three", maxAnswer)) // what bounds the answer to the upgrade is over
	s.wantAck(4)
	s.control(&handshake.Bye{Why: "drain", AfterMS: 10})
	s.wantClose(websocket.CloseNormalClosure)
	s.conn.Close()

	s = p.next()
	s.conn.Close()
	if got := store.count(); got != 3 {
		t.Errorf("%d lines stored, want 3", got)
	}
	if strings.Contains(log.String(), "no session") {
		t.Errorf("a session that came and went is no complaint:\n%s", log)
	}
}

func TestDialer_TellsARelayGoodbye(t *testing.T) {
	p := listen(t)
	r, d, _, _ := dialling(t, p.url, Options{})
	s := p.next()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Shutdown()
	}()
	if bye := want[*handshake.Bye](s); bye.Why != "shutdown" {
		t.Errorf("bye %+v", bye)
	}
	s.control(&handshake.Bye{})
	s.wantClose(websocket.CloseNormalClosure)
	s.conn.Close()
	<-ended
	if e := d.once(t.Context()); e.session != nil {
		t.Error("a session began after Shutdown")
	}
}

// A relay has no token to show here; of keys and certificates one will do.
func TestDialer_AsksTheRelayForAKey(t *testing.T) {
	for name, tt := range map[string]struct {
		access Access
		code   int // 0: welcome
	}{
		"keys":         {Access{Keys: keys(t, "web "+key1)}, handshake.CloseUnauthenticated},
		"certificates": {Access{Certificates: true}, handshake.CloseUnauthenticated},
		"tokens":       {Access{Tokens: tokens(t, "ci "+token1)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t)
			_, _, store, log := dialling(t, p.url, Options{Access: tt.access})
			s := <-p.calls
			defer s.conn.Close()
			s.control(hello(1))
			if tt.code == 0 {
				want[*handshake.Welcome](s)
				return
			}
			s.wantClose(tt.code)
			s.conn.Close()
			for !strings.Contains(log.String(), "no session with a relay") { // it says so after the close
				time.Sleep(time.Millisecond)
			}
			if got := log.String(); !strings.Contains(got, "no key, token or certificate") ||
				!strings.Contains(got, "--keys or --client-ca") || store.commits > 0 {
				t.Errorf("want the reason and what to do in the log:\n%s", got)
			}
		})
	}
	access := Access{Keys: keys(t, "web "+key1)}
	p := listen(t)
	r, _, _, log := dialling(t, p.url, Options{Access: access})
	s := <-p.calls
	defer s.conn.Close()
	transcript := s.prove(helloWith("web"), access.Keys[0])
	if w := want[*handshake.Welcome](s); w.MAC != transcript.ReceiverMAC(access.Keys[0].Value) {
		t.Error("the receiver does not prove the key")
	}
	r.SetAccess(Access{Keys: keys(t, "other "+key2)})
	s.wantClose(handshake.CloseUnauthenticated)
	if !strings.Contains(log.String(), "proved=key:web") {
		t.Errorf("%s", log)
	}
}

func TestDialer_SaysWhatAnAnswerMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		answer    string
		reason    string
		hint      string
		permanent bool
		minDelay  time.Duration
	}{
		"not authenticated": {"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP 401", "--dial-token", true, 0},
		"another path":      {"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404", "--listen", true, 0},
		"later": {
			"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n", "HTTP 503",
			"log of wsrelay", false, 7 * time.Second,
		},
		"much later": {
			"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 99999999\r\n\r\n", "HTTP 429",
			"log of wsrelay", false, dialMost,
		},
		"a gateway": {"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP 502", "in between", false, 0},
		"endless": {
			"HTTP/1.1 101 Switching Protocols\r\nX: " + strings.Repeat("x", 1<<20),
			"the answer does not end", "--listen", false, 0,
		},
		"no subprotocol": {
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n",
			"does not speak wsrelay.v1", "wsrelay --listen", true, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				answer := strings.Replace(tt.answer, "@", accept(req.Header.Get("Sec-WebSocket-Key")), 1)
				_, _ = conn.Write([]byte(answer)) // who does not want all of it hangs up
			}))
			defer srv.Close()
			a := attempt(t, strings.Replace(srv.URL, "http", "ws", 1))
			if !strings.Contains(a.reason, tt.reason) || !strings.Contains(a.hint, tt.hint) ||
				a.permanent != tt.permanent || a.minDelay != tt.minDelay {
				t.Errorf("got %+v, want %+v", a, tt)
			}
		})
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if a := attempt(t, "ws://"+gone.Addr().String()); !strings.Contains(a.reason, "refused") || a.permanent {
		t.Errorf("nobody there: %+v", a)
	}
}

// accept is Sec-WebSocket-Accept, RFC 6455, 4.2.2.
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as the RFC has it
	return base64.StdEncoding.EncodeToString(sum[:])
}

func attempt(t *testing.T, url string) *dialFailure {
	t.Helper()
	d, err := NewDialer(New(&memStore{}, Options{}), url, func() DialConfig { return DialConfig{} })
	if err != nil {
		t.Fatal(err)
	}
	return d.once(t.Context())
}

// TestDialer_StaysDisconnectedForAWhile draws often enough to see that all of a range is
// used, and nothing beyond it.
func TestDialer_StaysDisconnectedForAWhile(t *testing.T) {
	d, err := NewDialer(New(&memStore{}, Options{}), "ws://h", nil)
	if err != nil {
		t.Fatal(err)
	}
	nobody := &dialFailure{}
	useful := &dialFailure{session: &session{start: time.Now()}}
	useful.session.lines.Store(1)
	hourAgo := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		before   []*dialFailure // since the last session that was one
		a        *dialFailure
		min, max time.Duration
	}{
		"after lines":           {nil, useful, 0, dialFirst},
		"after an hour":         {nil, &dialFailure{session: &session{start: hourAgo}}, 0, dialFirst},
		"after a bye":           {nil, &dialFailure{session: &session{start: hourAgo, back: time.Minute}}, 0, time.Minute},
		"after a long bye":      {nil, &dialFailure{session: &session{start: hourAgo, back: time.Hour}}, 0, dialMost},
		"after nothing":         {nil, &dialFailure{session: &session{start: time.Now()}}, 0, time.Second},
		"nobody there":          {nil, nobody, 0, time.Second},
		"the third time":        {[]*dialFailure{nobody, nobody}, nobody, 0, 4 * time.Second},
		"the tenth time":        {slices.Repeat([]*dialFailure{nobody}, 9), nobody, 0, 30 * time.Second},
		"a wrong key":           {nil, &dialFailure{permanent: true}, dialHold / 2, dialHold * 3 / 2},
		"asked to leave":        {nil, &dialFailure{minDelay: 8 * time.Second}, 8 * time.Second, 10 * time.Second},
		"asked to leave for it": {nil, &dialFailure{minDelay: time.Hour}, dialMost, dialMost * 5 / 4},
	} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 300 {
			d.delay(useful)
			for _, a := range tt.before {
				d.delay(a)
			}
			got := d.delay(tt.a)
			least, most = min(least, got), max(most, got)
		}
		quarter := (tt.max - tt.min) / 4
		if least < tt.min || least > tt.min+quarter || most > tt.max+1 || most < tt.max-quarter {
			t.Errorf("%s: %v to %v, want %v to %v", name, least, most, tt.min, tt.max)
		}
	}
}

func TestNewDialer_TakesNoSecretInAURL(t *testing.T) {
	for _, address := range []string{
		"", "h:8514", "http://h", "ws://", "ws://user:sesame@h", "wss://h/?token=sesame",
		"ws://h/#sesame", "ws://sesame:port",
	} {
		_, err := NewDialer(New(&memStore{}, Options{}), address, nil)
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v, want an error without a secret", address, err)
		}
	}
}

// begins notes whose sessions begin, and in which order with commits.
type begins struct {
	memStore
	mu  sync.Mutex
	got []string
}

func (b *begins) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, what)
}

func (b *begins) Begin(h *handshake.Hello) { b.note(fmt.Sprintf("begin %s below %d", h.SID, h.Head)) }

func (b *begins) Commit(ctx context.Context, batches []Batch) ([]Result, error) {
	b.note("commit")
	return b.memStore.Commit(ctx, batches)
}

func TestSession_TellsTheStoreWhenItStarts(t *testing.T) {
	store := new(begins)
	_, url := serve(t, store, Options{})
	for range 2 {
		s := connect(t, url)
		s.lines(1, "one")
		s.wantAck(2)
		s.lines(2, "two")
		s.wantAck(3)
		s.conn.NetConn().Close()
	}
	one := fmt.Sprintf("begin %s below %d, commit, commit", sid, uint64(1<<40))
	if got := strings.Join(store.got, ", "); got != one+", "+one {
		t.Errorf("got %s", got)
	}
}
