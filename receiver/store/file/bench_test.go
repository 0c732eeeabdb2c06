package file

import (
	"fmt"
	"testing"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

func accessLog(n int) (lines [][]byte) {
	for i := range n {
		lines = append(lines, fmt.Appendf(nil, `192.0.2.%d - - [28/Nov/2026:10:00:00 +0000] "GET /%d HTTP/1.1" 200 %d "-" "%0200d"`, i%256, i, i*i, i))
	}
	return lines
}

// BenchmarkCommit commits eight batches of 256 KiB at once.
func BenchmarkCommit(b *testing.B) {
	s, err := Open(b.TempDir()+"/log", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const batches, lines = 8, 900
	group := make([]receiver.Batch, batches)
	for i := range group {
		group[i] = receiver.Batch{SID: sid, Lines: accessLog(lines)}
	}
	b.SetBytes(int64(batches * len(group[0].Text(0, lines))))
	b.ReportAllocs()
	seq := uint64(1)
	for b.Loop() {
		for i := range group {
			group[i].Seq = seq
			seq = group[i].End()
		}
		if _, err := s.Commit(b.Context(), group); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitOfMany commits ten lines at a time of 256 senders or more at once.
func BenchmarkCommitOfMany(b *testing.B) {
	s, err := Open(b.TempDir()+"/log", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const lines = 10
	b.ReportAllocs()
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		batch := receiver.Batch{SID: handshake.NewSID(), Seq: 1, Lines: accessLog(lines)}
		for pb.Next() {
			if _, err := s.Commit(b.Context(), []receiver.Batch{batch}); err != nil {
				b.Error(err)
				return
			}
			batch.Seq = batch.End()
		}
	})
}
