package buffer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/internal/codec"
)

// TestMain lets the test binary be the process that is killed, or interrupted.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BUFFER_TEST_APPEND"); dir != "" {
		appendForEver(dir)
		return
	}
	if dir := os.Getenv("BUFFER_TEST_INTERRUPTED"); dir != "" {
		exit(passThrough(dir))
		return
	}
	// Made at first use, and not to belong to one test's bubble.
	_, _ = codec.Zstd.Decode(nil, codec.Zstd.Encode(nil, []byte("warm")), 4)
	if os.Getenv("CI") != "" { // the same histories each time; make torture-queue makes new ones
		_ = errors.Join(flag.Set("rapid.seed", "1"), flag.Set("rapid.checks", "40"))
	}
	_ = flag.Set("rapid.checks", "40") // the short form, but for what the command line says
	os.Exit(m.Run())
}

// appendForEver appends numbered lines from the queue's head on and says on
// stdout how far they are durable; it acknowledges some.
func appendForEver(dir string) {
	q, _, err := Open(context.Background(), dir, Options{Limit: MinLimit})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	ctx := context.Background()
	go func() {
		for {
			s := q.Stats()
			b, err := q.Next(ctx)
			if err != nil {
				return
			}
			if s.Durable-s.Cursor > 20000 {
				_ = q.Ack(b.Range().End, Receipt{Seq: b.Range().End})
			} else {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for {
		n := 1 + int(q.Stats().Head%100)
		var lines []byte
		for k := range n {
			lines = fmt.Appendf(lines, "line %d %s\n", q.Stats().Head+uint64(k), strings.Repeat("x", k*3))
		}
		r, err := q.Append(ctx, lines, n, Origin{})
		if err != nil {
			return
		}
		if err := q.WaitDurable(ctx, r.End); err != nil {
			return
		}
		fmt.Println(r.End)
	}
}

func TestQueue_LosesNothingDurableWhenKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	for range amount(300, 8, 2) { // test/torture kills the whole
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BUFFER_TEST_APPEND="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var promised uint64
		lines := bufio.NewScanner(out)
		for k := 0; k < 150 && lines.Scan(); k++ {
			if promised, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(lines.Text())
			}
		}
		_ = cmd.Process.Kill()
		for lines.Scan() {
			if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
				promised = n
			}
		}
		_ = cmd.Wait()
		checkNumbered(t, dir, promised)
	}
}

// checkNumbered opens the queue and finds every line under its own number, up
// to what was promised at least.
func checkNumbered(t *testing.T, dir string, promised uint64) {
	t.Helper()
	q, rec := mustOpen(t, dir, Options{Limit: MinLimit})
	defer q.Close(context.Background())
	if len(rec.Gaps) > 0 {
		t.Fatalf("gaps %v", rec.Gaps)
	}
	s := q.Stats()
	if s.Head < promised {
		t.Fatalf("head %d, promised %d", s.Head, promised)
	}
	seq := s.Cursor
	for {
		b, err := q.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		lines, err := b.Lines(nil)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			if want := fmt.Sprintf("line %d ", seq); !strings.HasPrefix(string(line), want) {
				t.Fatalf("got %q, want %q", line, want)
			}
			seq++
		}
	}
	if seq != s.Head {
		t.Fatalf("read up to %d, head is %d", seq, s.Head)
	}
}
