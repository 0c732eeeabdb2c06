// Package queue measures wsrelay's disk queue beside others, and beside the
// bare disk, in one run: only the ratios mean anything.
//
//	cd bench/queue && go test -bench . -benchtime 2s
//
// Each record is 250 bytes of a log that compresses as logs do. A write counts
// when it would survive a power cut; a read when the bytes are checked and in
// the caller's hand.
package queue

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	raft "github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/tidwall/wal"
	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

const recordLen = 250

// record is line n, always recordLen bytes with its newline.
func record(n int) []byte {
	line := fmt.Sprintf(`{"ip":"203.0.113.%d","host":"www%d.example.com","path":"/articles/%d/comments?page=%d","status":%d,"length":%d,"generation_time_milli":%d,"date":"2026-03-14T09:%02d:%02d+00:00","user_agent":"Mozilla/5.0 (X11; Linux x86_64)"`,
		n%251, n%7, n*7919%100003, n%17, 200+n%5*100, n*31%90001, n%997, n/60%60, n%60)
	b := make([]byte, recordLen)
	for k := copy(b, line); k < recordLen-2; k++ {
		b[k] = ' '
	}
	b[recordLen-2], b[recordLen-1] = '}', '\n'
	return b
}

// batches are n records as one slice each, and each record for itself.
func batches(n int) (joined [][]byte, records [][][]byte) {
	for k := range 16 {
		var one []byte
		var each [][]byte
		for i := range n {
			r := record(k*n + i)
			one, each = append(one, r...), append(each, r)
		}
		joined, records = append(joined, one), append(records, each)
	}
	return joined, records
}

func rate(b *testing.B, records int) {
	b.SetBytes(int64(records / b.N * recordLen))
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

var sizes = []int{1, 100, 1000, 4000}

func BenchmarkWrite(b *testing.B) {
	for _, n := range sizes {
		joined, records := batches(n)
		for name, codec := range map[string]buffer.Compress{"wsrelay/raw": buffer.CompressNone, "wsrelay/s2": buffer.CompressS2, "wsrelay/auto": buffer.CompressAuto} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, n), func(b *testing.B) {
				q := open(b, codec)
				b.ResetTimer()
				for k := range b.N {
					r, err := q.Append(b.Context(), joined[k%16], n, buffer.Origin{})
					check(b, err)
					check(b, q.WaitDurable(b.Context(), r.End))
				}
				rate(b, b.N*n)
			})
		}
		b.Run(fmt.Sprintf("tidwall-wal/batch=%d", n), func(b *testing.B) {
			w, err := wal.Open(b.TempDir(), nil)
			check(b, err)
			defer w.Close()
			var batch wal.Batch
			next := uint64(1)
			b.ResetTimer()
			for k := range b.N {
				for _, r := range records[k%16] {
					batch.Write(next, r)
					next++
				}
				check(b, w.WriteBatch(&batch)) // syncs
				batch.Clear()
			}
			rate(b, b.N*n)
		})
		b.Run(fmt.Sprintf("raft-wal/batch=%d", n), func(b *testing.B) {
			w, err := raftwal.Open(b.TempDir())
			check(b, err)
			defer w.Close()
			next := uint64(1)
			b.ResetTimer()
			for k := range b.N {
				logs := make([]*raft.Log, n)
				for i, r := range records[k%16] {
					logs[i] = &raft.Log{Index: next, Data: r}
					next++
				}
				check(b, w.StoreLogs(logs))
			}
			rate(b, b.N*n)
		})
		b.Run(fmt.Sprintf("disk/batch=%d", n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "f"))
			check(b, err)
			defer f.Close()
			b.ResetTimer()
			for k := range b.N {
				_, err := f.Write(joined[k%16])
				check(b, err)
				check(b, unix.Fdatasync(int(f.Fd())))
			}
			rate(b, b.N*n)
		})
	}
}

// BenchmarkStream appends without a wait for each batch, as the intake does;
// the disk writes and syncs blocks of 1 MiB.
func BenchmarkStream(b *testing.B) {
	const n = 4000
	joined, _ := batches(n)
	for name, codec := range map[string]buffer.Compress{"wsrelay/raw": buffer.CompressNone, "wsrelay/s2": buffer.CompressS2, "wsrelay/auto": buffer.CompressAuto} {
		b.Run(name, func(b *testing.B) {
			q := open(b, codec)
			var last buffer.Range
			b.ResetTimer()
			for k := range b.N {
				var err error
				last, err = q.Append(b.Context(), joined[k%16], n, buffer.Origin{})
				check(b, err)
			}
			check(b, q.WaitDurable(b.Context(), last.End))
			rate(b, b.N*n)
		})
	}
	b.Run("disk", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "f"))
		check(b, err)
		defer f.Close()
		b.ResetTimer()
		for k := range b.N {
			_, err := f.Write(joined[k%16])
			check(b, err)
			check(b, unix.Fdatasync(int(f.Fd())))
		}
		rate(b, b.N*n)
	})
}

func BenchmarkRead(b *testing.B) {
	const n, total = 4000, 400_000
	joined, records := batches(n)
	for name, codec := range map[string]buffer.Compress{"wsrelay/raw": buffer.CompressNone, "wsrelay/s2": buffer.CompressS2, "wsrelay/zstd": buffer.CompressZstd} {
		b.Run(name, func(b *testing.B) {
			q := open(b, codec)
			var last buffer.Range
			for k := range total / n {
				var err error
				last, err = q.Append(b.Context(), joined[k%16], n, buffer.Origin{})
				check(b, err)
			}
			check(b, q.WaitDurable(b.Context(), last.End))
			b.ResetTimer()
			for range b.N {
				first := q.Stats().Cursor
				for {
					blk, err := q.TryNext()
					check(b, err)
					if blk == nil {
						break
					}
				}
				check(b, q.Rewind(first))
			}
			rate(b, b.N*total)
		})
	}
	b.Run("tidwall-wal", func(b *testing.B) {
		w, err := wal.Open(b.TempDir(), &wal.Options{NoSync: true})
		check(b, err)
		defer w.Close()
		var batch wal.Batch
		for k := range total {
			batch.Write(uint64(k+1), records[k/n%16][k%n])
			if (k+1)%n == 0 {
				check(b, w.WriteBatch(&batch))
				batch.Clear()
			}
		}
		b.ResetTimer()
		for range b.N {
			for k := range uint64(total) {
				_, err := w.Read(k + 1)
				check(b, err)
			}
		}
		rate(b, b.N*total)
	})
	b.Run("raft-wal", func(b *testing.B) {
		w, err := raftwal.Open(b.TempDir())
		check(b, err)
		defer w.Close()
		for k := 0; k < total; k += n {
			logs := make([]*raft.Log, n)
			for i := range logs {
				logs[i] = &raft.Log{Index: uint64(k + i + 1), Data: records[k/n%16][i]}
			}
			check(b, w.StoreLogs(logs))
		}
		var log raft.Log
		b.ResetTimer()
		for range b.N {
			for k := range uint64(total) {
				check(b, w.GetLog(k+1, &log))
			}
		}
		rate(b, b.N*total)
	})
	b.Run("disk", func(b *testing.B) {
		name := filepath.Join(b.TempDir(), "f")
		f, err := os.Create(name)
		check(b, err)
		defer f.Close()
		for k := range total / n {
			_, err := f.Write(joined[k%16])
			check(b, err)
		}
		block := make([]byte, len(joined[0]))
		table := crc32.MakeTable(crc32.Castagnoli)
		b.ResetTimer()
		for range b.N {
			for k := range total / n {
				_, err := f.ReadAt(block, int64(k*len(block)))
				check(b, err)
				sum = crc32.Checksum(block, table)
			}
		}
		rate(b, b.N*total)
	})
}

var sum uint32

func open(b *testing.B, codec buffer.Compress) *buffer.Queue {
	b.Helper()
	q, _, err := buffer.Open(b.Context(), b.TempDir(), buffer.Options{Compress: codec, Limit: 16 << 30})
	check(b, err)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = q.Close(ctx)
	})
	return q
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}
