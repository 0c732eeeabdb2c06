package generic

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
	"wsrelay/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openQueue(t testing.TB, dir string) *buffer.Queue {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{Codec: new(codec.Raw)})
	must(t, err)
	t.Cleanup(func() { must(t, q.Close(context.Background())) })
	return q
}

// put appends one block of these lines.
func put(t testing.TB, q *buffer.Queue, lines ...string) {
	t.Helper()
	r, err := q.Append(t.Context(), []byte(strings.Join(lines, "\n")+"\n"), len(lines), buffer.Origin{})
	must(t, err)
	must(t, q.WaitDurable(t.Context(), r.End))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitAcked waits until all of q was acknowledged.
func waitAcked(t testing.TB, q *buffer.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := q.WaitAcked(ctx, q.Stats().Head); err != nil {
		t.Fatalf("%v; %+v", err, q.Stats())
	}
}

// got is what a server has read, in order.
type got struct {
	mu    sync.Mutex
	texts []string
	kinds []int
}

func (g *got) add(kind int, text []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.texts, g.kinds = append(g.texts, string(text)), append(g.kinds, kind)
}

func (g *got) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.texts...)
}

func (g *got) wait(t testing.TB, n int) []string {
	t.Helper()
	return waitFor(t, g.all, func(texts []string) bool { return len(texts) >= n })
}

func waitFor[T any](t testing.TB, get func() T, enough func(T) bool) T {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if v := get(); enough(v) {
			return v
		} else if time.Now().After(deadline) {
			t.Fatalf("still %v", v)
		}
	}
}

// script is a server's part in one connection.
type script func(c *websocket.Conn)

// takes reads messages into g and has answer, if any, say what to answer. Pings
// are answered between messages, as they come.
func takes(g *got, answer func(kind int, text []byte) string) script {
	return func(c *websocket.Conn) {
		for {
			kind, text, err := c.ReadMessage()
			if err != nil {
				return
			}
			g.add(kind, text)
			if answer == nil {
				continue
			}
			if a := answer(kind, text); a != "" && c.WriteMessage(websocket.TextMessage, []byte(a)) != nil {
				return
			}
		}
	}
}

// leave closes, and reads on until the other end has: what we said is not lost.
func leave(c *websocket.Conn, code int) {
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	for {
		if _, _, err := c.NextReader(); err != nil {
			return
		}
	}
}

// answerUID is a receipt.
func answerUID(_ int, text []byte) string {
	return `{"uid":"` + gjson.GetBytes(text, "uid").Str + `"}`
}

// serve runs one script for each connection, the last for all further, and gives
// its address.
func serve(t testing.TB, scripts ...script) string {
	t.Helper()
	var mu sync.Mutex
	turn := 0
	up := websocket.Upgrader{Subprotocols: []string{"logs"}}
	var busy sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Done()
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		defer c.Close()
		mu.Lock()
		s := scripts[min(turn, len(scripts)-1)]
		turn++
		mu.Unlock()
		s(c)
	}))
	t.Cleanup(func() {
		server.Close()
		busy.Wait()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// ship lets a relay in plain mode run until the test ends, or stop is called.
func ship(t testing.TB, q *buffer.Queue, url string, o Options,
	change ...func(*Plain, *relay.Options),
) (r *relay.Relay, log *logged, stop func()) {
	t.Helper()
	p, err := New(o)
	must(t, err)
	log = &logged{}
	ro := relay.Options{URLs: []string{url}, Host: "host-1", Dialect: p, Log: slog.New(slog.NewTextHandler(log, nil))}
	for _, c := range change {
		c(p, &ro)
	}
	r = relay.New(q, ro)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return r, log, stop
}

// logged keeps log lines.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) wait(t testing.TB, what string) {
	t.Helper()
	waitFor(t, l.text, func(text string) bool { return strings.Contains(text, what) })
}
