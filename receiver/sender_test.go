package receiver

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"wsrelay/handshake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sid = "0123456789abcdef"

// memStore keeps lines by seq in memory. Its hook, if any, is asked before
// each Commit and can refuse it.
type memStore struct {
	hook func(ctx context.Context, batches []Batch) error

	mu      sync.Mutex
	lines   map[string]map[uint64]string
	gaps    []handshake.Gap
	commits int
}

func (m *memStore) Begin(*handshake.Hello) {}

func (m *memStore) Describe() (string, string) { return "memory", handshake.ExactlyOnce }
func (m *memStore) Close() error               { return nil }

func (m *memStore) Commit(ctx context.Context, batches []Batch) ([]Result, error) {
	if m.hook != nil {
		if err := m.hook(ctx, batches); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lines == nil {
		m.lines = make(map[string]map[uint64]string)
	}
	for _, b := range batches {
		for i, line := range b.Lines {
			if there, ok := m.lines[b.SID][b.Seq+uint64(i)]; ok && there != string(line) {
				return nil, &DivergedError{SID: b.SID, Seq: b.Seq + uint64(i)}
			}
		}
	}
	m.commits++
	results := make([]Result, len(batches))
	for k, b := range batches {
		if b.Gap != nil {
			m.gaps = append(m.gaps, *b.Gap)
			results[k].New++
			continue
		}
		if m.lines[b.SID] == nil {
			m.lines[b.SID] = make(map[uint64]string)
		}
		for i, line := range b.Lines {
			seq := b.Seq + uint64(i)
			if _, ok := m.lines[b.SID][seq]; ok {
				results[k].Dup++
				continue
			}
			m.lines[b.SID][seq] = string(line)
			results[k].New++
		}
	}
	return results, nil
}

func (m *memStore) get(seq uint64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lines[sid][seq]
}

func (m *memStore) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lines[sid])
}

// serve starts a receiver on loopback; the test's end shuts it down.
func serve(t testing.TB, store Store, o Options) (*Receiver, string) {
	t.Helper()
	r := New(store, o)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	t.Cleanup(r.Shutdown)
	return r, "ws" + strings.TrimPrefix(srv.URL, "http")
}

// gate is closed until it is opened, or the test ends.
type gate struct {
	t    *testing.T
	once sync.Once
	ch   chan struct{}
}

func newGate(t *testing.T) *gate { return &gate{t: t, ch: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.ch) }) }

func (g *gate) wait() {
	select {
	case <-g.ch:
	case <-g.t.Context().Done(): // a test that failed must not hang
	}
}

// sender is a scripted sender: it says what the test tells it to.
type sender struct {
	t    testing.TB
	conn *websocket.Conn
	b    uint64

	hello []byte // as it was sent
}

func dial(t testing.TB, url string) *sender {
	t.Helper()
	return dialBuffered(t, url, 1<<20)
}

// dialBuffered makes a sender that writes frames of up to size bytes.
func dialBuffered(t testing.TB, url string, size int) *sender {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, ReadBufferSize: 4 << 10, WriteBufferSize: size}
	conn, _, err := d.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // of a test that hangs
	return &sender{t: t, conn: conn}
}

// connect dials and says hello.
func connect(t testing.TB, url string) *sender {
	t.Helper()
	s := dial(t, url)
	s.control(hello(1))
	want[*handshake.Welcome](s)
	return s
}

func hello(acked uint64) *handshake.Hello {
	return &handshake.Hello{V: handshake.Version, SID: sid, Host: "web1", Acked: acked, Head: 1 << 40}
}

func (s *sender) control(f handshake.Frame) {
	s.t.Helper()
	msg := handshake.Encode(f)
	if _, ok := f.(*handshake.Hello); ok {
		s.hello = msg
	}
	s.write(websocket.TextMessage, msg)
}

func (s *sender) write(kind int, msg []byte) {
	s.t.Helper()
	if err := s.conn.WriteMessage(kind, msg); err != nil {
		s.t.Fatal(err)
	}
}

// batch is a raw data message.
func batch(seq uint64, lines ...string) (handshake.Data, []byte) {
	payload := []byte(strings.Join(lines, "\n") + "\n")
	return handshake.Data{
		Seq: seq, N: len(lines), At: 1_700_000_000_000,
		Enc: handshake.EncRaw, Raw: len(payload), C: handshake.CRC(payload),
	}, payload
}

func (s *sender) data(d handshake.Data, payload []byte) {
	s.t.Helper()
	s.b++
	d.B = s.b
	s.write(websocket.BinaryMessage, handshake.AppendData(nil, d, payload))
}

func (s *sender) lines(seq uint64, lines ...string) {
	s.t.Helper()
	d, payload := batch(seq, lines...)
	s.data(d, payload)
}

// read gives the next frame, or the error that ended the connection.
func (s *sender) read() (handshake.Frame, error) {
	s.t.Helper()
	kind, msg, err := s.conn.ReadMessage()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		s.t.Fatalf("message of type %d from the receiver", kind)
	}
	f, err := handshake.Decode(msg)
	if err != nil {
		s.t.Fatalf("%s: %v", msg, err)
	}
	return f, nil
}

// want reads the next frame, which must be an F.
func want[F handshake.Frame](s *sender) F {
	s.t.Helper()
	frame, err := s.read()
	if err != nil {
		s.t.Fatalf("got error %v, want a %T", err, *new(F))
	}
	f, ok := frame.(F)
	if !ok {
		s.t.Fatalf("got %s, want a %T", handshake.Encode(frame), f)
	}
	return f
}

func (s *sender) wantAck(seq uint64) {
	s.t.Helper()
	newDocs, dup := 0, 0
	for {
		ack := want[*handshake.Ack](s)
		newDocs, dup = newDocs+ack.New, dup+ack.Dup
		if ack.Seq == seq {
			return
		}
		if ack.Seq > seq {
			s.t.Fatalf("ack of %d, want %d", ack.Seq, seq)
		}
	}
}

func (s *sender) wantNak(code string, expect uint64) {
	s.t.Helper()
	nak := want[*handshake.Nak](s)
	if nak.Code != code || nak.Expect != expect || nak.B != s.b {
		s.t.Fatalf("got nak %+v, want code %s, expect %d, b %d", nak, code, expect, s.b)
	}
}

// wantClose reads what is left, which must end with a close of this code.
func (s *sender) wantClose(code int) {
	s.t.Helper()
	for {
		frame, err := s.read()
		if err == nil {
			if e, ok := frame.(*handshake.Err); ok && e.Code != code {
				s.t.Errorf("err says %d, want %d: %s", e.Code, code, e.Msg)
			}
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code {
			s.t.Fatalf("got %v, want close %d", err, code)
		}
		return
	}
}

func get(t *testing.T, url string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(url, "ws", "http", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String()
}
