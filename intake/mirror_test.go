package intake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// mirrored is an intake with a mirror and its writer's end, in this process.
func mirrored(t *testing.T) (*Intake, *os.File) {
	t.Helper()
	fd, err := newMirror()
	must(t, err)
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return reopened(t, os.NewFile(uintptr(fd), "mirror"), r), w
}

// reopened is the intake of a new worker, for the same pipe.
func reopened(t *testing.T, mirror, r *os.File) *Intake {
	t.Helper()
	m, err := openMirror(mirror, int(r.Fd()))
	must(t, err)
	return &Intake{fd: m.pipe, mirror: m, input: m}
}

// ingest runs the intake to its end, with the queue in dir.
func ingest(t *testing.T, in *Intake, dir string) (log string) {
	t.Helper()
	var text bytes.Buffer
	q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{Living: in.Living()})
	must(t, err)
	must(t, in.Run(t.Context(), t.Context(), q, rec, slog.New(slog.NewTextHandler(&text, nil))))
	must(t, q.Close(context.Background()))
	must(t, in.free(t.Context(), q))
	return text.String()
}

// held is how much memory the mirror takes.
func held(m *mirror) int64 {
	var st unix.Stat_t
	_ = unix.Fstat(int(m.f.Fd()), &st)
	return st.Blocks * 512
}

func TestMirror_HoldsLittleHoweverMuchPassesThrough(t *testing.T) {
	in, w := mirrored(t)
	const total = 128 << 20
	go func() {
		defer w.Close() //nolint:errcheck // its end is the point
		line := strings.Repeat("x", 99) + "\n"
		for range total / len(line) / 100 {
			_, _ = w.WriteString(strings.Repeat(line, 100))
		}
	}()
	most, done, watched := int64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			most = max(most, held(in.mirror))
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	ingest(t, in, filepath.Join(t.TempDir(), "q"))
	close(done)
	<-watched
	if most > 16<<20 {
		t.Errorf("the mirror held %d bytes", most)
	}
	if n := held(in.mirror); n > 2*mirrorPage {
		t.Errorf("the mirror still holds %d bytes", n)
	}
	t.Logf("%d MiB passed, at most %d KiB held", in.mirror.size>>20, most>>10)
}

func TestMirror_MarkIsWhereTheNextWorkerBegins(t *testing.T) {
	in, w := mirrored(t)
	write(t, w, strings.Repeat("x", 20_000))
	_, err := in.mirror.take(20_000)
	must(t, err)
	must(t, in.mirror.release(12_345))
	again, err := openMirror(in.mirror.f, in.fd)
	must(t, err)
	if again.mark != 12_345 || again.read != 12_345 || again.size != 20_000 || again.id != in.mirror.id {
		t.Errorf("got %+v, want mark and read at 12345 of 20000", again)
	}
	b := make([]byte, 20_000)
	if n, err := again.Read(b); n != 20_000-12_345 || err != nil || bytes.ContainsAny(b[:n], "\x00") {
		t.Errorf("got %d bytes %v, with NULs of the hole: %v", n, err, bytes.ContainsAny(b[:n], "\x00"))
	}
}

func TestMirror_FreesWhatAKillBetweenMarkAndHoleHasLeft(t *testing.T) {
	in, w := mirrored(t)
	write(t, w, strings.Repeat("x", 60_000))
	_, err := in.mirror.take(60_000)
	must(t, err)
	_, err = in.mirror.f.WriteAt([]byte{0x60, 0xea}, markAt) // 60000, and then it died
	must(t, err)
	again, err := openMirror(in.mirror.f, in.fd)
	must(t, err)
	if n := held(again); n > 2*mirrorPage {
		t.Errorf("the mirror holds %d bytes", n)
	}
}

func TestIntake_ReportsAQueueThatKnowsLessThanTheMark(t *testing.T) {
	in, w := mirrored(t)
	dir := filepath.Join(t.TempDir(), "q")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	_, err = q.Append(t.Context(), []byte("a\n"), 1, buffer.Origin{Intake: in.mirror.id, End: 2})
	must(t, err)
	must(t, q.Close(context.Background()))
	write(t, w, "a\nb\nc\n")
	_ = w.Close()
	_, err = in.mirror.take(6)
	must(t, err)
	must(t, in.mirror.release(4)) // b was on disk
	if log := ingest(t, in, dir); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "bytes=2") {
		t.Errorf("it says %q", log)
	}
	if got, want := string(queued(t, dir)), "a\nc\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntake_GoesOnAtTheMarkWhereTheQueueDoesNotKnowIt(t *testing.T) {
	in, w := mirrored(t)
	write(t, w, "a\nb\n")
	_ = w.Close()
	_, err := in.mirror.take(4)
	must(t, err)
	must(t, in.mirror.release(2))
	dir := filepath.Join(t.TempDir(), "q")
	if log := ingest(t, in, dir); !strings.Contains(log, "level=WARN") {
		t.Errorf("it says %q", log)
	}
	if got, want := string(queued(t, dir)), "b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntake_SkippedNewlinesMoveTheEndAndStallNothing(t *testing.T) {
	in, w := mirrored(t)
	const newlines = 32 << 20
	go func() {
		defer w.Close() //nolint:errcheck // its end is the point
		_, _ = w.WriteString("first\n")
		for range newlines >> 16 {
			_, _ = w.WriteString(strings.Repeat("\n", 1<<16))
		}
		_, _ = w.WriteString("last\n")
	}()
	dir := filepath.Join(t.TempDir(), "q")
	ingest(t, in, dir)
	if got, want := string(queued(t, dir)), "first\nlast\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if m := in.mirror; m.mark != m.size || m.size != newlines+11 || held(m) > 2*mirrorPage {
		t.Errorf("mark %d of %d, want all; %d bytes held", m.mark, m.size, held(m))
	}
}

// A worker may die at any place in a line, however long.
func TestIntake_CutsALineAlikeWhereverAWorkerDies(t *testing.T) {
	in, w := mirrored(t)
	r := os.NewFile(uintptr(in.fd), "pipe")
	defer r.Close() //nolint:errcheck // only read
	dir := filepath.Join(t.TempDir(), "q")
	long := strings.Repeat("0123456789abcdef", (40<<20)/16)
	go func() {
		defer w.Close() //nolint:errcheck // its end is the point
		_, _ = w.WriteString("a\n" + long + "\nb\nend")
	}()
	for ended := false; !ended; in = reopened(t, in.mirror.f, r) {
		q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{Living: in.Living()})
		must(t, err)
		in.input = &mortal{in.input, 1 + rand.IntN(48<<20)}
		ended = in.Run(t.Context(), t.Context(), q, rec, slog.New(slog.DiscardHandler)) == nil
		must(t, q.Close(context.Background()))
	}
	var got []string
	for line := range strings.Lines(string(queued(t, dir))) {
		got = append(got, line)
	}
	const most = buffer.MaxLine
	want := []string{"a\n", long[:most] + "\n", long[most:2*most] + "\n", long[2*most:] + "\n", "b\n", "end\n"}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("line %d: %d bytes, want %d", k, len(got[k]), len(want[k]))
		}
	}
}

// mortal is an input whose reader dies after so many bytes.
type mortal struct {
	io.Reader
	left int
}

func (m *mortal) Read(b []byte) (int, error) {
	if m.left <= 0 {
		return 0, errors.New("dead")
	}
	n, err := m.Reader.Read(b)
	m.left -= n
	return n, err
}
