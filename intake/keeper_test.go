package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

const (
	testDirEnv     = "INTAKE_TEST_DIR"     // the queue of a worker
	testStatusEnv  = "INTAKE_TEST_STATUS"  // with which the first worker ends
	testServiceEnv = "INTAKE_TEST_SERVICE" // the keeper is one of a service
	testUserEnv    = "INTAKE_TEST_USER"    // the user's id
)

// TestMain lets the test binary be keeper and worker.
func TestMain(m *testing.M) {
	dir := os.Getenv(testDirEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	refuse(os.Getenv(testRefuseEnv))
	if user, err := strconv.Atoi(os.Getenv(testUserEnv)); err == nil {
		_ = syscall.Setuid(user) // else the queue cannot be made
	}
	if k, ok := Wanted(os.Args[1:], os.Stdin); ok {
		k.Service = os.Getenv(testServiceEnv) != ""
		status, err := k.Keep()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 99
		}
		os.Exit(status)
	}
	if status, err := strconv.Atoi(os.Getenv(testStatusEnv)); err == nil {
		first, err := os.OpenFile(filepath.Join(dir, "first"), os.O_CREATE|os.O_EXCL, 0o600)
		_ = first.Close()
		if !errors.Is(err, fs.ErrExist) {
			os.Exit(status)
		}
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
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	filling, stop := context.WithCancel(context.Background())
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		in.Fill(filling)
	}()
	q, rec, err := buffer.Open(context.Background(), dir, buffer.Options{LiveInput: in.LiveInput(), Log: log})
	stop()
	<-filled
	if err != nil {
		return err
	}
	if err := in.Run(context.Background(), context.Background(), q, rec, log); err != nil {
		return err
	}
	return q.Close(context.Background())
}

// noWorker is a keeper that cannot have a worker.
func noWorker(t *testing.T) *Keeper {
	t.Helper()
	spool, err := newSpool()
	must(t, err)
	t.Cleanup(spool.close)
	k := &Keeper{spool: spool}
	k.prepareWorkers()
	k.workerAttr.Dir = filepath.Join(t.TempDir(), "none")
	return k
}

func TestKeeper_ThatCanStartNoWorkerTriesMoreAndMoreSeldom(t *testing.T) {
	k := noWorker(t)
	k.startedAt = time.Now().Add(-time.Hour) // the one before lived for long
	for last := time.Duration(0); last < time.Second; {
		if err := k.start(); err == nil {
			t.Fatal("it has started a worker")
		}
		pause := k.pause()
		if pause <= last {
			t.Fatalf("the next try is after %v, and the one before was after %v", pause, last)
		}
		last = pause
	}
	if got := k.spool.history().Workers; got != 0 {
		t.Errorf("%d workers are counted, and none has started", got)
	}
}

func TestKeeper_OfAServiceForgetsASignalThatEndedNothing(t *testing.T) {
	for _, tt := range []struct {
		service bool
		age     time.Duration
		want    string
	}{{true, time.Second, "T"}, {true, time.Minute, ""}, {false, time.Minute, "T"}} {
		k := noWorker(t)
		k.Service = tt.service
		k.signalWorker(unix.SIGTERM)
		k.signalledAt = k.signalledAt.Add(-tt.age)
		_ = k.start()
		if got := string(k.signals); got != tt.want {
			t.Errorf("service %v, after %v: the next worker learns %q, want %q", tt.service, tt.age, got, tt.want)
		}
	}
}

func TestKeeper_TellsAnUpgradeOfASignal(t *testing.T) {
	k := noWorker(t)
	k.Service = true
	to, err := json.Marshal(handed{Spool: k.spool, Signals: []byte("T")})
	must(t, err)
	must(t, k.adopt(string(to)))
	_ = k.start()
	if got := string(k.signals); got != "T" {
		t.Errorf("the new keeper tells its worker %q", got)
	}
}

// program is this test binary as keeper or worker.
func program(dir string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), testDirEnv+"="+dir, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// keeper starts a keeper whose workers put its input into the queue in dir.
func keeper(t *testing.T, dir string, env ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	return startPiped(t, program(dir, env...))
}

func startPiped(t *testing.T, cmd *exec.Cmd) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	cmd.Stdin = r
	must(t, cmd.Start())
	_ = r.Close()
	t.Cleanup(func() { _ = w.Close(); _ = cmd.Process.Kill() })
	return cmd, w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, w *os.File, s string) {
	t.Helper()
	_, err := w.WriteString(s)
	must(t, err)
}

// child is the pid of the keeper's worker; 0: it has none now.
func child(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(b)) {
			n, _ := strconv.Atoi(f)
			return n
		}
	}
	return 0
}

// kill ends the keeper's worker as the OOM killer would, once when has returned;
// false: it has none that lives.
func kill(keeper int, when func()) bool {
	pid := child(keeper)
	if !lives(pid) {
		return false
	}
	when()
	return lives(pid) && unix.Kill(pid, unix.SIGKILL) == nil
}

func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for range 3000 {
		if so() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it does not come to be that %s", what)
}

// queued is what stands in the queue in dir.
func queued(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	eachBlock(t, dir, func(lines []byte) { all = append(all, lines...) })
	return all
}

// eachBlock gives the lines in the queue in dir. There must be no gap.
func eachBlock(t *testing.T, dir string, do func(lines []byte)) {
	t.Helper()
	q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	defer q.Close(context.Background())
	if len(rec.Gaps) > 0 {
		t.Errorf("gaps %v", rec.Gaps)
	}
	for {
		b, err := q.TryNext()
		must(t, err)
		if b == nil {
			return
		}
		lines, err := b.Lines(nil)
		must(t, err)
		do(lines)
	}
}

// checkNumbers finds the lines 0 to n-1 in the queue, once each and in order.
func checkNumbers(t *testing.T, dir string, n int) {
	t.Helper()
	want := 0
	eachBlock(t, dir, func(lines []byte) {
		for line := range bytes.Lines(lines) {
			number, _, _ := bytes.Cut(line, []byte(" "))
			if got, err := strconv.Atoi(string(number)); err != nil || got != want {
				t.Fatalf("got %.60q, want line %d", line, want)
			}
			want++
		}
	})
	if want != n {
		t.Errorf("%d lines, want %d", want, n)
	}
}
