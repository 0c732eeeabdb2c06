package intake

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
)

// unreadFile is what a shell leaves, with the name that tells whose it is.
func unreadFile(t *testing.T, dir, name, instance, lines string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte("/bin/sh\x00-c\x00exit\n\ninstance="+instance+"\n\x00"+lines), 0o600))
	return path
}

func unreadOf(dir, instance string, log *bytes.Buffer) Unread {
	return Unread{Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil)), Ours: func(shell []byte) bool {
		return bytes.Contains(shell, []byte("\ninstance="+instance+"\n"))
	}}
}

func TestUnread_IsReadOnceAndRemoved(t *testing.T) {
	dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
	ours := unreadFile(t, dir, "unread.a.lines", "ours", "a\n\nb\nno newline")
	others := unreadFile(t, dir, "unread.b.lines", "others", "x\n")
	growing := unreadFile(t, dir, "unread.c", "ours", "y\n")
	q, _, err := buffer.Open(t.Context(), queue, buffer.Options{})
	must(t, err)
	in := &Intake{Unread: unreadOf(dir, "ours", new(bytes.Buffer))}
	in.takeUnread(t.Context(), q)
	in.takeUnread(t.Context(), q) // it is not yet time to look again
	must(t, q.Close(context.Background()))
	if got := readAll(t, queue); got != "a\nb\nno newline\n" {
		t.Errorf("queued %q", got)
	}
	for path, want := range map[string]bool{ours: false, others: true, growing: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// stubborn is a queue that takes so many lines and then nothing any more, as
// one of a process that is killed.
type stubborn struct {
	*buffer.Queue
	left int
}

func (q *stubborn) Append(ctx context.Context, lines []byte, n int, o buffer.Origin) (buffer.Range, error) {
	if q.left--; q.left < 0 {
		return buffer.Range{}, context.Canceled
	}
	return q.Queue.Append(ctx, lines, n, o)
}

func TestUnread_ContinuesWhereAKilledWorkerStopped(t *testing.T) {
	const size = 3 * buffer.MaxBlock
	var lines strings.Builder
	for n := 0; lines.Len() < size; n++ {
		lines.WriteString(strings.Repeat("x", n%1000) + "\n")
	}
	for appends := range 5 {
		dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
		path := unreadFile(t, dir, "unread.a.lines", "ours", lines.String())
		for _, left := range []int{appends, 1 << 30, 1 << 30} {
			q, _, err := buffer.Open(t.Context(), queue, buffer.Options{Codec: new(codec.Raw)})
			must(t, err)
			in := &Intake{Unread: unreadOf(dir, "ours", new(bytes.Buffer))}
			in.takeUnread(t.Context(), &stubborn{q, left})
			must(t, q.Close(context.Background()))
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("after %d appends: the file is still there", appends)
		}
		if got, want := readAll(t, queue), strings.ReplaceAll(strings.TrimLeft(lines.String(), "\n"), "\n\n",
			"\n"); got != want {
			t.Errorf("after %d appends: %d bytes are queued, want %d", appends, len(got), len(want))
		}
	}
}

func TestUnread_LeavesWhatNoShellOfThisUserHasWritten(t *testing.T) {
	dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
	target := unreadFile(t, t.TempDir(), "target", "ours", "linked\n")
	must(t, os.Symlink(target, filepath.Join(dir, "unread.a.lines")))
	must(t, os.WriteFile(filepath.Join(dir, "unread.b.lines"), []byte("no arguments"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "unread.c.lines"), 0o700))
	q, _, err := buffer.Open(t.Context(), queue, buffer.Options{})
	must(t, err)
	var log bytes.Buffer
	in := &Intake{Unread: unreadOf(dir, "ours", &log)}
	in.takeUnread(t.Context(), q)
	must(t, q.Close(context.Background()))
	if got := readAll(t, queue); got != "" {
		t.Errorf("queued %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 ||
		strings.Count(log.String(), "level=WARN") != 3 {
		t.Errorf("left %q, log %s", left, &log)
	}
}

// readAll gives the lines of a queue.
func readAll(t *testing.T, dir string) string {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	defer q.Close(context.Background())
	var all []byte
	for {
		b, err := q.TryNext()
		must(t, err)
		if b == nil {
			return string(all)
		}
		all, err = b.Lines(all)
		must(t, err)
	}
}
