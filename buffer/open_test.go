package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpen_WaitsForTheLockInTurn(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Open(ctx, dir, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v while another has the queue", err)
	}
	opened := make(chan error)
	go func() {
		q, _, err := Open(t.Context(), dir, Options{})
		if err == nil {
			err = q.Close(t.Context())
		}
		opened <- err
	}()
	if _, err := q.Append(t.Context(), goldenLines(0), 5, Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestOSDir_FollowsNoLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, spareName)); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (file, error){"open": osDir(dir).open, "create": osDir(dir).create} {
		if _, err := open(spareName); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: got %v, want ELOOP", name, err)
		}
	}
	if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "precious" {
		t.Errorf("got %q, %v", b, err)
	}
}

// IDENTITY alone is left: numbers up to any may have been used.
func TestOpen_BeginsANewStreamWhereOnlyIdentityIsLeft(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		was := q.Stats().SID
		closeIn(t, q)
		for _, name := range append(fs.segments(), cursorName) {
			if err := fs.remove(name); err != nil {
				t.Fatal(err)
			}
		}
		q, rec := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		if got := q.Stats().SID; got == was || !rec.NewSID {
			t.Errorf("stream %s, was %s; told of a new one: %v", got, was, rec.NewSID)
		}
	})
}
