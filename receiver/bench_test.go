package receiver

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/s2"

	"wsrelay/handshake"
)

// nullStore takes everything and keeps nothing.
type nullStore struct{}

func (nullStore) Describe() (string, string) { return "null", handshake.ExactlyOnce }
func (nullStore) Begin(*handshake.Hello)     {}
func (nullStore) Close() error               { return nil }

func (nullStore) Commit(_ context.Context, batches []Batch) ([]Result, error) {
	results := make([]Result, len(batches))
	for i := range batches {
		results[i].New = len(batches[i].Lines)
	}
	return results, nil
}

// accessLog is n lines of an nginx access log in JSON, about 280 bytes each.
func accessLog(n int) string {
	var b strings.Builder
	for i := range uint64(n) {
		fmt.Fprintf(&b, `{"time":"2026-03-14T15:09:26.%03dZ","remote_addr":"10.0.%d.%d","request_id":"%016x",`+
			`"request":"GET /shop/item-%d?ref=%d HTTP/1.1","status":%d,"bytes":%d,"rt":0.%03d,`+
			`"referer":"https://example.org/list","agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0"}`+"\n",
			i%1000, i/251%7, i%251, i*0x9e3779b97f4a7c15, i%9973, i%31, 200+i%5, 100+i*7919%50000, i*31%1000)
	}
	return b.String()
}

// perLine makes a benchmark tell what a line costs: lines a second, and the CPU
// time, which does not count what else the machine does.
func perLine(b *testing.B, lines int) (report func()) {
	before := cpuTime(b)
	return func() {
		n := float64(b.N * lines)
		b.ReportMetric(n/b.Elapsed().Seconds(), "lines/s")
		b.ReportMetric(float64(cpuTime(b)-before)/n, "cpu-ns/line")
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSession sends batches of 256 KiB over loopback, as many at a time as
// the window allows. One operation is one batch, acknowledged.
func BenchmarkSession(b *testing.B) {
	null := func(testing.TB) Store { return nullStore{} }
	b.Run("enc=raw/store=null", func(b *testing.B) { benchmarkSession(b, null(b), handshake.EncRaw) })
	b.Run("enc=s2/store=null", func(b *testing.B) { benchmarkSession(b, null(b), "s2") })
}

func benchmarkSession(b *testing.B, store Store, enc string) {
	_, url := serve(b, store, Options{})
	s := connect(b, url)
	d, payload := batch(1, strings.Split(strings.TrimSuffix(accessLog(900), "\n"), "\n")...)
	b.SetBytes(int64(len(payload)))
	if enc == "s2" {
		payload = s2.Encode(nil, payload)
		d.Enc, d.C = enc, handshake.CRC(payload)
	}
	b.ReportAllocs()

	sent := make(chan error, 1)
	window := make(chan struct{}, winBatches)
	report := perLine(b, d.N)
	b.ResetTimer()
	go func() {
		var msg []byte
		for i := range uint64(b.N) {
			window <- struct{}{}
			d.B, d.Seq = i+1, 1+i*uint64(d.N)
			msg = handshake.AppendData(msg[:0], d, payload)
			if err := s.conn.WriteMessage(websocket.BinaryMessage, msg); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for done := uint64(0); done < uint64(b.N); {
		ack := want[*handshake.Ack](s)
		for ; done < ack.B; done++ {
			<-window
		}
	}
	b.StopTimer()
	report()
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
}
