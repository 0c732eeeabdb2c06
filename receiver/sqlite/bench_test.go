package sqlite

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"wsrelay/receiver"
)

// accessLine is a line of an nginx access log in JSON, about 300 bytes.
func accessLine(i uint64) []byte {
	return fmt.Appendf(nil, `{"time":"2026-03-14T15:09:26.%03dZ","remote_addr":"10.0.%d.%d","request_id":"%032x",`+
		`"request":"GET /shop/item-%d?ref=%d HTTP/1.1","status":%d,"bytes":%d,"rt":0.%03d,`+
		`"referer":"https://example.org/list","agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}`,
		i%1000, i/251%7, i%251, i*0x9e3779b97f4a7c15, i%9973, i%31, 200+i%5, 100+i*7919%50000, i*31%1000)
}

func accessBatch(sid string, seq uint64, n int) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: time.UnixMilli(1_750_000_000_000 + int64(seq)).UTC()}
	for i := range uint64(n) {
		b.Lines = append(b.Lines, accessLine(seq+i))
	}
	return b
}

// BenchmarkCommit commits batches of 1000 lines, one after the other: as a
// Store does it, the index following as it can, and by the writer alone.
func BenchmarkCommit(b *testing.B) {
	const lines = 1000
	report := func(b *testing.B, before time.Duration) {
		b.ReportMetric(float64(b.N)*lines/b.Elapsed().Seconds(), "lines/s")
		b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*lines), "cpu-ns/line")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("index=follows", func(b *testing.B) {
		s, err := Open(filepath.Join(b.TempDir(), "bench.db"), Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		batch, before := accessBatch(sidA, 1, lines), cpuTime(b)
		for b.Loop() {
			if _, err := s.Commit(b.Context(), []receiver.Batch{batch}); err != nil {
				b.Fatal(err)
			}
			batch.Seq += lines
		}
		report(b, before)
		st, err := s.Stats(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Unindexed)/float64(st.Documents), "unindexed")
	})
	b.Run("index=none", func(b *testing.B) {
		w := newWriter(b)
		batch, before := accessBatch(sidA, 1, lines), cpuTime(b)
		for b.Loop() {
			if _, err := commit(w, batch); err != nil {
				b.Fatal(err)
			}
			batch.Seq += lines
		}
		report(b, before)
	})
}

// cpuTime is what the process has taken: what else the machine does does not count.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIndex fills the index, in lines a second and in the time that a
// Commit may have to wait.
func BenchmarkIndex(b *testing.B) {
	w := newWriter(b)
	const lines = 200_000
	for seq := uint64(1); seq < lines; seq += 5000 {
		if _, err := commit(w, accessBatch(sidA, seq, 5000)); err != nil {
			b.Fatal(err)
		}
	}
	var longest time.Duration
	start, before, steps := time.Now(), cpuTime(b), 0
	for more := true; more; steps++ {
		var err error
		step := time.Now()
		if more, err = w.index(); err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(step))
	}
	took := time.Since(start)
	b.ReportMetric(lines/took.Seconds(), "lines/s")
	b.ReportMetric(float64(cpuTime(b)-before)/lines, "cpu-ns/line")
	b.ReportMetric(float64(took.Milliseconds())/float64(steps), "ms/step")
	b.ReportMetric(float64(longest.Milliseconds()), "ms/longest")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkFold(b *testing.B) {
	line := accessLine(12345)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		fold(line)
	}
}

// BenchmarkSearch asks a store of LINES lines (100,000 if that is not set) what
// people ask, each ten times; it tells how the store was filled.
func BenchmarkSearch(b *testing.B) {
	lines, err := strconv.Atoi(cmp.Or(os.Getenv("LINES"), "100000"))
	if err != nil {
		b.Fatal(err)
	}
	w := newWriter(b)
	r := readerOf(b, w)
	const step = 5000
	start := time.Now()
	for seq := uint64(1); seq < uint64(lines); seq += step {
		if _, err := commit(w, accessBatch(sidA, seq, step)); err != nil {
			b.Fatal(err)
		}
	}
	stored := time.Since(start)
	plain := stats(b, r).Bytes
	indexAll(b, w)
	b.Logf("%d lines: stored at %.0f/s, indexed at %.0f/s; %d bytes a line, %d with the index", lines,
		float64(lines)/stored.Seconds(), float64(lines)/(time.Since(start)-stored).Seconds(),
		plain/int64(lines), stats(b, r).Bytes/int64(lines))
	for _, text := range []string{
		"", "10.0.3.77", "status:404", "status:404 -firefox", "item-4711", "firefox", "nosuchword", "ite* AND 204",
	} {
		q := query(b, text)
		b.Run("search/"+text, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Search(b.Context(), Request{Query: q, Limit: 200}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("histogram/"+text, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Histogram(b.Context(), q, 100, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
