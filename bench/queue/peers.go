package main

import (
	"errors"
	"time"

	raft "github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/tidwall/wal"
)

// split are batches of n records, each for itself.
func split(n int) (all [variants][][]byte) {
	for k := range all {
		for i := range n {
			all[k] = append(all[k], record(k*n+i))
		}
	}
	return all
}

// tidwall's log appends batches; WriteBatch syncs unless told otherwise.
func tidwall(dir string, o *wal.Options, n int, f func(w *wal.Log,
	write func(k int) error) (float64, error),
) (float64, error) {
	w, err := wal.Open(dir, o)
	if err != nil {
		return 0, err
	}
	lines := split(n)
	var batch wal.Batch
	next := uint64(1)
	v, err := f(w, func(k int) error {
		for _, line := range lines[k%variants] {
			batch.Write(next, line)
			next++
		}
		return w.WriteBatch(&batch) // and clears it
	})
	return v, errors.Join(err, w.Close())
}

func writeTidwall(dir string, d time.Duration, n int) (float64, error) {
	rate, err := tidwall(dir, nil, n, func(_ *wal.Log, write func(int) error) (float64, error) { return repeat(d, write) })
	return rate * float64(n), err
}

func readTidwall(dir string, d time.Duration) (float64, error) {
	const n = 4000
	rate, err := tidwall(dir, &wal.Options{NoSync: true}, n, func(w *wal.Log, write func(int) error) (float64, error) {
		for k := range total / n {
			if err := write(k); err != nil {
				return 0, err
			}
		}
		return repeat(d, func(int) error {
			for k := range uint64(total) {
				if line, err := w.Read(k + 1); err != nil || len(line) != recordLen {
					return errors.Join(errors.New("a record does not read well"), err)
				}
			}
			return nil
		})
	})
	return rate * total, err
}

// raftLog appends batches; StoreLogs syncs.
func raftLog(dir string, n int, f func(w *raftwal.WAL, write func(k int) error) (float64, error)) (float64, error) {
	w, err := raftwal.Open(dir)
	if err != nil {
		return 0, err
	}
	lines := split(n)
	next := uint64(1)
	logs := make([]*raft.Log, n)
	v, err := f(w, func(k int) error {
		for i, line := range lines[k%variants] {
			logs[i] = &raft.Log{Index: next, Data: line}
			next++
		}
		return w.StoreLogs(logs)
	})
	return v, errors.Join(err, w.Close())
}

func writeRaft(dir string, d time.Duration, n int) (float64, error) {
	rate, err := raftLog(dir, n, func(_ *raftwal.WAL, write func(int) error) (float64, error) { return repeat(d, write) })
	return rate * float64(n), err
}

func readRaft(dir string, d time.Duration) (float64, error) {
	const n = 4000
	rate, err := raftLog(dir, n, func(w *raftwal.WAL, write func(int) error) (float64, error) {
		for k := range total / n {
			if err := write(k); err != nil {
				return 0, err
			}
		}
		var log raft.Log
		return repeat(d, func(int) error {
			for k := range uint64(total) {
				if err := w.GetLog(k+1, &log); err != nil || len(log.Data) != recordLen {
					return errors.Join(errors.New("a record does not read well"), err)
				}
			}
			return nil
		})
	})
	return rate * total, err
}
