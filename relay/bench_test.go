package relay

import (
	"bytes"
	"context"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// BenchmarkRelay ships blocks of 4000 lines of 250 bytes from a queue on disk
// to a server on loopback that only gives receipts.
func BenchmarkRelay(b *testing.B) {
	for name, c := range map[string]codec.Codec{"raw": codec.Raw, "s2": codec.S2, "zstd": codec.Zstd} {
		b.Run(name, func(b *testing.B) {
			const lines, size = 4000, 250
			srv := httptest.NewServer(handler(b, null))
			defer srv.Close()
			q := openQueueIn(b, b.TempDir(), c)
			block := bytes.Repeat(append(bytes.Repeat([]byte("lorem ipsum "), 30)[:size-1], '\n'), lines)
			for range b.N {
				if _, err := q.Append(b.Context(), block, lines, buffer.Origin{}); err != nil {
					b.Fatal(err)
				}
			}
			end := q.Stats().Head
			if err := q.WaitDurable(b.Context(), end); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(lines * size)
			b.ResetTimer()
			stop := run(b, New(q, Options{URLs: []string{"ws://" + srv.Listener.Addr().String()}}))
			if err := q.WaitAcked(context.Background(), end); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*lines/b.Elapsed().Seconds(), "lines/s")
			stop()
		})
	}
}

// null gives receipts, and looks at nothing.
func null(p *peer) {
	p.greet(func(w *handshake.Welcome) { w.Enc = []string{handshake.EncRaw, "zstd", "s2"} })
	for {
		kind, msg, err := p.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		if d, _, err := handshake.DecodeData(msg); err == nil {
			p.ack(d.B, d.Seq+uint64(d.N))
		}
	}
}
