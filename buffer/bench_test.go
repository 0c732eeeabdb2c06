package buffer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"wsrelay/internal/codec"
)

// benchLines are n lines of a log in JSON, of some 250 bytes.
func benchLines(n int) (lines []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	agents := []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
		"Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0", "curl/8.5.0",
	}
	for k := range n {
		lines = fmt.Appendf(lines, `{"n":%08d,"id":"%016x","ip":"203.0.%d.%d","path":"/items/%d","status":%d,"referrer":"https://shop.example/cart","agent":"%s","bytes":%d,"rt":0.%03d}`+"\n",
			k, r.Uint64(), r.IntN(256), r.IntN(256), r.IntN(1_000_000), 200+r.IntN(3)*102, agents[r.IntN(len(agents))],
			r.IntN(60_000), r.IntN(1000))
	}
	return lines
}

var benchCodecs = []struct {
	name     string
	codec    codec.Codec
	compress *codec.Codec
}{{"raw", codec.Raw, raw}, {"s2", codec.S2, new(codec.S2)}, {"zstd", codec.Zstd, new(codec.Zstd)}}

func benchQueue(b *testing.B, dir string, c *codec.Codec) *Queue {
	b.Helper()
	q, _, err := Open(b.Context(), dir, Options{Codec: c})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close(context.Background()) })
	return q
}

func reportLines(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "lines/s")
}

// drainQueue acknowledges all, so that the disk does not fill.
func drainQueue(b *testing.B, q *Queue) {
	b.Helper()
	for {
		block, err := q.TryNext()
		if err != nil {
			b.Fatal(err)
		}
		if block == nil {
			return
		}
		if err := q.Ack(block.Range().End, Receipt{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend appends pieces of 900 lines, as the intake does under load,
// until they are on disk; acknowledged as they come.
func BenchmarkAppend(b *testing.B) {
	const n = 900
	lines := benchLines(n)
	for _, c := range benchCodecs {
		b.Run(c.name, func(b *testing.B) {
			q := benchQueue(b, b.TempDir(), c.compress)
			b.SetBytes(int64(len(lines)))
			b.ReportAllocs()
			for k := range b.N {
				if _, err := q.Append(b.Context(), lines, n, Origin{}); err != nil {
					b.Fatal(err)
				}
				if k%64 == 63 {
					drainQueue(b, q)
				}
			}
			if err := q.WaitDurable(b.Context(), q.Stats().Head); err != nil {
				b.Fatal(err)
			}
			reportLines(b, n)
		})
	}
}

// BenchmarkAppendOne makes one line durable at a time.
func BenchmarkAppendOne(b *testing.B) {
	line := benchLines(1)
	q := benchQueue(b, b.TempDir(), nil)
	b.ReportAllocs()
	for b.Loop() {
		r, err := q.Append(b.Context(), line, 1, Origin{})
		if err == nil {
			err = q.WaitDurable(b.Context(), r.End)
		}
		if err != nil {
			b.Fatal(err)
		}
		drainQueue(b, q)
	}
}

// BenchmarkRead reads blocks of a backlog of an earlier run from its segments.
func BenchmarkRead(b *testing.B) {
	const n, blocks = 3600, 64
	lines := benchLines(n)
	for _, c := range benchCodecs {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			q := benchQueue(b, dir, c.compress)
			for range blocks {
				if _, err := q.Append(b.Context(), lines, n, Origin{}); err != nil {
					b.Fatal(err)
				}
			}
			if err := q.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			q = benchQueue(b, dir, c.compress)
			b.SetBytes(int64(len(lines)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				block, err := q.TryNext()
				if block == nil && err == nil {
					if err = q.Rewind(q.Stats().Cursor); err == nil {
						block, err = q.TryNext()
					}
				}
				if block == nil || err != nil {
					b.Fatal(block, err)
				}
			}
			reportLines(b, n)
		})
	}
}

// BenchmarkEncode makes blocks of 1 MiB ready for the disk.
func BenchmarkEncode(b *testing.B) {
	const n = 3600
	lines := benchLines(n)
	for _, c := range benchCodecs {
		b.Run(c.name, func(b *testing.B) {
			var u encodeMemory
			block, whole := new(Block), make([]byte, wholeBlock)
			b.SetBytes(int64(len(lines)))
			b.ReportAllocs()
			for b.Loop() {
				block.buf = append(whole[:headerLen], lines...) //nolint:gocritic // encode replaces it
				block.encode(c.codec, &u)
			}
			reportLines(b, n)
			b.ReportMetric(float64(block.stored)/n, "bytes/line")
		})
	}
}
