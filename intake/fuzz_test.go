package intake

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/buffer"
)

// FuzzUnread gives the intake an arbitrary file in the place of what a shell has
// left. It is removed only if its lines are in the queue.
func FuzzUnread(f *testing.F) {
	f.Add([]byte("/bin/sh\x00-c\x00exit\n\ninstance=ours\n\x00a\n\nb\nno newline"))
	f.Add([]byte("/bin/sh\x00-c\x00exit\n\ninstance=others\n\x00a\n"))
	f.Add([]byte("no arguments"))
	f.Add([]byte("\x00\x00\ninstance=ours\n\x00\x00\n\xff\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
		path := filepath.Join(dir, "unread.a.lines")
		must(t, os.WriteFile(path, text, 0o600))
		q, _, err := buffer.Open(t.Context(), queue, buffer.Options{})
		must(t, err)
		in := &Intake{Unread: unreadOf(dir, "ours", new(bytes.Buffer))}
		in.takeUnread(t.Context(), q)
		must(t, q.Close(context.Background()))
		got := readAll(t, queue)
		if _, err := os.Stat(path); err == nil {
			if got != "" {
				t.Errorf("the file is still there, and its lines are queued: %q", got)
			}
			return
		}
		parts := strings.SplitN(string(text), "\x00", 4)
		var want strings.Builder
		for line := range strings.SplitSeq(parts[len(parts)-1], "\n") {
			if line != "" {
				want.WriteString(line + "\n")
			}
		}
		if len(parts) < 4 || strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want.String(), "\n") {
			t.Errorf("%q left %q in the queue", text, got)
		}
	})
}
