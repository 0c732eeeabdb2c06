package relay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/receiver"
	filestore "wsrelay/receiver/store/file"
)

// briskly makes r wait as little as real sockets allow.
func briskly(r *Relay) *Relay {
	r.pace.first, r.pace.firstLoopback, r.pace.backoff = 5*time.Millisecond, 5*time.Millisecond, time.Millisecond
	r.pace.permanent = 50 * time.Millisecond
	return r
}

// proxy forwards TCP connections to a server and mistreats them.
type proxy struct {
	l    net.Listener
	to   string
	each func(client, server net.Conn)
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t testing.TB, to string, each func(client, server net.Conn)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, each: each}
	p.wg.Add(1)
	go p.serve()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "ws://" + p.l.Addr().String() + "/relay" }

func (p *proxy) serve() {
	defer p.wg.Done()
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() {
			p.each(client, server)
			client.Close()
			server.Close()
		})
	}
}

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// forward copies up bytes to the server and down bytes to the client, and
// returns when either is used up or the connection ends.
func forward(client, server net.Conn, up, down int64) {
	var wg sync.WaitGroup
	one := func(dst, src net.Conn, n int64) {
		_, _ = io.CopyN(dst, src, n)
		client.Close() // a cut takes both directions
		server.Close()
	}
	wg.Go(func() { one(server, client, up) })
	wg.Go(func() { one(client, server, down) })
	wg.Wait()
}

// The whole way: a real queue, a real receiver with its file store, and a
// network that breaks after any number of bytes in either direction.
func TestRelay_EachLineOnceThroughANetworkThatBreaks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lines")
	st, err := filestore.Open(path, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	recv := receiver.New(st, receiver.Options{})
	srv := httptest.NewServer(recv)
	defer func() {
		recv.Shutdown()
		srv.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	var cuts atomic.Int32
	p := newProxy(t, srv.Listener.Addr().String(), func(client, server net.Conn) {
		mu.Lock()
		up, down := 1+rng.Int64N(1<<uint(9+rng.IntN(12))), 1+rng.Int64N(1<<uint(9+rng.IntN(6)))
		mu.Unlock()
		cuts.Add(1)
		forward(client, server, up, down)
	})

	q := openQueue(t)
	text := func(seq uint64) string { // some long, all different
		return fmt.Sprintf(`{"n":%d,"pad":"%s"}`, seq, bytes.Repeat([]byte{byte('a' + seq%26)}, int(seq*seq%700)))
	}
	r := briskly(New(q, Options{URLs: []string{p.url()}}))
	stop := run(t, r)
	for range 100 {
		appendLine(t, q, 200, text)
	}
	end := q.Stats().Head
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := q.WaitAcked(ctx, end); err != nil {
		t.Fatalf("%v; %+v, %+v", err, q.Stats(), r.Status())
	}
	stop()
	t.Logf("%d connections, status %+v", cuts.Load(), r.Status())

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seq := uint64(1)
	for lines := bufio.NewScanner(f); lines.Scan(); seq++ {
		if got, want := lines.Text(), text(seq); got != want {
			t.Fatalf("line %d is %.60q, want %.60q", seq, got, want)
		}
	}
	if seq != end {
		t.Errorf("the file has %d lines, want %d", seq-1, end-1)
	}
	if cuts.Load() < 3 || r.Status().SentAgain == 0 {
		t.Errorf("only %d connections, %d lines sent again: nothing was tested", cuts.Load(), r.Status().SentAgain)
	}
}

func TestRelay_NoticesANetworkThatSwallowsEverything(t *testing.T) {
	st := &store{}
	srv := httptest.NewServer(handler(t, func(p *peer) {
		p.greet()
		p.receive(st)
	}))
	defer srv.Close()
	var conns atomic.Int32
	release := make(chan struct{})
	p := newProxy(t, srv.Listener.Addr().String(), func(client, server net.Conn) {
		if conns.Add(1) == 1 {
			swallow(client, server, 2000)
			<-release // both sockets stay open, and nothing moves
			return
		}
		forward(client, server, 1<<40, 1<<40)
	})
	defer close(release)
	q := openQueue(t)
	r := briskly(New(q, Options{URLs: []string{p.url()}, Ping: 40 * time.Millisecond}))
	run(t, r)
	for range 9 {
		appendLine(t, q, 1, long)
	}
	waitAcked(t, q, 10)
	st.check(t, 10, long)
}

// swallow forwards until up bytes have gone to the server; then nothing moves
// any more, and the connections stay open.
func swallow(client, server net.Conn, up int64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, server)
	}()
	_, _ = io.CopyN(server, client, up)
	_ = server.SetReadDeadline(time.Now())
	<-done
}
