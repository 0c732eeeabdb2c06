package intake

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// spooled is an intake with a spool and its writer's end, in this process.
func spooled(t *testing.T) (*Intake, *os.File) {
	t.Helper()
	k, err := newSpool()
	must(t, err)
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { k.close(); _ = r.Close(); _ = w.Close() })
	return reopened(t, k, int(r.Fd())), w
}

// reopened is the intake of a new worker, for the same pipe.
func reopened(t *testing.T, k kept, pipe int) *Intake {
	t.Helper()
	m, err := openSpool(k, pipe)
	must(t, err)
	t.Cleanup(func() { kept{m.null, m.teePipe}.close() })
	return &Intake{fd: m.pipe, id: m.id, spool: m, input: m}
}

// ingest runs the intake to its end, with the queue in dir.
func ingest(t *testing.T, in *Intake, dir string) (log string) {
	t.Helper()
	var text bytes.Buffer
	q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{LiveInput: in.LiveInput()})
	must(t, err)
	must(t, in.Run(t.Context(), t.Context(), q, rec, slog.New(slog.NewTextHandler(&text, nil))))
	must(t, q.Close(context.Background()))
	must(t, in.releaseDurable(t.Context(), q))
	return text.String()
}

// held is how much memory the spool takes.
func held(m *spool) int64 {
	var st unix.Stat_t
	_ = unix.Fstat(m.kept[0], &st)
	n := st.Blocks * 512
	for _, pipe := range m.kept[1:] {
		n += waiting(pipe)
	}
	return n
}

func TestSpool_HoldsLittleHoweverMuchPassesThrough(t *testing.T) {
	in, w := spooled(t)
	const total = 128 << 20
	go func() {
		defer w.Close()
		line := strings.Repeat("x", 99) + "\n"
		for range total / len(line) / 100 {
			_, _ = w.WriteString(strings.Repeat(line, 100))
		}
	}()
	most, done, watched := int64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			most = max(most, held(in.spool))
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
		t.Errorf("the spool held %d bytes", most)
	}
	if n := held(in.spool); n > 2*spoolPage {
		t.Errorf("the spool still holds %d bytes", n)
	}
	t.Logf("%d MiB passed, at most %d KiB held", in.spool.taken()>>20, most>>10)
}

func TestSpool_MarkIsWhereTheNextWorkerStarts(t *testing.T) {
	in, w := spooled(t)
	write(t, w, strings.Repeat("x", 20_000))
	_, err := in.spool.spliceIn(20_000)
	must(t, err)
	must(t, in.spool.release(12_345))
	again, err := openSpool(in.spool.kept, in.fd)
	must(t, err)
	if again.mark != 12_345 || again.read != 12_345 || again.taken() != 20_000 || again.id != in.spool.id {
		t.Errorf("got %+v, want mark and read at 12345 of 20000", again)
	}
	b := make([]byte, 20_000)
	if n, err := again.Read(b); n != 20_000-12_345 || err != nil || bytes.ContainsAny(b[:n], "\x00") {
		t.Errorf("got %d bytes %v, with NULs of the hole: %v", n, err, bytes.ContainsAny(b[:n], "\x00"))
	}
}

func TestSpool_FreesWhatAKillBetweenMarkAndHoleHasLeft(t *testing.T) {
	in, w := spooled(t)
	write(t, w, strings.Repeat("x", 60_000))
	_, err := in.spool.spliceIn(60_000)
	must(t, err)
	must(t, in.spool.spill())
	_, err = unix.Pwrite(in.spool.kept[0], []byte{0x60, 0xea}, markAt) // 60000, and then it died
	must(t, err)
	again, err := openSpool(in.spool.kept, in.fd)
	must(t, err)
	if n := held(again); n > 2*spoolPage {
		t.Errorf("the spool holds %d bytes", n)
	}
}

// 10,000 bytes are in the file and 20,000 in the ring, and a worker dies while
// the spool releases some.
func TestSpool_ContinuesWhereAReleaseWasCutShort(t *testing.T) {
	for _, to := range []int{1, 9_999, 10_000, 10_001, 20_000, 29_999, 30_000} {
		for _, done := range []int{0, 1, 5_000, to - 10_000} { // bytes of the ring that are gone
			if done < 0 || done > max(0, to-10_000) {
				continue
			}
			// Each closes its pipes: an ordinary user may have 64 MiB of them.
			t.Run(fmt.Sprintf("to %d, %d done", to, done), func(t *testing.T) { cutShort(t, to, int64(done)) })
		}
	}
}

func cutShort(t *testing.T, to int, done int64) {
	stream := random(30_000)
	in, w := spooled(t)
	m := in.spool
	write(t, w, string(stream[:10_000]))
	_, err := m.spliceIn(10_000)
	must(t, err)
	must(t, m.spill())
	write(t, w, string(stream[10_000:]))
	_, err = m.spliceIn(20_000)
	must(t, err)
	var note [16]byte
	binary.LittleEndian.PutUint64(note[:], uint64(to))
	binary.LittleEndian.PutUint64(note[8:], 20_000)
	_, err = unix.Pwrite(m.kept[0], note[:], markAt)
	must(t, err)
	must(t, m.ring.give(done, m.null, nil))
	if h := m.history(); h.Pending != int64(30_000-to) {
		t.Errorf("%d bytes are said to be pending", h.Pending)
	}
	again := reopened(t, m.kept, m.pipe).spool
	if again.mark != int64(to) || again.taken() != 30_000 {
		t.Errorf("mark %d of %d", again.mark, again.taken())
	}
	_ = w.Close()
	if got, err := io.ReadAll(patient{again}); err != nil || !bytes.Equal(got, stream[to:]) {
		t.Errorf("%d bytes %v, want %d", len(got), err, 30_000-to)
	}
}

// To a full pipe splice(2) says EAGAIN even where the other one has ended.
func TestSpool_FindsTheEndBehindAFullPipe(t *testing.T) {
	for pages := range ringPipes + 2 {
		in, w := spooled(t)
		for _, fd := range in.spool.kept[1:] {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, spoolPage)
		}
		stream := random(pages * spoolPage)
		write(t, w, string(stream))
		_ = w.Close()
		in.Fill(t.Context())
		if n, err := in.spool.spliceIn(1); n != 0 || err != nil {
			t.Errorf("%d pages: %d more bytes, %v", pages, n, err)
		}
		if got, err := io.ReadAll(in.spool); err != nil || !bytes.Equal(got, stream) {
			t.Errorf("%d pages: %d bytes, %v", pages, len(got), err)
		}
	}
}

func TestFill_EndsWithItsContextThoughThereIsMore(t *testing.T) {
	in, w := spooled(t)
	write(t, w, "a\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in.Fill(ctx)
	if n := in.spool.taken(); n != 0 {
		t.Errorf("it takes %d bytes", n)
	}
}

// Whatever is done in whatever order, with pipes of a page or two, by however
// many workers: the stream comes out as it went in.
func TestSpool_GivesTheStreamWhateverHappens(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 20
	}
	for seed := range uint64(seeds) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		in, w := spooled(t)
		m, stream := in.spool, random(1<<20)
		to := int(w.Fd())
		must(t, unix.SetNonblock(to, true))
		for _, fd := range append(slices.Clone(m.kept[1:]), m.teePipe) {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, spoolPage<<rnd.IntN(2))
		}
		written, disk := 0, 0 // stream offsets; up to disk all was read once
		seen := []byte{}
		for written < len(stream) || disk < len(stream) {
			switch rnd.IntN(6) {
			case 0, 1: // the writer writes
				n, _ := unix.Write(to, stream[written:min(len(stream), written+1+rnd.IntN(9000))])
				written += max(n, 0)
			case 2, 3: // the intake reads
				b := make([]byte, 1+rnd.IntN(20_000))
				n, err := m.Read(b)
				if err != nil && !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				seen = append(seen, b[:n]...)
			case 4: // more is on disk
				disk += rnd.IntN(len(seen) - disk + 1)
				must(t, m.release(int64(disk)))
			case 5:
				if rnd.IntN(20) > 0 { // it takes ahead
					_, err := m.spliceIn(1 + rnd.IntN(20_000))
					if err != nil && !errors.Is(err, unix.EAGAIN) {
						t.Fatal(err)
					}
					break
				}
				seen = seen[:disk] // the worker dies
				m = reopened(t, m.kept, m.pipe).spool
				if m.mark != int64(disk) || m.taken() > int64(written) {
					t.Fatalf("seed %d: mark %d of %d, want %d of at most %d", seed, m.mark, m.taken(), disk, written)
				}
			}
			if !bytes.Equal(seen[disk:], stream[disk:len(seen)]) {
				t.Fatalf("seed %d: behind %d something else is read", seed, disk)
			}
		}
		if m.taken() != int64(len(stream)) || m.ring.total != 0 || held(m) > 2*spoolPage {
			t.Errorf("seed %d: %d bytes taken, %d in the ring, %d held", seed, m.taken(), m.ring.total, held(m))
		}
	}
}

// patient waits for nothing: what is not there yet comes with the next read.
type patient struct{ io.Reader }

func (p patient) Read(b []byte) (int, error) {
	for {
		if n, err := p.Reader.Read(b); !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b) // cannot fail
	return b
}

func TestIntake_ReportsAQueueThatKnowsLessThanTheMark(t *testing.T) {
	in, w := spooled(t)
	dir := filepath.Join(t.TempDir(), "q")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	_, err = q.Append(t.Context(), []byte("a\n"), 1, buffer.Origin{Intake: in.spool.id, End: 2})
	must(t, err)
	must(t, q.Close(context.Background()))
	write(t, w, "a\nb\nc\n")
	_ = w.Close()
	_, err = in.spool.spliceIn(6)
	must(t, err)
	must(t, in.spool.release(4)) // b was on disk
	if log := ingest(t, in, dir); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "bytes=2") {
		t.Errorf("it says %q", log)
	}
	if got, want := string(queued(t, dir)), "a\nc\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntake_ContinuesAtTheMarkWhereTheQueueDoesNotKnowIt(t *testing.T) {
	in, w := spooled(t)
	write(t, w, "a\nb\n")
	_ = w.Close()
	_, err := in.spool.spliceIn(4)
	must(t, err)
	must(t, in.spool.release(2))
	dir := filepath.Join(t.TempDir(), "q")
	if log := ingest(t, in, dir); !strings.Contains(log, "level=WARN") {
		t.Errorf("it says %q", log)
	}
	if got, want := string(queued(t, dir)), "b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntake_SkippedNewlinesMoveTheEndAndStallNothing(t *testing.T) {
	in, w := spooled(t)
	const newlines = 32 << 20
	go func() {
		defer w.Close()
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
	if m := in.spool; m.mark != m.taken() || m.taken() != newlines+11 || held(m) > 2*spoolPage {
		t.Errorf("mark %d of %d, want all; %d bytes held", m.mark, m.taken(), held(m))
	}
}

// A worker may die at any place in a line, however long.
func TestIntake_CutsALineAlikeWhereverAWorkerDies(t *testing.T) {
	in, w := spooled(t)
	r := os.NewFile(uintptr(in.fd), "pipe")
	defer r.Close()
	dir := filepath.Join(t.TempDir(), "q")
	long := strings.Repeat("0123456789abcdef", (40<<20)/16)
	go func() {
		defer w.Close()
		_, _ = w.WriteString("a\n" + long + "\nb\nend")
	}()
	var log bytes.Buffer
	for ended := false; !ended; in = reopened(t, in.spool.kept, in.fd) {
		q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{LiveInput: in.LiveInput()})
		must(t, err)
		in.input = &mortal{in.input, 1 + rand.IntN(48<<20)}
		ended = in.Run(t.Context(), t.Context(), q, rec, slog.New(slog.NewTextHandler(&log, nil))) == nil
		must(t, q.Close(context.Background()))
	}
	if !strings.Contains(log.String(), "a line is longer than 16 MiB") {
		t.Error("the log does not say that a line was cut")
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
