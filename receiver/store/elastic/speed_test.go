package elastic_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/receiver/store/elastic/setup"
	"wsrelay/test/faults"
)

const (
	speedBatch   = 1000 // lines of one message
	speedSenders = 4
)

// speed is one comparison: all ways bring the same lines to one engine.
type speed struct {
	*testing.T
	docs int
}

const speedIndex = "wsrelay-speed-2026.11.22"

// bodies are the documents of all streams, a bulk for each batch.
func (s *speed) bodies(ids bool) [][]byte {
	var all [][]byte
	for _, b := range s.batches() {
		body := elastic.Documents("speed", b)
		if !ids {
			body = create.ReplaceAll(body, []byte(`{"index":{"_index":"`+speedIndex+`"}}`))
		}
		all = append(all, body)
	}
	return all
}

var create = regexp.MustCompile(`(?m)^\{"create":.*$`)

func (s *speed) batches() []receiver.Batch {
	var all []receiver.Batch
	for range speedSenders {
		sid := handshake.NewSID()
		for seq := uint64(1); seq < uint64(s.docs/speedSenders); seq += speedBatch {
			b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: day}
			for i := range uint64(speedBatch) {
				b.Lines = append(b.Lines, []byte(elastic.SpeedLine(seq+i)))
			}
			all = append(all, b)
		}
	}
	return all
}

// bare loads the bulks with so many workers and gives documents a second.
// compress makes the body that is sent, nil sends it as it is.
func (s *speed) bare(workers int, compress func([]byte) []byte, bodies [][]byte) float64 {
	work := make(chan []byte, len(bodies))
	for _, b := range bodies {
		work <- b
	}
	close(work)
	start := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for body := range work {
				if compress != nil {
					s.post(compress(body), "gzip")
				} else {
					s.post(body, "")
				}
			}
		})
	}
	wg.Wait()
	return s.rate(start)
}

func (s *speed) post(body []byte, encoding string) {
	req, err := http.NewRequest(http.MethodPost, faults.Engine(s)+"/_bulk?filter_path=errors", bytes.NewReader(body))
	if err != nil {
		s.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Error(err)
		return
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); string(answer) != `{"errors":false}` {
		s.Errorf("%s: %.200s", res.Status, answer)
	}
}

// fast compresses a bulk as wsreceive does.
func fast(body []byte) []byte { return compressed(body, gzip.BestSpeed) }

func compressed(body []byte, level int) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		panic(err) // no such level
	}
	_, err = w.Write(body)
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer takes all
	}
	return b.Bytes()
}

// beforehand compresses the bulks outside the time that counts.
func beforehand(bodies [][]byte) [][]byte {
	for i, body := range bodies {
		bodies[i] = compressed(body, gzip.DefaultCompression)
	}
	return bodies
}

// rate checks that all is there, outside the time that counts.
func (s *speed) rate(start time.Time) float64 {
	rate := float64(s.docs) / time.Since(start).Seconds()
	const index = "/" + speedIndex
	faults.Ask(s, http.MethodPost, index+"/_refresh", "")
	if got := faults.Ask(s, http.MethodGet, index+"/_count", "").Get("count").Int(); got != int64(s.docs) {
		s.Errorf("%d documents, want %d", got, s.docs)
	}
	faults.Ask(s, http.MethodDelete, index, "")
	return rate
}

// received sends the lines over WebSocket to a receiver.
func (s *speed) received(compress string) float64 {
	store, err := elastic.Open(s.Context(), faults.Engine(s),
		elastic.Options{Prefix: "speed", Access: elastic.Access{Gzip: compress}})
	if err != nil {
		s.Fatal(err)
	}
	defer store.Close()
	r := receiver.New(store, receiver.Options{})
	srv := httptest.NewServer(r)
	defer srv.Close()
	defer r.Shutdown()
	streams := make(map[string][][]byte)
	for _, b := range s.batches() {
		text := append(bytes.Join(b.Lines, []byte{'\n'}), '\n')
		payload := s2.Encode(nil, text)
		streams[b.SID] = append(streams[b.SID], handshake.AppendData(nil, handshake.Data{
			B: uint64(len(streams[b.SID]) + 1), Seq: b.Seq, N: len(b.Lines), At: b.At.UnixMilli(), Enc: "s2",
			Raw: len(text), C: handshake.CRC(payload),
		}, payload))
	}
	start := time.Now()
	var wg sync.WaitGroup
	for sid, messages := range streams {
		wg.Go(func() {
			if err := sendAll("ws"+strings.TrimPrefix(srv.URL, "http"), sid, messages); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	return s.rate(start)
}

// sendAll is a sender: as many messages under way as the window allows.
func sendAll(url, sid string, messages [][]byte) error {
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}}
	conn, _, err := d.Dial(url, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	hello := &handshake.Hello{
		V: handshake.Version, SID: sid, Host: "web1", Enc: []string{"s2"}, Max: 1 << 20, Acked: 1,
		Head: 1 << 40,
	}
	if err := conn.WriteMessage(websocket.TextMessage, handshake.Encode(hello)); err != nil {
		return err
	}
	window := 0
	for sent, acked := 0, uint64(0); acked < uint64(len(messages)); {
		if sent < len(messages) && sent-int(acked) < window {
			if err := conn.WriteMessage(websocket.BinaryMessage, messages[sent]); err != nil {
				return err
			}
			sent++
			continue
		}
		_, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		frame, err := handshake.Decode(text)
		switch f := frame.(type) {
		case nil:
			return err
		case *handshake.Welcome:
			window = f.Win.Batches
		case *handshake.Ack:
			acked = f.B
		case *handshake.Nak, *handshake.Err:
			return fmt.Errorf("%s", text)
		}
	}
	return nil
}

// needSpeed gives the comparison, of indices with the types of setup.
func needSpeed(t *testing.T) *speed {
	t.Helper()
	docs, err := strconv.Atoi(os.Getenv("SPEED_DOCS"))
	if err != nil {
		t.Skip("a comparison, not a test: make bench-engine")
	}
	c, err := elastic.Dial(faults.Engine(t), elastic.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := setup.Run(t.Context(), c, setup.Options{Prefix: "speed", Report: func(setup.Step) {}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faults.Ask(t, http.MethodDelete, "/_index_template/wsrelay-speed", "") })
	return &speed{T: t, docs: docs / speedBatch / speedSenders * speedBatch * speedSenders}
}

// The receiver must not be the bottleneck: it is compared with loaders that do
// nothing but send. Each way has its turn four times, in any order; the best counts.
func TestSpeed_ReceiverBesideABareBulkLoader(t *testing.T) {
	s := needSpeed(t)
	ways := []struct {
		name string
		run  func() float64
	}{
		{"bare loader, ids chosen by the engine, 4 at once", func() float64 { return s.bare(4, nil, s.bodies(false)) }},
		{"bare loader, 2 at once", func() float64 { return s.bare(2, nil, s.bodies(true)) }},
		{"bare loader, 4 at once", func() float64 { return s.bare(4, nil, s.bodies(true)) }},
		{"bare loader, 8 at once", func() float64 { return s.bare(8, nil, s.bodies(true)) }},
		{"wsreceive, 4 senders over WebSocket", func() float64 { return s.received("off") }},
		{"bare loader, 2 at once, gzip", func() float64 { return s.bare(2, fast, s.bodies(true)) }},
		{"bare loader, 4 at once, gzip", func() float64 { return s.bare(4, fast, s.bodies(true)) }},
		{"bare loader, 8 at once, gzip", func() float64 { return s.bare(8, fast, s.bodies(true)) }},
		{"wsreceive, 4 senders over WebSocket, gzip", func() float64 { return s.received("on") }},
		{"bare loader, 4 at once, compressed beforehand", func() float64 {
			return s.bare(4, bytes.Clone, beforehand(s.bodies(true)))
		}},
	}
	best := make([]float64, len(ways))
	for round := range 5 {
		for _, i := range rand.Perm(len(ways)) {
			rate := ways[i].run()
			if round > 0 { // in the first the engine compiles itself
				best[i] = max(best[i], rate)
			}
		}
	}
	for i, way := range ways {
		t.Logf("%7.0f documents/s  %s", best[i], way.name)
	}
	t.Logf("wsreceive gets %.2f of the best bare loader with the same documents, %.2f of the one that leaves the ids to the engine; with gzip %.2f of the best that compresses as it sends, %.2f of the one that had compressed before",
		best[4]/slices.Max(best[1:4]), best[4]/best[0], best[8]/slices.Max(best[5:8]), best[8]/best[9])
}
