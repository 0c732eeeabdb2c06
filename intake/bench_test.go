package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
)

// BenchmarkIntake tells what exactly once costs: lines of 250 bytes, one a write
// of another process, through the spool to the durable queue, against a plain
// read and a fdatasync of what it gave. Each iteration does both, in turns first; rates and
// their ratio are medians. Without compression both put the same bytes on disk.
//
//	go test -run '^$' -bench Intake -benchtime 11x ./intake
func BenchmarkIntake(b *testing.B) {
	for name, compress := range map[string]*codec.Codec{"none": new(codec.Raw), "auto": nil} {
		b.Run("compress="+name, func(b *testing.B) {
			intoQueue := func(b *testing.B, r *os.File) error { return intoQueue(b, r, compress) }
			var spool, plain, ratio []float64
			for k := range b.N {
				var m, p float64
				if k%2 == 0 {
					m = rate(b, intoQueue)
				}
				p = rate(b, intoFile)
				if k%2 == 1 {
					m = rate(b, intoQueue)
				}
				spool, plain, ratio = append(spool, m), append(plain, p), append(ratio, m/p)
			}
			b.ReportMetric(median(spool), "spool_lines/s")
			b.ReportMetric(median(plain), "plain_lines/s")
			b.ReportMetric(median(ratio), "ratio")
			b.ReportMetric(slices.Min(ratio), "worst_ratio")
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// logLines is some seconds of a web server's log, 250 bytes a line.
func logLines() [][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	lines := make([][]byte, 100_000)
	for k := range lines {
		line := fmt.Appendf(nil, `{"timestamp":"2026-03-14T09:%02d:%02d.%06d+00:00","host":"web%d","program":"nginx","pid":"%d","message":"203.0.113.%d GET /item/%x %d %d"`,
			k/60%60, k%60, k, rnd.IntN(9), rnd.IntN(30000), rnd.IntN(256), rnd.Uint64(), 200+rnd.IntN(300),
			rnd.IntN(1<<20))
		for len(line) < 248 {
			line = fmt.Appendf(line, " %x", rnd.Uint64())
		}
		lines[k] = append(line[:248], "}\n"...)
	}
	return lines
}

const (
	benchLines = 1_600_000
	writerEnv  = "WSRELAY_BENCH_WRITER"
)

// The writer is this program as another process: it writes when its input ends.
func init() {
	if os.Getenv(writerEnv) == "" {
		return
	}
	lines := logLines()
	_ = os.Stderr.Close() // ready
	_, _ = io.Copy(io.Discard, os.Stdin)
	for range benchLines / len(lines) {
		for _, line := range lines {
			_, _ = unix.Write(1, line)
		}
	}
	os.Exit(0)
}

// rate is how many lines a second get from a pipe to the disk.
func rate(b *testing.B, ingest func(b *testing.B, r *os.File) error) float64 {
	b.Helper()
	var p [2]int // blocking, as one from syslog-ng is: the runtime does not watch it
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	defer r.Close()
	_, _ = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	writer := exec.CommandContext(b.Context(), os.Args[0])
	writer.Env, writer.Stdout = append(os.Environ(), writerEnv+"=1"), w
	start, err := writer.StdinPipe()
	ready, failed := writer.StderrPipe()
	if err = cmp.Or(err, failed); err == nil {
		err = writer.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	_ = w.Close()
	_, _ = io.Copy(io.Discard, ready)
	began := time.Now()
	_ = start.Close()
	if err := ingest(b, r); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if err := writer.Wait(); err != nil {
		b.Fatal(err)
	}
	return benchLines / took.Seconds()
}

func intoQueue(b *testing.B, r *os.File, compress *codec.Codec) error {
	k, err := newSpool()
	if err != nil {
		return err
	}
	defer k.close()
	m, err := openSpool(k, int(r.Fd()))
	if err != nil {
		return err
	}
	defer kept{m.null, m.teePipe}.close()
	in := &Intake{fd: m.pipe, id: m.id, spool: m, input: m, coalesceDelay: coalesceDelay(m.pipe)}
	q, rec, err := buffer.Open(b.Context(), filepath.Join(b.TempDir(), "q"),
		buffer.Options{LiveInput: in.LiveInput(), Codec: compress})
	if err != nil {
		return err
	}
	err = in.Run(b.Context(), b.Context(), q, rec, slog.New(slog.DiscardHandler))
	return errors.Join(err, q.Close(context.Background()))
}

func intoFile(b *testing.B, r *os.File) error {
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		return err
	}
	defer f.Close()
	for buf := make([]byte, readSize); ; {
		n, err := r.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
	}
}
