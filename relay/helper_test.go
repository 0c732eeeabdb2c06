package relay

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

func TestMain(m *testing.M) {
	if os.Getenv("CI") != "" { // the same histories each time
		_ = flag.Set("rapid.seed", "1")
	}
	_ = flag.Set("rapid.checks", "40") // the short form, but for what the command line says
	if err := warm(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// warm has the queue compress something: what its encoders share must not be
// made in the bubble of one test.
func warm() error {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	q, _, err := buffer.Open(context.Background(), dir, buffer.Options{Codec: new(codec.Zstd)})
	if err != nil {
		return err
	}
	if _, err := q.Append(context.Background(), bytes.Repeat([]byte("x\n"), 500), 500, buffer.Origin{}); err != nil {
		return err
	}
	return q.Close(context.Background())
}

// openQueue opens a real queue in a directory of its own.
func openQueue(t testing.TB) *buffer.Queue {
	t.Helper()
	return openQueueIn(t, t.TempDir(), codec.Zstd)
}

func openQueueIn(t testing.TB, dir string, c codec.Codec) *buffer.Queue {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{Codec: &c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return q
}

// line is what the tests write as number seq.
func line(seq uint64) string { return fmt.Sprintf("line %06d", seq) }

// appendLines appends blocks of n lines each to q and waits until they are
// durable. It gives the number after the last.
func appendLines(t testing.TB, q *buffer.Queue, blocks, n int) uint64 {
	t.Helper()
	for range blocks {
		appendLine(t, q, n, line)
	}
	return q.Stats().Head
}

func appendLine(t testing.TB, q *buffer.Queue, n int, text func(uint64) string) {
	t.Helper()
	var b bytes.Buffer
	first := q.Stats().Head
	for i := range n {
		fmt.Fprintln(&b, text(first+uint64(i)))
	}
	r, err := q.Append(t.Context(), b.Bytes(), n, buffer.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.WaitDurable(t.Context(), r.End); err != nil {
		t.Fatal(err)
	}
}

// waitAcked waits until everything below end has its receipt.
func waitAcked(t testing.TB, q *buffer.Queue, end uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble's time, usually
	defer cancel()
	if err := q.WaitAcked(ctx, end); err != nil {
		t.Fatalf("waiting for receipts up to %d: %v; stats %+v", end, err, q.Stats())
	}
}

// store is a receiver's store: it keeps every line under its number.
type store struct {
	mu    sync.Mutex
	lines map[uint64]string
	wrong []string
	dups  int
}

func (s *store) commit(seq uint64, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[uint64]string{}
	}
	for l := range bytes.Lines(payload) {
		text := strings.TrimSuffix(string(l), "\n")
		old, there := s.lines[seq]
		switch {
		case !there:
			s.lines[seq] = text
		case old != text:
			s.wrong = append(s.wrong, fmt.Sprintf("%d is %q and %q", seq, old, text))
		default:
			s.dups++
		}
		seq++
	}
}

// check reports what does not agree with lines 1 to end-1 as line writes them.
func (s *store) check(t testing.TB, end uint64, text func(uint64) string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.wrong {
		t.Error(w)
	}
	if got, want := len(s.lines), int(end-1); got != want {
		t.Errorf("the store has %d lines, want %d", got, want)
	}
	for seq := uint64(1); seq < end; seq++ {
		if got, want := s.lines[seq], text(seq); got != want {
			t.Fatalf("line %d is %.60q, want %.60q", seq, got, want)
		}
	}
}

// peer is the receiver's end of one session, in the hands of a script.
type peer struct {
	*websocket.Conn
	t     testing.TB
	net   net.Conn
	hello *handshake.Hello
	next  uint64 // what data begins with
}

func (p *peer) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Errorf("receiver: "+format, args...)
	runtime.Goexit()
}

func (p *peer) send(f handshake.Frame) {
	p.t.Helper()
	if err := p.WriteMessage(websocket.TextMessage, handshake.Encode(f)); err != nil {
		p.fail("write %T: %v", f, err)
	}
}

// greet takes the hello and welcomes.
func (p *peer) greet(change ...func(*handshake.Welcome)) {
	p.t.Helper()
	p.readHello()
	w := &handshake.Welcome{
		Session: "s", Win: handshake.Win{Bytes: 8 << 20, Batches: 16}, Max: handshake.MaxMessage,
		MaxRaw: handshake.MaxMessage,
		Enc:    []string{handshake.EncRaw}, HB: 20000, Guarantee: handshake.ExactlyOnce, Store: "test", AckTo: 30000,
	}
	for _, c := range change {
		c(w)
	}
	p.send(w)
}

func (p *peer) readHello() {
	p.t.Helper()
	h, ok := p.frame().(*handshake.Hello)
	if !ok {
		p.fail("want hello first, got %T", h)
	}
	p.hello, p.next = h, h.Acked
}

// frame reads a control frame.
func (p *peer) frame() handshake.Frame {
	p.t.Helper()
	kind, msg, err := p.ReadMessage()
	if err != nil || kind != websocket.TextMessage {
		p.fail("want a frame, got kind %d, %.80q, %v", kind, msg, err)
	}
	f, err := handshake.Decode(msg)
	if err != nil {
		p.fail("%v", err)
	}
	return f
}

// data reads one batch and checks it, apart from its place.
func (p *peer) data() (handshake.Data, []byte) {
	p.t.Helper()
	kind, msg, err := p.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage {
		p.fail("want data, got kind %d, %.80q, %v", kind, msg, err)
	}
	return p.checked(msg)
}

func (p *peer) checked(msg []byte) (handshake.Data, []byte) {
	p.t.Helper()
	d, payload, err := handshake.DecodeData(msg)
	if err != nil {
		p.fail("%v", err)
	}
	if handshake.CRC(payload) != d.C {
		p.fail("batch %d: bad checksum", d.B)
	}
	if d.Enc == handshake.EncRaw && (bytes.Count(payload, []byte{'\n'}) != d.N || len(payload) != d.Raw) {
		p.fail("batch %d: %d lines and %d bytes, the header says %d and %d",
			d.B, bytes.Count(payload, []byte{'\n'}), len(payload), d.N, d.Raw)
	}
	return d, payload
}

func (p *peer) ack(b, seq uint64) {
	p.t.Helper()
	uid := handshake.UID(p.hello.SID, seq-1)
	p.send(&handshake.Ack{Seq: seq, B: b, UID: &handshake.UIDs{First: uid, Last: uid}, RT: "rt"})
}

// receive takes batches into st, giving a receipt for each, until the other
// end says bye or closes. It gives the close code, 0 if there was none.
func (p *peer) receive(st *store) int {
	p.t.Helper()
	for {
		kind, msg, err := p.ReadMessage()
		if err != nil {
			return closeCode(err)
		}
		if kind == websocket.TextMessage {
			continue // bye: the close follows
		}
		d, payload := p.checked(msg)
		if d.Seq != p.next {
			p.fail("data begins with %d, want %d", d.Seq, p.next)
		}
		p.next += uint64(d.N)
		st.commit(d.Seq, payload)
		p.ack(d.B, p.next)
	}
}

// closed reads until the other end closes, and gives the code.
func (p *peer) closed() int {
	for {
		if _, _, err := p.ReadMessage(); err != nil {
			return closeCode(err)
		}
	}
}

func closeCode(err error) int {
	if ce, ok := err.(*websocket.CloseError); ok && ce.Code != websocket.CloseAbnormalClosure { //nolint:errorlint // as it comes
		return ce.Code
	}
	return 0
}

func (p *peer) close(code int) {
	_ = p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "because"),
		time.Now().Add(time.Second))
	p.closed()
}

// script is what a receiver does in one session.
type script func(p *peer)

// handler runs one script for each connection, the last one for all further.
func handler(t testing.TB, scripts ...script) http.Handler {
	var mu sync.Mutex
	turn := 0
	up := websocket.Upgrader{Subprotocols: []string{handshake.Subprotocol}}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := up.Upgrade(w, req, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		mu.Lock()
		run := scripts[min(turn, len(scripts)-1)]
		turn++
		mu.Unlock()
		done := make(chan struct{})
		go func() { // a script may end with Goexit
			defer close(done)
			run(&peer{Conn: conn, t: t, net: conn.NetConn()})
		}()
		<-done
		conn.Close()
	})
}

// pipes is a listener whose connections are made in memory, so that a test
// can live in a bubble of its own time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, io.ErrClosedPipe
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { close(l.done); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// connect makes a relay of q that reaches a receiver with these scripts over
// pipes. Nothing runs yet.
func connect(t testing.TB, q Queue, o Options, scripts ...script) *Relay {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: handler(t, scripts...), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	o.URLs = []string{"ws://receiver"}
	r := New(q, o)
	r.net = l.dial
	return r
}

// run lets r run until the test ends.
func run(t testing.TB, r *Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// logged keeps log lines for a test to look at.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, nil))
}
