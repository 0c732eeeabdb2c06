package intake

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// The files stand on a file system that is read-only by now, say: they are read once
// and cannot be removed.
func TestUnread_UnreadFilesThatCannotBeRemovedAreReadOnce(t *testing.T) {
	dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
	const files = 17
	for k := range files {
		unreadFile(t, dir, fmt.Sprintf("unread.%02d.lines", k), "ours", fmt.Sprintf("line %d\n", k))
	}
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	must(t, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	q, _, err := buffer.Open(t.Context(), queue, buffer.Options{})
	must(t, err)
	in := &Intake{Unread: unreadOf(dir, "ours", new(bytes.Buffer))}
	for range 3 {
		in.Unread.checkedAt = in.Unread.checkedAt.Add(-2 * unreadEvery)
		in.takeUnread(t.Context(), q)
	}
	must(t, q.Close(context.Background()))
	if n := strings.Count(readAll(t, queue), "\n"); n > files {
		t.Errorf("%d lines are queued, of %d", n, files)
	}
}

// The live pipe's place in the queue's table of intakes: many files push it out.
func TestUnread_UnreadFilesDoNotPushTheLivePipeOut(t *testing.T) {
	dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "q")
	for k := range 16 {
		unreadFile(t, dir, fmt.Sprintf("unread.%02d.lines", k), "ours", fmt.Sprintf("line %d\n", k))
	}
	q, _, err := buffer.Open(t.Context(), queue, buffer.Options{LiveInput: buffer.LiveInput{Intake: 7}})
	must(t, err)
	_, err = q.Append(t.Context(), []byte("from the pipe\n"), 1, buffer.Origin{Intake: 7, End: 14})
	must(t, err)
	must(t, q.WaitDurable(t.Context(), 2))
	in := &Intake{Unread: unreadOf(dir, "ours", new(bytes.Buffer))}
	in.takeUnread(t.Context(), q)
	if end := q.IntakeEnd(7); end != 14 {
		t.Errorf("the queue has the pipe up to %d, and says %d: after a kill now the line is read again", 14, end)
	}
	must(t, q.Close(context.Background()))
	_, rec, err := buffer.Open(t.Context(), queue, buffer.Options{LiveInput: buffer.LiveInput{Intake: 7}})
	must(t, err)
	if end, _, ok := rec.Intake(7); !ok || end != 14 {
		t.Errorf("after a restart: %d, %v", end, ok)
	}
}
