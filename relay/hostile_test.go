package relay

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
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
		"a message of 2^62 bytes": {"breaks the protocol", func(p *peer) { p.greet(); flood(p, frame(0x81, 1<<62)) }},
		"fragments without end": {"breaks the protocol", func(p *peer) {
			p.greet()
			_, _ = p.net.Write([]byte{0x01, 0})
			flood(p, append([]byte{0x00, 126, 4, 0}, make([]byte, 1024)...))
		}},
		"a compressed message":        {"lost", func(p *peer) { p.greet(); flood(p, []byte{0xc1, 1, 0}) }},
		"lists in lists":              {"breaks the protocol", text(strings.Repeat("[", 100<<10))},
		"a receipt with two numbers":  {"breaks the protocol", text(`{"t":"ack","seq":1,"seq":2}`)},
		"a receipt for more":          {"breaks the protocol", text(`{"t":"ack","seq":9007199254740992}`)},
		"another's uid":               {"breaks the protocol", text(`{"t":"ack","seq":2,"uid":{"first":"","last":"00000000000000000000000000001"}}`)},
		"a receipt for the next line": {"breaks the protocol", text(`{"t":"ack","seq":3}`)},
		"a receipt of nothing, again and again": {"lost", func(p *peer) {
			p.greet()
			for range 1000 {
				p.send(&handshake.Ack{Seq: 1})
			}
		}},
		"a second welcome": {"breaks the protocol", func(p *peer) {
			p.greet()
			p.send(&handshake.Welcome{Session: "s", Win: handshake.Win{Bytes: 1, Batches: 1}, Max: 1 << 20, MaxRaw: 1 << 20, HB: 1000, Guarantee: "x", Store: "x", AckTo: 1000})
			p.closed()
		}},
		"a challenge in the session": {"breaks the protocol", func(p *peer) {
			p.greet()
			p.send(&handshake.Chal{Nonce: handshake.NewNonce(), Mech: handshake.MechHMAC, CB: handshake.CBNone})
			p.closed()
		}},
		"a receipt before the welcome": {"breaks the protocol", func(p *peer) { p.readHello(); p.send(&handshake.Ack{Seq: 2}); p.closed() }},
		"a hello of its own":           {"breaks the protocol", func(p *peer) { p.readHello(); p.send(p.hello); p.closed() }},
		"a nak beyond what was sent":   {"breaks the protocol", text(`{"t":"nak","b":1,"code":"order","expect":3}`)},
		"pings without end":            {"lost", func(p *peer) { p.greet(); flood(p, []byte{0x89, 4, 'p', 'i', 'n', 'g'}) }},
		"an endless token":             {"breaks the protocol", text(`{"t":"ack","seq":2,"rt":"` + strings.Repeat("x", 200<<10) + `"}`)},
		"data":                         {"breaks the protocol", func(p *peer) { p.greet(); _ = p.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)); p.closed() }},
		"a nak for everything":         {"breaks the protocol", text(`{"t":"nak","code":"crc","expect":9007199254740991}`)},
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
			f := tries(t, "ws://"+srv, Way{})
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
	dribble := func(c net.Conn, b []byte) {
		for k := 0; ; k++ {
			if _, err := c.Write(b[k%len(b) : k%len(b)+1]); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
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
			_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n"))
			dribble(c, []byte("X: y\r\n"))
		}},
		"in its welcome": {"no welcome in time", handler(t, func(p *peer) {
			p.readHello()
			_, _ = p.net.Write([]byte{0x81, 126, 0x3f, 0xff}) // a message of 16 KiB
			dribble(p.net, []byte(" "))
		}).ServeHTTP},
		"in its receipt": {"no receipt in time", handler(t, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.AckTo = 300 })
			_, _ = p.net.Write([]byte{0x81, 126, 0x3f, 0xff})
			dribble(p.net, []byte(" "))
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
			r.backoff, r.pace.dial = newBackoff(time.Second), 300*time.Millisecond
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
	checkFault(t, dialed(t, "ws://"+l.Addr().String(), Options{}), "no receiver", true)
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
