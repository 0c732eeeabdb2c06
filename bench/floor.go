package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
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
// fdatasync; the small ones also at the pace at which latency is measured: a disk
// that has rested takes longer.
func appendAndSync(b *sandbox, _ int) (values, verdict, error) {
	v := values{}
	for _, s := range []struct {
		name        string
		size, count int
		every       time.Duration
	}{
		{"250 B", 250, 400, 0},
		{"100 a second", 250, 300, 10 * time.Millisecond},
		{"64 KiB", 64 << 10, 200, 0},
		{"1 MiB", 1 << 20, 64, 0},
	} {
		took, err := syncTimes(b.path("sync"), make([]byte, s.size), s.count, s.every)
		if err != nil {
			return nil, verdict{}, err
		}
		v[s.name] = median(took) * 1000 // ms
		v[s.name+", rate"] = float64(s.size) / median(took) / 1e6
	}
	v["rate"] = v["1 MiB, rate"] * 1e6 / b.in.mean()
	return v, verdict{}, nil
}

func syncTimes(path string, piece []byte, count int, every time.Duration) (took []float64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only measured
	for begin := time.Now(); count > 0; count-- {
		time.Sleep(time.Until(begin.Add(every * time.Duration(len(took)))))
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

// s2Alone encodes the lines in blocks as large as those of a queue in a hurry, and
// decodes them: what both ends cannot do without. It counts what one core works, not
// what the other processes of the machine take of it.
func s2Alone(b *sandbox, n int) (values, verdict, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var encoding, decoding time.Duration
	scratch, decoded := make([]byte, 2*buffer.MaxBlock), make([]byte, 0, buffer.MaxBlock)
	for rest := b.in.lines(0, n); len(rest) > 0; {
		piece := rest[:min(len(rest), buffer.MaxBlock)]
		rest = rest[len(piece):]
		start := threadClock()
		encoded := codec.S2.Encode(scratch, piece)
		between := threadClock()
		got, err := codec.S2.Decode(decoded, encoded, len(piece))
		encoding, decoding = encoding+between-start, decoding+threadClock()-between
		if err != nil || !bytes.Equal(got, piece) {
			return nil, verdict{altered: 1}, err
		}
	}
	both := (encoding + decoding).Seconds()
	v := mean(n, both)
	v["encode"], v["cpu"] = float64(n)/encoding.Seconds(), both*million/float64(n)
	return v, verdict{}, nil
}

// threadClock is how long this thread has had a processor.
func threadClock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // 0 where there is none
	return time.Duration(ts.Nano())
}

// idleGo starts a program that does nothing twice.
func idleGo(b *sandbox, _ int) (values, verdict, error) {
	var pss int64
	var both []*process
	for range 2 {
		p, _, err := b.startOnPipe(b.program("nothing"))
		if err != nil {
			return nil, verdict{}, err
		}
		both = append(both, p)
	}
	settle()
	for _, p := range both {
		pss += p.pss()
	}
	return values{"pss": mib(pss)}, verdict{}, nil
}

// quantile is the value that a share q of them does not exceed.
func quantile(of []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median(of []float64) float64 { return quantile(of, 0.5) }
