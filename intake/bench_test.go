package intake

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// BenchmarkIntake tells in one run what exactly once costs: lines of 250 bytes,
// one a write, through the mirror to the durable queue, against a plain read
// and a fdatasync of what it gave. The ratio is that of the rates.
func BenchmarkIntake(b *testing.B) {
	b.SetBytes(250)
	mirror, plain := rate(b, intoQueue), rate(b, intoFile)
	b.ReportMetric(mirror, "mirror_lines/s")
	b.ReportMetric(plain, "plain_lines/s")
	b.ReportMetric(mirror/plain, "ratio")
}

// rate is how many lines a second get from a pipe to the disk.
func rate(b *testing.B, ingest func(b *testing.B, r *os.File) error) float64 {
	b.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	_, _ = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	line := []byte(strings.Repeat("x", 249) + "\n")
	began := time.Now()
	go func() {
		defer w.Close() //nolint:errcheck // its end is the point
		for range b.N {
			_, _ = w.Write(line)
		}
	}()
	if err := ingest(b, r); err != nil {
		b.Fatal(err)
	}
	return float64(b.N) / time.Since(began).Seconds()
}

func intoQueue(b *testing.B, r *os.File) error {
	fd, err := newMirror()
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "mirror")
	defer f.Close() //nolint:errcheck // memory
	m, err := openMirror(f, int(r.Fd()))
	if err != nil {
		return err
	}
	in := &Intake{fd: m.pipe, mirror: m, input: m}
	q, rec, err := buffer.Open(b.Context(), filepath.Join(b.TempDir(), "q"), buffer.Options{Living: in.Living()})
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
	defer f.Close() //nolint:errcheck // only measured
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
