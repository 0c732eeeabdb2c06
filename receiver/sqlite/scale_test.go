package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"wsrelay/receiver"
)

// TestScale tells what a store of SCALE lines costs, to fill and to search: see
// make bench-search. The store stays in SCALE_DIR, if that is set, and the next run
// goes on where this one was ended. It holds nothing against what it measures.
func TestScale(t *testing.T) {
	lines, err := strconv.ParseUint(os.Getenv("SCALE"), 10, 64)
	if err != nil {
		t.Skip("SCALE=1000000 measures a store of a million lines")
	}
	dir := cmp.Or(os.Getenv("SCALE_DIR"), t.TempDir())
	b := &scale{T: t, lines: lines / scaleStreams / scaleBatch * scaleBatch * scaleStreams}
	b.floor(filepath.Join(dir, "floor.db"))
	s, err := Open(filepath.Join(dir, "scale.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.fill(s)
	b.catchUp(s)
	b.lag(s)
	b.search(s)
}

// Senders of a scale, and the lines of their batches.
const (
	scaleStreams = 8
	scaleBatch   = 1000
	scaleDays    = 30 // that the lines are spread over
)

type scale struct {
	*testing.T
	lines uint64
}

func (b *scale) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// batch gives a batch of a stream. Line for line it is a function of the number.
func (b *scale) batch(stream int, seq uint64) receiver.Batch {
	const days = scaleDays * 24 * time.Hour
	done := float64(seq) / float64(b.lines/scaleStreams)
	batch := receiver.Batch{
		SID: fmt.Sprintf("5ca1e%011d", stream), Host: fmt.Sprintf("web%d", stream), Seq: seq,
		At: time.UnixMilli(1_750_000_000_000).UTC().Add(time.Duration(done * float64(days))),
	}
	for i := range uint64(scaleBatch) {
		batch.Lines = append(batch.Lines, scaleLine((seq+i)*scaleStreams+uint64(stream)))
	}
	return batch
}

// scaleLine is line n of all: of ten, seven of nginx, in JSON, the others plain.
func scaleLine(n uint64) []byte {
	mixed := n * 0x9e3779b97f4a7c15 >> 20
	switch n / scaleStreams % 10 {
	case 7:
		return fmt.Appendf(nil, "sshd[%d]: Failed password for invalid user %s from 198.51.%d.%d port %d ssh2",
			mixed%30000, []string{"admin", "root", "oracle", "test", "git"}[mixed%5], mixed>>8%256, mixed>>16%256, mixed%60000)
	case 8:
		return fmt.Appendf(nil, "worker[812]: order %d: payment gateway answered %s after %d ms, retry %d of 5, customer c%d",
			n, []string{"ok", "ok", "ok", "timeout", "refused"}[mixed%5], mixed%30000, mixed%5, mixed%100_003)
	case 9:
		return fmt.Appendf(nil, "kernel: [%d.%06d] nf_conntrack: table %s, dropping packet, len=%d", n/1000, mixed%1_000_000,
			[]string{"ok", "full"}[min(mixed%1000, 1)], mixed%1500)
	}
	return accessLine(mixed)
}

// floor is what the writer does alone: durable commits, and no index.
func (b *scale) floor(path string) {
	w, err := openWriter(path)
	b.ok(err)
	n, start := uint64(0), time.Now()
	for seq := uint64(1); n < min(b.lines, 1_000_000); seq += scaleBatch {
		for stream := range scaleStreams {
			_, err := commit(w, b.batch(stream, seq))
			b.ok(err)
			n += scaleBatch
		}
	}
	took := time.Since(start)
	b.ok(w.close())
	info, err := os.Stat(path)
	b.ok(err)
	b.Logf("without an index: %d lines, %.0f lines/s, %d bytes a line", n, float64(n)/took.Seconds(), info.Size()/int64(n))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Fatal(err)
		}
	}
}

// fill commits what is missing, by all streams at the same time.
func (b *scale) fill(s *Store) {
	before, err := s.Stats(b.Context())
	b.ok(err)
	each := b.lines / scaleStreams
	next := [scaleStreams]uint64{}
	for i := range next {
		next[i] = 1
		for _, st := range before.Streams {
			if st.SID == b.batch(i, 1).SID {
				next[i] = st.Cursor
			}
		}
	}
	start := time.Now()
	var all sync.WaitGroup
	for stream := range next {
		all.Go(func() {
			for seq := next[stream]; seq <= each; seq += scaleBatch {
				if _, err := s.Commit(b.Context(), []receiver.Batch{b.batch(stream, seq)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	b.watch(s, start, before.Documents, done)
}

// watch says every half minute how far it is.
func (b *scale) watch(s *Store, start time.Time, before int64, done <-chan struct{}) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-tick.C:
		}
		st, err := s.Stats(b.Context())
		b.ok(err)
		took := time.Since(start)
		b.Logf("stored: %d lines, %.0f lines/s, of which not in the index yet: %d", st.Documents,
			float64(st.Documents-before)/took.Seconds(), st.Unindexed)
	}
}

func (b *scale) catchUp(s *Store) {
	before, err := s.Stats(b.Context())
	b.ok(err)
	took := b.indexed(s)
	st, err := s.Stats(b.Context())
	b.ok(err)
	b.Logf("the index has caught up: %d lines in %v, %.0f lines/s; %d bytes a line with it", before.Unindexed, took.Round(time.Millisecond),
		float64(before.Unindexed)/max(took.Seconds(), 1e-3), st.Bytes/st.Documents)
}

// indexed waits until the index has everything.
func (b *scale) indexed(s *Store) time.Duration {
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int64
		b.ok(s.db.QueryRowContext(b.Context(), "SELECT count(*) FROM unindexed").Scan(&n))
		if n == 0 {
			return time.Since(start)
		}
		<-tick.C
	}
}

// lag measures how long a batch that comes alone is not in the index; it is found
// all the same.
func (b *scale) lag(s *Store) {
	var lags []time.Duration
	st, err := s.Stats(b.Context())
	b.ok(err)
	end := max(st.Streams[0].Cursor, b.lines/scaleStreams+1)
	for i := range uint64(30) {
		batch := b.batch(0, end+i*scaleBatch)
		batch.At = b.batch(0, b.lines/scaleStreams).At
		_, err := s.Commit(b.Context(), []receiver.Batch{batch})
		b.ok(err)
		lags = append(lags, b.indexed(s))
	}
	b.Logf("lag of the index behind a batch of %d lines: %s", scaleBatch, percentiles(lags))
}

// search asks what people ask, with the page's limit and its patience.
func (b *scale) search(s *Store) {
	day := time.UnixMilli(1_750_000_000_000).UTC().Add(scaleDays / 2 * 24 * time.Hour)
	half := fmt.Sprintf("from:%s to:%s", day.Format(time.RFC3339), day.Add(12*time.Hour).Format(time.RFC3339))
	rare := strconv.FormatUint(scaleStreams*8+b.lines/2, 10) // the number of an order
	b.Logf("%-34s %40s   %s", "query", "search, 200 lines: p50, p99, most", "histogram, 100 bars: once")
	for _, text := range []string{
		"", rare, "nosuchword", "refused", "firefox", "firefox refused", "timeout customer", `"failed password"`, "orac*",
		"status:203", "status:=203 -firefox", "host:web3", "host:web3 refused", "conntrack full", half, half + " refused", half + " status:203",
	} {
		q := query(b.T, text)
		var took []time.Duration
		found := Result{}
		for start := time.Now(); len(took) < 100 && time.Since(start) < 10*time.Second; {
			began := time.Now()
			var err error
			found, err = s.Search(context.Background(), Request{Query: q, Limit: 1000, Cut: 2 << 10, Budget: 5 * time.Second})
			b.ok(err)
			took = append(took, time.Since(began))
		}
		began := time.Now()
		h, err := s.Histogram(context.Background(), q, 100, 4*time.Second)
		b.ok(err)
		total := int64(0)
		for _, n := range h.Counts {
			total += n
		}
		b.Logf("%-34.34s %40s   %v, %d lines%s%s", text, percentiles(took), time.Since(began).Round(100*time.Microsecond), total,
			cut(h.Complete, ", counted in part"), cut(found.Complete, "; search cut off"))
	}
}

func cut(complete bool, words string) string {
	if complete {
		return ""
	}
	return words
}

func percentiles(all []time.Duration) string {
	slices.Sort(all)
	at := func(p int) time.Duration { return all[(len(all)-1)*p/100].Round(10 * time.Microsecond) }
	return fmt.Sprintf("%v, %v, %v", at(50), at(99), at(100))
}
