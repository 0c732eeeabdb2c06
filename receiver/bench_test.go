package receiver

import (
	"context"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// nullStore takes everything and keeps nothing.
type nullStore struct{}

func (nullStore) Describe() (string, string) { return "null", handshake.ExactlyOnce }
func (nullStore) Close() error               { return nil }

func (nullStore) Commit(_ context.Context, batches []Batch) ([]Result, error) {
	results := make([]Result, len(batches))
	for i := range batches {
		results[i].New = len(batches[i].Lines)
	}
	return results, nil
}

// BenchmarkSession sends batches of 256 KiB, raw, over loopback, as many at a
// time as the window allows. One operation is one batch, receipted.
func BenchmarkSession(b *testing.B) {
	_, url := serve(b, nullStore{}, Options{})
	s := connect(b, url)
	line := strings.Repeat("x", 249)
	lines := make([]string, 256<<10/(len(line)+1))
	for i := range lines {
		lines[i] = line
	}
	d, payload := batch(1, lines...)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()

	sent := make(chan error, 1)
	window := make(chan struct{}, winBatches)
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
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N*d.N)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkFile(b *testing.B) {
	s, err := OpenFile(b.TempDir()+"/log", FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	group := Batch{SID: sid, Seq: 1, Lines: make([][]byte, 8000)}
	for i := range group.Lines {
		group.Lines[i] = []byte(strings.Repeat("x", 249))
	}
	b.SetBytes(8000 * 250)
	for b.Loop() {
		if _, err := s.Commit(b.Context(), []Batch{group}); err != nil {
			b.Fatal(err)
		}
		group.Seq = group.End()
	}
	b.ReportMetric(float64(b.N*8000)/b.Elapsed().Seconds(), "lines/s")
}
