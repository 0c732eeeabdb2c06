package wsrelay

import (
	"context"
	"fmt"
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

// installed is a copy of this program, which an upgrade may replace.
func installed(t *testing.T) (path string, install func(from string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "wsrelay")
	install = func(from string) {
		t.Helper()
		if out, err := exec.Command("cp", from, path+".new").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	install(os.Args[0])
	return path, install
}

func TestUpgrade_InterruptedAtEachStep(t *testing.T) {
	script := func(text string) string {
		name := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct {
		name, program string
		want          string // what upgrade says; "": nobody but the keeper looks at the new program
		status        int    // with which the keeper ends
	}{
		{"the new program does not run", script("#!/bin/sh\nexit 3\n"), "does not run: exit status 3", exitWaiting},
		{"the new program is no program", script("nothing of the kind"), "does not run: ", exitWaiting},
		{"the keeper finds out that it does not run", script("#!/bin/sh\n>\"$0.ran\"\nexit 3\n"), "", exitWaiting},
		{"the new keeper dies before it takes over", script("#!/bin/sh\n[ \"$1\" = --version ] || exit 3\n>\"$0.ran\"\n"), "", 3},
		{"nothing interrupts it", os.Args[0], "upgraded from ", exitWaiting},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			program, install := installed(t)
			dir := filepath.Join(t.TempDir(), "q")
			cmd, w := command(t, "exec "+program+` "$@"`, "--queue-dir", dir, "--drain", "1ms", noReceiver)
			write(t, w, "before\n")
			waitQueued(t, dir, "before")
			worker := lockedBy(dir)
			install(tt.program)
			if tt.want != "" {
				upgrade := exec.Command(os.Args[0], "upgrade", "--queue-dir", dir)
				upgrade.Env = cmd.Env
				out, _ := upgrade.CombinedOutput()
				if !strings.Contains(string(out), tt.want) {
					t.Errorf("it says %q, want %q", out, tt.want)
				}
			} else {
				_ = cmd.Process.Signal(syscall.SIGUSR2)
				eventually(t, "the keeper has run it", func() bool { _, err := os.Stat(program + ".ran"); return err == nil })
			}
			if same := lockedBy(dir) == worker; same == (tt.program == os.Args[0]) {
				t.Errorf("the same worker continues: %v", same)
			}
			write(t, w, "after\n")
			waitQueued(t, dir, "after")
			_ = w.Close()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("the keeper ended with status %d, want %d", got, tt.status)
			}
			eventually(t, "all has ended", func() bool { return free(dir) })
			if got, want := queued(t, dir), "before\nafter\n"; got != want {
				t.Errorf("queued %q, want %q", got, want)
			}
		})
	}
}

func TestUpgrade_SaysWhatItNeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	upgrade := func() string {
		cmd := exec.Command(os.Args[0], "upgrade", "--queue-dir", dir)
		cmd.Env = append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "hint: ") {
			t.Errorf("%v, %s", err, out)
		}
		return string(out)
	}
	if got := upgrade(); !strings.Contains(got, "no wsrelay runs with the queue") {
		t.Errorf("it says %q", got)
	}
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := upgrade(); !strings.Contains(got, "has no keeper") { // this test has it
		t.Errorf("it says %q", got)
	}
	_ = q.Close(context.Background())
	if got := upgrade(); !strings.Contains(got, "no wsrelay runs with the queue") &&
		!strings.Contains(got, "has no keeper") {
		t.Errorf("it says %q", got)
	}
	foreign(t, dir)
	if got := upgrade(); !strings.Contains(got, "belongs to the user with id ") {
		t.Errorf("it says %q", got)
	}
}

// foreign is a process of another user that has locked dir.
func foreign(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	locked, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if err := locked.Chmod(0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("flock", "-F", "/proc/self/fd/3", "sleep", "1000")
	cmd.ExtraFiles = []*os.File{locked}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "it has locked the directory", func() bool { return lockedBy(dir) == cmd.Process.Pid })
}

// The one that waits would have the queue before the new worker, and the lines in
// the spool would wait in their turn.
func TestUpgrade_RefusesWhileAnotherWaitsForTheQueue(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, noReceiver)
	defer w.Close()
	eventually(t, "it has the queue", func() bool { return lockedBy(dir) != 0 })
	worker := lockedBy(dir)
	_, other := command(t, "", "--queue-dir", dir, noReceiver)
	defer other.Close()
	eventually(t, "another waits", func() bool { return awaited(dir) })
	upgrade := exec.Command(os.Args[0], "upgrade", "--queue-dir", dir)
	upgrade.Env = cmd.Env
	if out, err := upgrade.CombinedOutput(); err == nil || !strings.Contains(string(out),
		"another wsrelay waits for the queue") {
		t.Errorf("it says %q", out)
	}
	if now := lockedBy(dir); now != worker {
		t.Errorf("process %d has the queue, and not %d", now, worker)
	}
}

// TORTURE=long kills at every call, not at each third.
func TestUpgrade_MayLoseItsKeeperAtEachSystemCall(t *testing.T) {
	needStrace(t)
	step := 3
	if os.Getenv("TORTURE") == "long" {
		step = 1
	}
	calls := []string{
		"execve", "clone", "clone3", "wait4", "waitid", "kill", "pipe2",
		"fcntl", "rt_sigprocmask", "rt_sigaction", "pread64", "openat", "lseek", "close",
	}
	if testing.Short() {
		calls = calls[:3]
	}
	killed, upgraded, orphaned := 0, 0, 0
	for _, call := range calls {
		for n := 1; ; n += step {
			switch upgradeKilled(t, call, n) {
			case "upgraded":
				upgraded++
			case "killed":
				killed++
				continue
			case "killed without a worker":
				orphaned++
				continue
			}
			break
		}
	}
	t.Logf("%d keepers killed during an upgrade left a worker that continued, %d had none at that moment; %d upgrades had no such call", killed, orphaned, upgraded)
	if killed == 0 {
		t.Error("no keeper was killed")
	}
}

// upgradeKilled upgrades under a strace that kills the keeper, and no other
// process, as a thread of it enters its n-th such call.
func upgradeKilled(t *testing.T, call string, n int) (outcome string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", "--compress", "none", noReceiver)
	write(t, w, "0\n")
	waitQueued(t, dir, "0\n")
	worker, keeper := lockedBy(dir), cmd.Process.Pid
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", keeper))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, thread := range threads {
		ids = append(ids, thread.Name())
	}
	strace := exec.Command("strace", "-qq", "-o", os.DevNull, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), "-p", strings.Join(ids, ","))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "strace has all threads", func() bool {
		for _, id := range ids {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", keeper, id))
			if err == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
				return false
			}
		}
		return true
	})
	// A strace that waits for a thread which execve has renamed holds the other
	// threads of a killed keeper in their stops: its end lets them go.
	stuck := time.AfterFunc(10*time.Second, func() { _ = strace.Process.Kill() })
	defer stuck.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	_ = cmd.Process.Signal(syscall.SIGUSR2)
	next := 1
	for outcome == "" {
		if _, err := fmt.Fprintf(w, "%d\n", next); err == nil {
			next++
		}
		select {
		case <-ended:
			outcome = "killed"
		case <-time.After(time.Millisecond):
			if now := lockedBy(dir); now != worker && !free(dir) {
				outcome = "upgraded"
			}
		}
	}
	_ = strace.Process.Signal(syscall.SIGTERM)
	_ = strace.Wait()
	_, _ = fmt.Fprintf(w, "%d\n", next)
	// The worker may have been killed by its keeper just before, and be dying.
	eventually(t, "the line is on disk, or nobody has the pipe", func() bool {
		return onDisk(dir, strconv.Itoa(next)+"\n") || unread(w)
	})
	if unread(w) {
		return "killed without a worker"
	}
	_ = w.Close()
	if outcome == "upgraded" {
		<-ended
	}
	eventually(t, "all has ended", func() bool { return free(dir) })
	var want strings.Builder
	for k := range next + 1 {
		fmt.Fprintln(&want, k)
	}
	if got := queued(t, dir); got != want.String() {
		t.Errorf("%s %d: %s: queued %.200q, want the numbers to %d", call, n, outcome, got, next)
	}
	return outcome
}

// unread: nobody has the other end of the pipe.
func unread(w *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(w.Fd())}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&unix.POLLERR != 0
}

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is not installed, and CI skips nothing")
		}
		t.Skip("strace is not installed")
	}
}
