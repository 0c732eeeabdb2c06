package receiver

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
)

func TestReceiver_CountsWhatItDid(t *testing.T) {
	var down atomic.Bool
	store := &memStore{hook: func(context.Context, []Batch) error {
		if down.Swap(false) {
			return errors.New("store is away")
		}
		return nil
	}}
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "a", "b")
	s.wantAck(3)
	down.Store(true)
	s.control(&handshake.Gap{B: s.b + 1, Seq: 3, N: 7, Why: handshake.GapExpired, At: 1_700_000_000_000})
	s.b++
	s.wantAck(10)
	s.control(&handshake.Gap{B: s.b + 1, Seq: 10, N: 2, Why: `of its "own`, At: 1_700_000_000_000})
	s.b++
	s.wantAck(12)
	s.lines(20, "out of order")
	s.wantNak(handshake.NakOrder, 12)
	again := connect(t, url) // takes the stream over, and sends the first line again
	again.lines(1, "a")
	again.wantAck(2)

	var text metrics.Text
	r.Metrics(&text)
	for _, want := range []string{
		`wsreceive_documents_total{result="new"} 4`, // two lines, two gaps
		`wsreceive_documents_total{result="duplicate"} 1`,
		`wsreceive_documents_total{result="dead_letter"} 0`,
		`wsreceive_gap_lines_total{why="expired"} 7`,
		`wsreceive_gap_lines_total{why="other"} 2`,
		`wsreceive_gap_lines_total{why="overflow"} 0`,
		`wsreceive_refused_batches_total 1`,
		`wsreceive_store_failures_total 1`,
		`wsreceive_store_up 1`,
		`wsreceive_lag_seconds_bucket{le="86400"} 0`,
		`wsreceive_lag_seconds_count 2`,
		`wsreceive_commit_seconds_count 4`,
	} {
		if !strings.Contains(string(text.Bytes()), want+"\n") {
			t.Errorf("no %s in\n%s", want, text.Bytes())
		}
	}
	if n := strings.Count(string(text.Bytes()), `wsreceive_sender_lag_seconds{host="web1",sid="`+sid+`"} `); n != 1 {
		t.Errorf("the sender is there %d times", n)
	}
}
