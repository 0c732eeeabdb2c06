package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"wsrelay/receiver"
)

// nullDB takes everything.
type nullDB struct{ *fakeDB }

func (nullDB) Add(context.Context, string, []receiver.Batch) error { return nil }
func (nullDB) Barrier(context.Context) error                       { return nil }

// benchLines are lines as nginx logs them in JSON, 371 bytes each.
func benchLines(n int) (lines [][]byte) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		line := fmt.Appendf(nil, `{"time":"2026-11-28T13:00:%02d.%03dZ","remote_addr":"10.%d.%d.%d","method":"GET","path":"/api/v1/items/%d","status":%d,"bytes":%d,"request_time":%.3f,"user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36","request_id":"%016x%016x","pad":"`,
			i/1000%60, i%1000, rnd.IntN(256), rnd.IntN(256), rnd.IntN(256), rnd.IntN(100000), 200+rnd.IntN(300),
			rnd.IntN(100000), rnd.Float64(), rnd.Uint64(), rnd.Uint64())
		for len(line) < 369 {
			line = append(line, 'x')
		}
		lines = append(lines, append(line, `"}`...))
	}
	return lines
}

func openBench(b *testing.B) *Journal {
	path := b.TempDir()
	dir, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	j, err := Open(dir, path, nullDB{newFakeDB(1)}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close(); _ = dir.Close() })
	return j
}

// Batches of 1,000 lines of 371 bytes from one sender, and from four.
func BenchmarkCommit(b *testing.B) {
	for _, senders := range []int{1, 4} {
		b.Run(strconv.Itoa(senders), func(b *testing.B) {
			j := openBench(b)
			lines := benchLines(1000)
			b.SetBytes(1000 * 372)
			b.ReportAllocs()
			done := make(chan bool)
			for s := range senders {
				go func() {
					defer func() { done <- true }()
					for i := s; i < b.N; i += senders {
						batch := receiver.Batch{
							SID: strconv.Itoa(s), Host: "host", Seq: uint64(1 + 1000*i),
							Lines: lines,
						}
						if _, err := j.Commit(b.Context(), []receiver.Batch{batch}); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			for range senders {
				<-done
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// One line at a time: what a lone commit waits for.
func BenchmarkCommit_OneLine(b *testing.B) {
	j := openBench(b)
	lines := benchLines(1)
	for i := range b.N {
		batch := receiver.Batch{SID: "a", Host: "host", Seq: uint64(1 + i), Lines: lines}
		if _, err := j.Commit(b.Context(), []receiver.Batch{batch}); err != nil {
			b.Fatal(err)
		}
	}
}

// The bare disk, with the same writes: files of 64 MiB whose space is allocated
// in steps, one fdatasync after each write.
func BenchmarkDisk(b *testing.B) {
	for _, size := range []int{372 + headLen + 5, 372000 + headLen + 5} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			name := filepath.Join(b.TempDir(), "f")
			var f osFile
			text := make([]byte, size)
			off, end := int64(64<<20), int64(0)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if off >= 64<<20 {
					if f.File != nil {
						_, _ = f.Close(), os.Remove(name)
					}
					file, err := os.Create(name)
					if err != nil {
						b.Fatal(err)
					}
					f, off, end = osFile{file}, 0, 0
				}
				if off+int64(size) > end {
					if err := f.allocate(end, 4<<20); err != nil {
						b.Fatal(err)
					}
					end += 4 << 20
				}
				if err := f.writeAt(text, off); err != nil {
					b.Fatal(err)
				}
				if err := f.sync(); err != nil {
					b.Fatal(err)
				}
				off += int64(size)
			}
			_ = f.Close()
		})
	}
}
