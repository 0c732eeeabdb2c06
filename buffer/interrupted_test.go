package buffer

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// interruptible are the calls that the queue makes.
var interruptible = []string{
	"openat", "pread64", "pwrite64", "fdatasync", "fsync", "renameat", "unlinkat",
	"fstat", "newfstatat", "getdents64", "flock", "fstatfs",
}

// TestQueue_MindsNoInterruptedCall lets every other call of each kind that a
// process makes on the queue's files end with EINTR, as some file systems do.
func TestQueue_MindsNoInterruptedCall(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "q")
	trace := filepath.Join(t.TempDir(), "trace")
	calls := strings.Join(interruptible, ",")
	args := []string{
		"-f", "-qq", "-o", trace, "-e", "trace=" + calls, "-e",
		"inject=" + calls + ":error=EINTR:when=1+2", "-P", dir,
	}
	for _, name := range []string{identityName, identityTmp, cursorName, spareName} {
		args = append(args, "-P", filepath.Join(dir, name))
	}
	for id := range uint64(100) {
		args = append(args, "-P", filepath.Join(dir, segmentName(id)))
	}
	cmd := exec.Command("strace", append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), "BUFFER_TEST_INTERRUPTED="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range interruptible {
		hit := 0
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, call) && strings.Contains(line, "(INJECTED)") {
				hit++
			}
		}
		if hit == 0 {
			t.Errorf("%s was never interrupted", call)
		}
	}
}

// passThrough moves lines through a queue, over several segments and lives. It
// prints what goes wrong, if only for a while.
func passThrough(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sid, log := "", slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for life := range 3 {
		q, rec, err := Open(ctx, dir, Options{Limit: 1 << 20, Codec: raw, Log: log})
		if err != nil {
			return err
		}
		if len(rec.Gaps) > 0 || len(rec.Quarantined) > 0 || life > 0 && q.Stats().SID != sid {
			return fmt.Errorf("%+v, stream %s, was %s", rec, q.Stats().SID, sid)
		}
		sid = q.Stats().SID
		for range 20 {
			line := fmt.Sprintf("%0*d\n", 20<<10, q.Stats().Head)
			r, err := q.Append(ctx, []byte(line), 1, Origin{})
			if err == nil {
				err = q.WaitDurable(ctx, r.End)
			}
			if err != nil {
				return err
			}
		}
		for k := range 15 { // the rest is read from the files
			b, err := q.Next(ctx)
			if err != nil {
				return err
			}
			line, err := b.Lines(nil)
			if err != nil {
				return err
			}
			if want := fmt.Sprintf("%0*d\n", 20<<10, b.Range().First); string(line) != want {
				return fmt.Errorf("block %v has other lines", b.Range())
			}
			if err := q.Ack(b.Range().End, Receipt{Seq: uint64(k)}); err != nil {
				return err
			}
		}
		if err := q.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

func exit(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
