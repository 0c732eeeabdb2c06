package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// intoCat writes each line in a write of its own into cat, which writes to a file.
func intoCat(to string) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		p, w, err := b.startOnPipe("/bin/sh", "-c", "exec cat >"+to)
		if err != nil {
			return nil, verdict{}, err
		}
		settle()
		v, err := b.feedAndWait(p, w, n)
		if err != nil || to == "/dev/null" {
			return v, verdict{}, err
		}
		return b.conclude(v, n, nil)
	}
}

// feedAndWait writes each line in a write of its own and ends the input; the time is that
// until the process has ended.
func (b *sandbox) feedAndWait(p *process, w *os.File, n int) (values, error) {
	start := time.Now()
	if err := b.in.feedEach(w, 0, n); err != nil {
		return nil, err
	}
	writing := time.Since(start).Seconds()
	if err := w.Close(); err != nil {
		return nil, err
	}
	err := p.wait(0, 75) // 75: wsrelay has lines that are not delivered
	v := mean(n, time.Since(start).Seconds())
	v["write"] = float64(n) / writing
	return v, err
}

// catToCat is what moving so many bytes through a pipe into a file costs.
func catToCat(b *sandbox, n int) (values, verdict, error) {
	start := time.Now()
	p, err := b.start(nil, "/bin/sh", "-c", fmt.Sprintf("head -c %d %q | cat >out", b.in.offset(n), b.in.path))
	if err == nil {
		err = p.wait(0)
	}
	return b.conclude(mean(n, time.Since(start).Seconds()), n, err)
}

// appendAndSync appends pieces of three sizes to a file, each followed by a
// fdatasync.
func appendAndSync(b *sandbox, _ int) (values, verdict, error) {
	v := values{}
	for _, s := range []struct {
		name        string
		size, count int
	}{{"250 B", 250, 400}, {"64 KiB", 64 << 10, 200}, {"1 MiB", 1 << 20, 64}} {
		took, err := syncTimes(b.path("sync"), make([]byte, s.size), s.count)
		if err != nil {
			return nil, verdict{}, err
		}
		v[s.name] = median(took) * 1000 // ms
		v[s.name+", rate"] = float64(s.size) / median(took) / 1e6
	}
	return v, verdict{}, nil
}

func syncTimes(path string, piece []byte, count int) (took []float64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only measured
	for range count {
		start := time.Now()
		if _, err := f.Write(piece); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return took, nil
}

// quantile is the value that a share q of them does not exceed.
func quantile(of []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median(of []float64) float64 { return quantile(of, 0.5) }
