package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// names is a DNS server that knows one host, by whatever name: at ::1, and where
// the test says.
type names struct {
	v4   atomic.Pointer[net.IP]
	asks atomic.Int64
}

// use lets this process ask n until the test ends.
func (n *names) use(t *testing.T) {
	usual := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = usual })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go n.answer(there)
		return here, nil
	}}
}

// answer answers as RFC 1035, 4.2.2 has it on TCP: each message after its length.
func (n *names) answer(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		end := 12 // of the question: a name, a type, a class
		for query[end] != 0 {
			end += 1 + int(query[end])
		}
		end += 5
		kind := query[end-3]
		ip := *n.v4.Load()
		if kind == 28 { // AAAA
			ip = net.IPv6loopback
		}
		n.asks.Add(1)
		reply := append([]byte{}, query[:2]...)
		reply = append(reply, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0)
		reply = append(reply, query[12:end]...)
		reply = append(reply, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, byte(len(ip)))
		reply = append(reply, ip...)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// A receiver may move while the relay runs, and may have addresses of both kinds
// of which only one answers.
func TestRelay_LooksItsReceiverUpAtEachAttempt(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	st := new(store)
	srv := &http.Server{Handler: handler(t, func(p *peer) { p.greet(); p.receive(st) }), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	dns, q, log := new(names), openQueue(t), new(logged)
	before, after := net.IPv4(127, 0, 0, 1).To4(), net.IPv4(127, 0, 0, 2).To4()
	dns.v4.Store(&before)
	dns.use(t)
	end := appendLines(t, q, 1, 10)
	stop := run(t, briskly(New(q, Options{URLs: []string{"ws://receiver.test:" + port}, Log: log.logger()})))
	defer stop() // before the resolver is the usual one again
	(&hosted{t: t, log: log}).says("connection refused")
	dns.v4.Store(&after)
	waitAcked(t, q, end)
	st.check(t, end, line)
	if asked := dns.asks.Load(); asked < 4 { // twice for both kinds
		t.Errorf("%d questions", asked)
	}
}
