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
		"a compressed message":       {"lost", func(p *peer) { p.greet(); flood(p, []byte{0xc1, 1, 0}) }},
		"lists in lists":             {"breaks the protocol", text(strings.Repeat("[", 100<<10))},
		"a receipt with two numbers": {"breaks the protocol", text(`{"t":"ack","seq":1,"seq":2}`)},
		"a receipt for more":         {"breaks the protocol", text(`{"t":"ack","seq":9007199254740992}`)},
		"another's uid":              {"breaks the protocol", text(`{"t":"ack","seq":2,"uid":{"first":"","last":"00000000000000000000000000001"}}`)},
		"an endless token":           {"breaks the protocol", text(`{"t":"ack","seq":2,"rt":"` + strings.Repeat("x", 200<<10) + `"}`)},
		"data":                       {"breaks the protocol", func(p *peer) { p.greet(); _ = p.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)); p.closed() }},
		"a nak for everything":       {"breaks the protocol", text(`{"t":"nak","code":"crc","expect":9007199254740991}`)},
		"busy for ever, and then gone": {"lost", func(p *peer) {
			p.greet()
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
			t.Logf("%v; %d KiB", f, took>>10)
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
