package intake

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

const testDirEnv = "INTAKE_TEST_DIR"

// TestMain lets the test binary be keeper and worker.
func TestMain(m *testing.M) {
	dir := os.Getenv(testDirEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if k, ok := Wanted(os.Args[1:], os.Stdin); ok {
		status, err := k.Keep()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 99
		}
		os.Exit(status)
	}
	if err := work(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}
}

// work is a worker: pipe to queue, until the input ends.
func work(dir string) error {
	in, err := New(os.Stdin)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	q, rec, err := buffer.Open(context.Background(), dir, buffer.Options{Living: in.Living(), Log: log})
	if err != nil {
		return err
	}
	if err := in.Run(context.Background(), context.Background(), q, rec, log); err != nil {
		return err
	}
	return q.Close(context.Background())
}

// keeper starts a keeper whose workers put its input into the queue in dir.
func keeper(t *testing.T, dir string) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), testDirEnv+"="+dir)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	t.Cleanup(func() { _ = w.Close(); _ = cmd.Process.Kill() })
	return cmd, w
}

// child is the pid of the keeper's worker; 0: it has none now.
func child(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		n, _ := strconv.Atoi(f)
		return n
	}
	// The worker may be the child of another thread of the keeper.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(f)
			return n
		}
	}
	return 0
}

// checkNumbers finds the lines 0 to n-1 in the queue, once each and in order.
func checkNumbers(t *testing.T, dir string, n int) {
	t.Helper()
	q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(context.Background()) //nolint:errcheck // only read
	if len(rec.Gaps) > 0 {
		t.Errorf("gaps %v", rec.Gaps)
	}
	want := 0
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
			number, _, _ := bytes.Cut(line, []byte(" "))
			if got, err := strconv.Atoi(string(number)); err != nil || got != want {
				t.Fatalf("got %.60q, want line %d", line, want)
			}
			want++
		}
	}
	if want != n {
		t.Errorf("%d lines, want %d", want, n)
	}
}

func TestKeeper_LosesAndDoublesNothingWhenWorkersAreKilled(t *testing.T) {
	lines, kills := 2_000_000, 300
	if testing.Short() {
		lines, kills = 200_000, 20
	}
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := keeper(t, dir)
	killed, stop := make(chan int), make(chan struct{})
	go func() {
		n := 0
		defer func() { killed <- n }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(40)) * time.Millisecond):
			}
			if pid := child(cmd.Process.Pid); pid > 0 && unix.Kill(pid, unix.SIGKILL) == nil {
				n++
			}
		}
	}()
	out := bufio.NewWriterSize(w, 300)
	pad := strings.Repeat("x", 240)
	for k := range lines {
		if _, err := fmt.Fprintf(out, "%d %s\n", k, pad[:k%240]); err != nil {
			t.Fatal(err)
		}
		if k%1000 == 0 {
			time.Sleep(time.Duration(float64(kills*25) / float64(lines) * 1000 * float64(time.Millisecond)))
		}
	}
	_ = out.Flush()
	close(stop)
	n := <-killed
	_ = w.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills met a live worker", n)
	if n < kills/3 {
		t.Errorf("%d kills, want more", n)
	}
	checkNumbers(t, dir, lines)
}
