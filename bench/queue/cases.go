package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
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

const variants = 16 // of a batch, written in turn

// joined are batches of n records, as one slice each.
func joined(n int) (all [variants][]byte) {
	for k := range all {
		for i := range n {
			all[k] = append(all[k], record(k*n+i)...)
		}
	}
	return all
}

// measured is one thing that is measured, for about so long, in a fresh directory.
type measured struct {
	name string
	run  func(dir string, d time.Duration) (float64, error)
}

var codecs = map[string]*codec.Codec{
	"raw": new(codec.Raw), "s2": new(codec.S2), "zstd": new(codec.Zstd), "auto": nil,
}

func cases() (all []measured) {
	add := func(name string, run func(string, time.Duration) (float64, error)) {
		all = append(all, measured{name, run})
	}
	for _, n := range batches {
		what := fmt.Sprintf("write, %d at a time", n)
		add("disk, "+what, func(dir string, d time.Duration) (float64, error) { return writeDisk(dir, d, n) })
		for _, name := range []string{"raw", "auto"} {
			add("wsrelay, "+name+", "+what, func(dir string, d time.Duration) (float64, error) { return writeQueue(dir, d, n, codecs[name]) })
		}
		add("tidwall/wal, "+what, func(dir string, d time.Duration) (float64, error) { return writeTidwall(dir, d, n) })
		add("raft-wal, "+what, func(dir string, d time.Duration) (float64, error) { return writeRaft(dir, d, n) })
	}
	add("disk, stream", func(dir string, d time.Duration) (float64, error) {
		rate, err := writeDisk(dir, d, buffer.MaxBlock/recordLen)
		return rate * recordLen, err
	})
	for _, name := range []string{"raw", "auto"} {
		add("wsrelay, "+name+", stream", func(dir string, d time.Duration) (float64, error) { return stream(dir, d, codecs[name], false) })
	}
	add("wsrelay, raw, recycled stream", func(dir string, d time.Duration) (float64, error) { return stream(dir, d, new(codec.Raw), true) })
	add("disk, one line", oneLineDisk)
	add("wsrelay, one line", oneLineQueue)
	for _, name := range []string{"raw", "s2", "zstd"} {
		add("wsrelay, "+name+", read", func(dir string, d time.Duration) (float64, error) {
			return readQueue(dir, d, codecs[name], eachRecord)
		})
	}
	add("tidwall/wal, read", readTidwall)
	add("raft-wal, read", readRaft)
	add("disk, read", readDisk)
	add("wsrelay, drain", func(dir string, d time.Duration) (float64, error) {
		rate, err := readQueue(dir, d, new(codec.Raw), func(b *buffer.Block) (int, error) { return int(b.Range().Len()), nil })
		return rate * recordLen, err
	})
	for _, name := range []string{"raw", "zstd"} {
		add("wsrelay, "+name+", size", func(dir string, _ time.Duration) (float64, error) { return size(dir, codecs[name]) })
	}
	return all
}

// repeat calls f for about d, and gives how often a second.
func repeat(d time.Duration, f func(k int) error) (float64, error) {
	begun := time.Now()
	k := 0
	for ; k == 0 || time.Since(begun) < d; k++ {
		if err := f(k); err != nil {
			return 0, err
		}
	}
	return float64(k) / time.Since(begun).Seconds(), nil
}

func writeDisk(dir string, d time.Duration, n int) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		return 0, err
	}
	lines := joined(n)
	rate, err := repeat(d, func(k int) error {
		_, err := f.Write(lines[k%variants])
		return errors.Join(err, unix.Fdatasync(int(f.Fd())))
	})
	return rate * float64(n), errors.Join(err, f.Close())
}

// withQueue opens a queue and closes it when f is done.
func withQueue(dir string, with *codec.Codec, f func(*buffer.Queue) (float64, error)) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	q, _, err := buffer.Open(ctx, dir, buffer.Options{Codec: with})
	if err != nil {
		return 0, err
	}
	v, err := f(q)
	return v, errors.Join(err, q.Close(ctx))
}

// put appends n records and waits until they are durable.
func put(q *buffer.Queue, lines []byte, n int) error {
	r, err := q.Append(context.Background(), lines, n, buffer.Origin{})
	if err != nil {
		return err
	}
	return q.WaitDurable(context.Background(), r.End)
}

func writeQueue(dir string, d time.Duration, n int, with *codec.Codec) (float64, error) {
	lines := joined(n)
	rate, err := withQueue(dir, with, func(q *buffer.Queue) (float64, error) {
		return repeat(d, func(k int) error { return put(q, lines[k%variants], n) })
	})
	return rate * float64(n), err
}

// stream appends pieces of 64 KiB without a wait for each, as the intake does,
// until all are durable: bytes a second. With drain, they are acknowledged as
// they come, and their segments written again.
func stream(dir string, d time.Duration, with *codec.Codec, drain bool) (float64, error) {
	const n = 64 << 10 / recordLen
	lines := joined(n)
	return withQueue(dir, with, func(q *buffer.Queue) (float64, error) {
		ctx, cancel := context.WithCancel(context.Background())
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			for drain {
				b, err := q.Next(ctx)
				if err != nil {
					return
				}
				_ = q.Ack(b.Range().End, buffer.Receipt{})
				q.Release(b)
			}
		}()
		defer func() { cancel(); <-drained }()
		one := func(k int) error {
			_, err := q.Append(ctx, lines[k%variants], n, buffer.Origin{})
			return err
		}
		for k := 0; drain && k < 200<<20/(n*recordLen); k++ { // until there is a segment to write again
			if err := one(k); err != nil {
				return 0, err
			}
		}
		if err := q.WaitDurable(ctx, q.Stats().Head); err != nil {
			return 0, err
		}
		begun, pieces := time.Now(), 0
		if _, err := repeat(d, func(k int) error { pieces++; return one(k) }); err != nil {
			return 0, err
		}
		err := q.WaitDurable(ctx, q.Stats().Head)
		return float64(pieces) * n * recordLen / time.Since(begun).Seconds(), err
	})
}

// p50 of f in milliseconds, with idleness before each call.
func p50(d time.Duration, f func(k int) error) (float64, error) {
	var took []float64
	_, err := repeat(d, func(k int) error {
		time.Sleep(10 * time.Millisecond)
		begun := time.Now()
		err := f(k)
		took = append(took, time.Since(begun).Seconds()*1e3)
		return err
	})
	slices.Sort(took)
	return took[len(took)/2], err
}

func oneLineDisk(dir string, d time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		return 0, err
	}
	v, err := p50(d, func(k int) error {
		_, err := f.Write(record(k))
		return errors.Join(err, unix.Fdatasync(int(f.Fd())))
	})
	return v, errors.Join(err, f.Close())
}

func oneLineQueue(dir string, d time.Duration) (float64, error) {
	return withQueue(dir, nil, func(q *buffer.Queue) (float64, error) {
		return p50(d, func(k int) error { return put(q, record(k), 1) })
	})
}

const total = 400_000 // records that are read

// filled opens a queue that another life has filled: nothing is in memory.
func filled(dir string, with *codec.Codec, f func(*buffer.Queue) (float64, error)) (float64, error) {
	const n = 4000
	lines := joined(n)
	_, err := withQueue(dir, with, func(q *buffer.Queue) (float64, error) {
		for k := range total / n {
			if _, err := q.Append(context.Background(), lines[k%variants], n, buffer.Origin{}); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	if err != nil {
		return 0, err
	}
	return withQueue(dir, with, f)
}

// readQueue reads a backlog again and again.
func readQueue(dir string, d time.Duration, with *codec.Codec, take func(*buffer.Block) (int, error)) (float64, error) {
	return filled(dir, with, func(q *buffer.Queue) (float64, error) {
		rate, err := repeat(d, func(int) error {
			got := 0
			for got < total {
				b, err := q.TryNext()
				if err != nil || b == nil {
					return errors.Join(err, fmt.Errorf("%d records, want %d", got, total))
				}
				n, err := take(b)
				if err != nil {
					return err
				}
				got += n
				q.Release(b)
			}
			return q.Rewind(q.Stats().Cursor)
		})
		return rate * total, err
	})
}

// scratch is where blocks are decoded to.
var scratch []byte

// eachRecord has each record of b in its hand.
func eachRecord(b *buffer.Block) (n int, err error) {
	scratch, err = b.Lines(scratch[:0])
	for line := range bytes.Lines(scratch) {
		if len(line) != recordLen {
			return n, fmt.Errorf("a record of %d bytes", len(line))
		}
		n++
	}
	return n, err
}

func readDisk(dir string, d time.Duration) (float64, error) {
	name := filepath.Join(dir, "f")
	block := bytes.Repeat(record(1), buffer.MaxBlock/recordLen)
	var content []byte
	for len(content) < total*recordLen {
		content = append(content, block...)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	table, want := crc32.MakeTable(crc32.Castagnoli), crc32.Checksum(block, crc32.MakeTable(crc32.Castagnoli))
	rate, err := repeat(d, func(int) error {
		for off := 0; off < len(content); off += len(block) {
			if _, err := f.ReadAt(block, int64(off)); err != nil {
				return err
			}
			if crc32.Checksum(block, table) != want {
				return errors.New("checksum")
			}
		}
		return nil
	})
	return rate * float64(len(content)), errors.Join(err, f.Close())
}

// size is the bytes on disk for a record.
func size(dir string, with *codec.Codec) (float64, error) {
	if _, err := filled(dir, with, func(*buffer.Queue) (float64, error) { return 0, nil }); err != nil {
		return 0, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	sum := int64(0)
	for _, name := range names {
		st, failed := os.Stat(name)
		if failed != nil {
			return 0, failed
		}
		sum += st.Size()
	}
	return float64(sum) / total, err
}
