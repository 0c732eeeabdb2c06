package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/retry"
	"wsrelay/receiver"
)

// What a server that is none of ours tries, what comes of it, and what
// memory both ends take for it.
func TestHostile_AnImpostorGetsNoReceiptAndLittleMemory(t *testing.T) {
	const most = 8 << 20 // bytes, of which the queue and the write buffer have most
	frame := func(first byte, size uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{first, 127}, size)
	}
	flood := func(p *peer, b []byte) {
		for range 4 << 10 {
			if _, err := p.net.Write(b); err != nil {
				return
			}
		}
	}
	text := func(s string) script {
		return func(p *peer) { p.greet(); p.data(); _ = p.WriteMessage(websocket.TextMessage, []byte(s)); p.closed() }
	}
	for name, tt := range map[string]struct {
		want string // the fault
		run  script
	}{
		"a message of 2^62 bytes": {"violates the protocol", func(p *peer) { p.greet(); flood(p, frame(0x81, 1<<62)); p.closed() }},
		"fragments without end": {"violates the protocol", func(p *peer) {
			p.greet()
			_, _ = p.net.Write([]byte{0x01, 0})
			flood(p, append([]byte{0x00, 126, 4, 0}, make([]byte, 1024)...))
			p.closed()
		}},
		"a compressed message":       {"lost", func(p *peer) { p.greet(); flood(p, []byte{0xc1, 1, 0}) }},
		"lists in lists":             {"violates the protocol", text(strings.Repeat("[", 100<<10))},
		"a receipt with two numbers": {"violates the protocol", text(`{"t":"ack","seq":1,"seq":2}`)},
		"a receipt for more":         {"violates the protocol", text(`{"t":"ack","seq":9007199254740992}`)},
		"another's uid": {
			"violates the protocol",
			text(`{"t":"ack","seq":2,"uid":{"first":"","last":"00000000000000000000000000001"}}`),
		},
		"a receipt for the next line": {"violates the protocol", text(`{"t":"ack","seq":3}`)},
		"a receipt of nothing, again and again": {"lost", func(p *peer) {
			p.greet()
			for range 1000 {
				p.send(&handshake.Ack{Seq: 1})
			}
		}},
		"a second welcome": {"violates the protocol", func(p *peer) {
			p.greet()
			p.send(&handshake.Welcome{
				Session: "s", Win: handshake.Win{Bytes: 1, Batches: 1}, Max: 1 << 20,
				MaxRaw: 1 << 20, HB: 1000, Guarantee: "x", Store: "x", AckTo: 1000,
			})
			p.closed()
		}},
		"a challenge in the session": {"violates the protocol", func(p *peer) {
			p.greet()
			p.send(&handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: handshake.CBNone})
			p.closed()
		}},
		"a receipt before the welcome": {"violates the protocol", func(p *peer) { p.readHello(); p.send(&handshake.Ack{Seq: 2}); p.closed() }},
		"a hello of its own": {
			"violates the protocol",
			func(p *peer) { p.readHello(); p.send(p.hello); p.closed() },
		},
		"a nak beyond what was sent": {"violates the protocol", text(`{"t":"nak","b":1,"code":"order","expect":3}`)},
		"pings without end":          {"lost", func(p *peer) { p.greet(); flood(p, []byte{0x89, 4, 'p', 'i', 'n', 'g'}) }},
		"an endless token": {
			"violates the protocol",
			text(`{"t":"ack","seq":2,"rt":"` + strings.Repeat("x", 200<<10) + `"}`),
		},
		"data": {
			"violates the protocol",
			func(p *peer) { p.greet(); _ = p.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)); p.closed() },
		},
		"a nak for everything": {
			"violates the protocol",
			text(`{"t":"nak","code":"crc","expect":9007199254740991}`),
		},
		"busy for ever, and then gone": {"lost", func(p *peer) {
			p.greet()
			p.data()
			for range 1000 {
				p.send(&handshake.Busy{MS: 1, Why: "store"})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptestServer(t, handler(t, tt.run))
			before := allocated()
			f := tries(t, "ws://"+srv, DialConfig{})
			took := allocated() - before
			t.Logf("%s: %v; %d KiB", name, f, took>>10)
			if !strings.Contains(f.What, tt.want) {
				t.Errorf("got %q, want %q", f.What, tt.want)
			}
			if took > most {
				t.Errorf("%d bytes were allocated, want at most %d", took, most)
			}
		})
	}
}

// What a client without a key can try on a relay that listens, what comes of it, and
// what memory both ends take for it.
func TestHostile_WhoDialsGetsNoLineAndTakesLittleMemory(t *testing.T) {
	const most = 8 << 20 // bytes
	h := hostPaced(t, DialConfig{KeyFile: file(t, "key", key1)}, func(p *pace) { p.dial = time.Second })
	end := appendLines(t, h.q, 1, 1)
	text := func(s string) script {
		return func(p *peer) { p.readHello(); _ = p.WriteMessage(websocket.TextMessage, []byte(s)) }
	}
	chal := &handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: handshake.CBNone}
	for name, tt := range map[string]struct {
		code int
		run  script
	}{
		"silence":              {4408, (*peer).readHello},
		"a welcome at a crawl": {4408, func(p *peer) { p.readHello(); dribble(p.net, []byte{0x81, 0xfe, 0x3f, 0xff, 0, 0, 0, 0}, []byte(" ")) }},
		"a message of 2^62 bytes": {1009, func(p *peer) {
			p.readHello()
			_, _ = p.net.Write([]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		}},
		"data":                {1003, func(p *peer) { p.readHello(); _ = p.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<10)) }},
		"lists in lists":      {4400, text(strings.Repeat("[", 100<<10))},
		"a hello of its own":  {1002, func(p *peer) { p.readHello(); p.send(p.hello) }},
		"a receipt":           {1002, func(p *peer) { p.readHello(); p.send(&handshake.Ack{Seq: end}) }},
		"a welcome, no proof": {1000, func(p *peer) { p.readHello(); p.send(welcomeWith("")) }},
		"a proof reflected":   {1000, reflect},
		"two challenges":      {1002, func(p *peer) { p.readHello(); p.send(chal); p.frame(); p.send(chal) }},
	} {
		t.Run(name, func(t *testing.T) {
			before := allocated()
			p, status := h.call(nil, nil)
			if p == nil {
				t.Fatalf("status %d", status)
			}
			tt.run(p)
			code := p.closed()
			took := allocated() - before
			t.Logf("%s: close %d; %d KiB", name, code, took>>10)
			if code != tt.code || took > most || h.q.Stats().Cursor != 1 {
				t.Errorf("close %d, %d bytes taken, cursor %d; want close %d, at most %d, and 1", code, took,
					h.q.Stats().Cursor, tt.code, most)
			}
		})
	}
	for name, tt := range map[string]struct{ request, answer string }{
		"a header of 1 MiB":   {"GET /relay HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 1<<20), "HTTP/1.1 431"},
		"not HTTP":            {"SSH-2.0-x\r\n\r\n", "HTTP/1.1 400"},
		"TLS on a plain port": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400"},
		"another method":      {"POST /relay HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405"},
		"half a request":      {"GET /relay HTTP/1.1\r\nHost: h\r\n", ""},
	} {
		c := h.silent()
		go func() { _, _ = c.Write([]byte(tt.request)) }() // it may not be read to its end
		answer, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(answer), tt.answer) ||
			(tt.answer == "") != (len(answer) == 0) {
			t.Errorf("%s: got %.40q, %v; want %q", name, answer, err, tt.answer)
		}
		t.Logf("%s: %.12q", name, answer)
	}
	dialer(t, "ws://"+h.addr, receiver.Access{Keys: secrets(t, handshake.ParseKeys, key1), Unbound: true}, nil)
	waitAcked(t, h.q, end)
}

// dribble says begin, and then more, a byte at a time, until nobody listens.
func dribble(c net.Conn, begin, more []byte) {
	_, err := c.Write(begin)
	for k := 0; err == nil; k++ {
		_, err = c.Write(more[k%len(more) : k%len(more)+1])
		time.Sleep(5 * time.Millisecond)
	}
}

func httptestServer(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: quiet()}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Close(); served.Wait() })
	return l.Addr().String()
}

// A peer that says its part a byte at a time is alive, and gets no more time
// than one that is silent.
func TestHostile_AByteAtATimeBuysNoTime(t *testing.T) {
	for name, tt := range map[string]struct {
		want string // the upgrade's depends on where time cuts it
		run  http.HandlerFunc
	}{
		"in its answer to the upgrade": {"no ", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			dribble(c, []byte("HTTP/1.1 101 Switching Protocols\r\n"), []byte("X: y\r\n"))
		}},
		"in its welcome": {"no welcome in time", handler(t, func(p *peer) {
			p.readHello()
			dribble(p.net, []byte{0x81, 126, 0x3f, 0xff}, []byte(" ")) // a message of 16 KiB
		}).ServeHTTP},
		"in its receipt": {"no receipt in time", handler(t, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.AckTo = 300 })
			dribble(p.net, []byte{0x81, 126, 0x3f, 0xff}, []byte(" "))
		}).ServeHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			appendLines(t, q, 1, 1)
			u, err := ParseURL("ws://" + httptestServer(t, tt.run))
			if err != nil {
				t.Fatal(err)
			}
			r := New(q, Options{})
			r.backoff, r.pace.dial = retry.Connect(time.Second), 300*time.Millisecond
			end := r.once(t.Context(), u)
			if end.fault == nil || !strings.Contains(end.fault.What, tt.want) {
				t.Errorf("got %v, want %q", end.fault, tt.want)
			}
			t.Logf("a byte at a time %s: %v", name, end.fault)
			if q.Stats().Cursor != 1 {
				t.Error("a line has left the queue")
			}
		})
	}
}

func TestHostile_AnAnswerWithoutEndIsNotKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	defer served.Wait()
	defer l.Close()
	sent := 0
	served.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, err = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nX: "))
		for err == nil && sent < 1<<30 {
			_, err = c.Write(make([]byte, 64<<10))
			sent += 64 << 10
		}
	})
	checkFault(t, dialed(t, "ws://"+l.Addr().String(), Options{}), "not a receiver", true)
	served.Wait()
	if sent >= 64<<20 {
		t.Errorf("it took %d bytes", sent)
	}
}

// allocated is every byte that was ever taken, by both ends: no peak can hide.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
