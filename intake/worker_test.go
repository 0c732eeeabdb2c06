package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

func TestKeeper_EndsWithTheStatusThatMeansTheEnd(t *testing.T) {
	for _, tt := range []struct {
		status, want int // 0: another worker came, and put all on disk
		env          string
	}{
		{0, 0, ""},
		{64, 64, ""},
		{75, 75, ""},
		{78, 78, ""},
		{1, 0, ""},
		{2, 0, ""},
		{126, 0, ""},
		{127, 0, ""},
		{255, 0, ""},
		{64, 0, testServiceEnv + "=1"},
		{78, 0, testServiceEnv + "=1"},
		{75, 75, testServiceEnv + "=1"},
	} {
		t.Run(fmt.Sprint(tt.status, tt.env), func(t *testing.T) {
			dir := t.TempDir()
			cmd, w := keeper(t, dir, fmt.Sprintf("%s=%d", testStatusEnv, tt.status), tt.env)
			write(t, w, "a\n")
			again := tt.status != tt.want || tt.status == 0
			if again && tt.status != 0 {
				waitFor(t, "the next worker has it on disk", func() bool { return strings.Contains(segments(dir), "a\n") })
			}
			_ = w.Close()
			err := cmd.Wait()
			exit := new(exec.ExitError)
			if got := cmd.ProcessState.ExitCode(); got != tt.want || err != nil && !errors.As(err, &exit) {
				t.Errorf("it ended with status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestKeeper_NoticesTheEndOfAWorkerWhoseSignalWasLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := keeper(t, dir)
	write(t, w, "before\n")
	waitFor(t, "the line is on disk", func() bool { return strings.Contains(segments(dir), "before\n") })
	swallow(t, cmd.Process.Pid, unix.SIGCHLD, func() { kill(cmd.Process.Pid, func() {}) })
	write(t, w, "after\n")
	waitFor(t, "the next worker has it on disk", func() bool { return strings.Contains(segments(dir), "after\n") })
	_ = w.Close()
	must(t, cmd.Wait())
}

// The main goroutine keeps the main thread, which no goroutine's end would end,
// to itself.
func init() { runtime.LockOSThread() }

// swallow is a debugger that lets a process not have a signal.
func swallow(t *testing.T, pid int, sig unix.Signal, cause func()) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	swallowed := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with us, and so does the debugging
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if err := unix.PtraceSeize(tid); err != nil {
				swallowed <- err
				return
			}
		}
		cause()
		for had := false; !had; time.Sleep(time.Millisecond) {
			for _, task := range tasks {
				tid, _ := strconv.Atoi(task.Name())
				var st unix.WaitStatus
				if got, _ := unix.Wait4(tid, &st, unix.WNOHANG|unix.WALL, nil); got == tid && st.Stopped() {
					pass := int(st.StopSignal())
					if st.StopSignal() == sig {
						pass, had = 0, true
					}
					_ = unix.PtraceCont(tid, pass)
				}
			}
		}
		swallowed <- nil
	}()
	must(t, <-swallowed)
}

// segments is what is on disk.
func segments(dir string) string {
	var all []byte
	names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		all = append(all, b...)
	}
	return string(all)
}

func TestKeeper_EndsWhereNoWorkerCanWorkAndNothingIsLeft(t *testing.T) {
	cmd, w := keeper(t, "/dev/null/none", testServiceEnv+"=1", testStatusEnv+"=78")
	_ = w.Close()
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 78 {
		t.Errorf("it ended with status %d, want 78", got)
	}
}

// The worker that waits for the queue fills the spool up to its bound; once it
// has the queue, it continues at the same byte.
func TestKeeper_ReadsOnWhileAnotherInstanceHasTheQueue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	other, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	cmd, w := keeper(t, dir)
	const n = 50_000 // more than the pipe holds
	var text strings.Builder
	for k := range n {
		fmt.Fprintf(&text, "%d %s\n", k, strings.Repeat("x", 60))
	}
	write(t, w, text.String())
	_ = w.Close()
	must(t, cmd.Process.Signal(unix.SIGTERM)) // it must get the queue before it ends
	must(t, other.Close(context.Background()))
	must(t, cmd.Wait())
	checkNumbers(t, dir, n)
}

func TestKeeper_WorksUnderAFileSizeLimit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd := program(dir)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -S -f 2048; exec "$0"`, os.Args[0]}
	_, w := startPiped(t, cmd)
	for k := range 100_000 {
		write(t, w, strconv.Itoa(k)+" "+strings.Repeat("x", 80)+"\n")
	}
	_ = w.Close()
	must(t, cmd.Wait())
	checkNumbers(t, dir, 100_000)
}

func TestKeeper_RefusesAFileSizeLimitThatItCannotLift(t *testing.T) {
	cmd := program(t.TempDir())
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -f 2048; exec "$0"`, os.Args[0]}
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Skip("setpriv is not installed")
		}
		cmd.Args[2] = `ulimit -f 2048; exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "$0"`
	}
	cmd.Stderr = nil
	_, w := startPiped(t, cmd)
	_ = w.Close()
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 99 {
		t.Errorf("status %d, want that of a keeper that cannot work", got)
	}
}

// The keeper before has a worker, which reads the pipe.
func TestKeeper_LeavesAPipeAloneThatItCannotTakeOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd := program(dir, adoptEnv+`=5 2780 "T"`)
	cmd.Stderr = nil
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	write(t, w, "a\n")
	_ = w.Close()
	cmd.Stdin = r
	_ = cmd.Run()
	left, err := io.ReadAll(r)
	if status := cmd.ProcessState.ExitCode(); status != 99 || string(left) != "a\n" || err != nil {
		t.Errorf("status %d, and %q is left in the pipe, %v", status, left, err)
	}
}

// A process that waits must not spin: neither the keeper nor a worker with a part of a
// line.
func TestKeeper_WaitsForTheRestOfALineWithoutWork(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := keeper(t, dir)
	for _, b := range "whole\npart of a" {
		write(t, w, string(b))
	}
	waitFor(t, "the whole line is on disk", func() bool { return strings.Contains(segments(dir), "whole\n") })
	kill(cmd.Process.Pid, func() {})
	waitFor(t, "a worker waits", func() bool { return child(cmd.Process.Pid) != 0 })
	time.Sleep(2 * time.Second) // until it has started and freed what it can
	ticks := func() int { return cpu(t, cmd.Process.Pid) + cpu(t, child(cmd.Process.Pid)) }
	before := ticks()
	time.Sleep(2 * time.Second)
	if got := ticks() - before; got > 20 {
		t.Errorf("%d ms of CPU time in 2 s", 10*got)
	} else {
		t.Logf("%d ms of CPU time in 2 s", 10*got)
	}
	write(t, w, " line\nend")
	_ = w.Close()
	must(t, cmd.Wait())
	if got, want := string(queued(t, dir)), "whole\npart of a line\nend\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// cpu is the time that a process has used, in hundredths of a second.
func cpu(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// SIGKILL at every system call of a worker that may change or tell anything.
func TestWorker_MayDieAtEverySystemCall(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is not installed, and CI skips nothing")
		}
		t.Skip("strace is not installed")
	}
	met, most := 0, math.MaxInt
	calls := []string{
		"fstat", "splice", "tee", "read", "pread64", "write", "pwrite64",
		"fallocate", "fdatasync", "fsync", "openat", "renameat",
		"unlinkat", "ftruncate", "flock", "mkdirat", "poll", "close", "fstat", "fcntl", "futex", "exit_group",
	}
	if testing.Short() {
		calls, most = calls[:4], 1
	}
	for _, call := range calls {
		for n, killed := 1, true; killed && n <= most; n++ { // the counts are each thread's
			dir := filepath.Join(t.TempDir(), "q")
			in, w := spooled(t)
			write(t, w, "0 a\n\n1 b\n2 c")
			_ = w.Close()
			killed = runWorker(t, in, dir, "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), os.Args[0])
			if killed {
				met++
				if runWorker(t, in, dir, os.Args[0]) {
					t.Fatal("nobody kills the second worker")
				}
			}
			checkNumbers(t, dir, 3)
			if t.Failed() {
				t.Fatalf("after SIGKILL at call %d of %s", n, call)
			}
		}
	}
	t.Logf("%d kills met a live worker", met)
	if met < 30 && !testing.Short() || met == 0 {
		t.Errorf("%d kills, want more", met)
	}
}

// runWorker runs a worker of the intake's pipe to its end, which may be a kill.
func runWorker(t *testing.T, in *Intake, dir string, args ...string) (killed bool) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	cmd := program(dir, fmt.Sprintf("%s=3 %d", workerEnv, 3+len(in.spool.kept)), "GOMAXPROCS=1")
	cmd.Args = args
	cmd.Path, err = exec.LookPath(args[0])
	must(t, err)
	copyOf := func(fd int) *os.File {
		fd, err := unix.Dup(fd)
		must(t, err)
		return os.NewFile(uintptr(fd), "copy")
	}
	stdin := copyOf(in.fd)
	defer stdin.Close()
	cmd.Stdin = stdin
	for _, fd := range in.spool.kept {
		file := copyOf(fd)
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	err = cmd.Run()
	st, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && !st.Signaled() {
		t.Fatal(err)
	}
	return st.Signaled()
}
