package wsrelay

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsrelay/buffer"
)

const noReceiver = "ws://127.0.0.1:1/relay"

// command is wsrelay, or a shell that runs it as "$0"; in a process group of
// its own, with /dev/null for stderr, as under syslog-ng.
func command(t *testing.T, shell string, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	hear()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], args...)
	if shell != "" {
		cmd = exec.Command("/bin/sh", append([]string{"-c", shell, os.Args[0]}, args...)...)
	}
	cmd.Env = append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	t.Cleanup(func() { _ = w.Close(); _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd, w
}

// hear makes children hear the signals that nohup(1), or a shell that has put
// this test into its background, has made it ignore.
var hear = sync.OnceFunc(func() {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
})

func lockedBy(dir string) int {
	holder, _ := buffer.Locked(dir)
	return holder
}

// free: no process has the queue.
func free(dir string) bool { return lockedBy(dir) == 0 }

// awaited: another process waits for the queue.
func awaited(dir string) bool {
	_, waiting := buffer.Locked(dir)
	return len(waiting) > 0
}

// child is the pid of the keeper's worker; 0: it has none now.
func child(keeper int) (worker int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keeper))
	for _, thread := range threads {
		if b, _ := os.ReadFile(thread); len(b) > 0 {
			_, _ = fmt.Sscan(string(b), &worker)
		}
	}
	return worker
}

func logHas(t *testing.T, dir, what string) {
	t.Helper()
	name := filepath.Join(dir, "wsrelay.log")
	eventually(t, fmt.Sprintf("%s says %q", name, what), func() bool {
		b, _ := os.ReadFile(name)
		return bytes.Contains(b, []byte(what))
	})
}

func TestSignals_OfASession(t *testing.T) {
	for _, tt := range []struct {
		name, shell string
		send        func(group, keeper, worker int) // nil: the shell's own doing
	}{
		{"a shell's ^C reaches the writer too", `cat | "$0" "$@"`, func(group, _, _ int) { _ = syscall.Kill(-group, syscall.SIGINT) }},
		{"systemd: all at once, three times", `exec "$0" "$@"`, func(group, _, _ int) {
			for range 3 {
				_ = syscall.Kill(-group, syscall.SIGTERM)
			}
		}},
		{"the terminal is closed", `exec "$0" "$@"`, func(group, _, _ int) { _ = syscall.Kill(-group, syscall.SIGHUP) }},
		{"the keeper is dead: the worker obeys", `"$0" "$@"; sleep 0.1`, func(_, keeper, worker int) {
			_ = syscall.Kill(keeper, syscall.SIGKILL)
			for range 4000 { // it notices, in its own time
				if !ignores(worker, syscall.SIGTERM) {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			_ = syscall.Kill(worker, syscall.SIGTERM)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "q")
			cmd, w := command(t, tt.shell, "--queue-dir", dir, "--drain", "30s", noReceiver)
			write(t, w, "before\n")
			waitQueued(t, dir, "before")
			worker := lockedBy(dir)
			keeper, err := parent(pid(worker))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			tt.send(cmd.Process.Pid, int(keeper), worker)
			_, _ = w.WriteString("after\nend") // cat may be gone
			_ = w.Close()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 0 && tt.shell[:4] == "exec" { // else it is the shell's
				t.Errorf("status %d, want 0", got)
			}
			eventually(t, "the worker has ended", func() bool { return free(dir) })
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it waited %v for delivery", took)
			}
			got := queued(t, dir)
			if want := "before\nafter\nend\n"; got != want && (tt.shell[:3] != "cat" || got != "before\n") {
				t.Errorf("queued %q, want %q", got, want)
			}
		})
	}
}

// ignores tells whether a process ignores a signal.
func ignores(pid int, sig syscall.Signal) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	mask, _, _ := strings.Cut(rest, "\n")
	set, _ := strconv.ParseUint(mask, 16, 64)
	return set>>(sig-1)&1 == 1
}

func TestSignals_OfTimeoutEndTheRunThoughTheInputContinues(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, `exec timeout 1 "$0" "$@" 2>"$2.err"`, "--queue-dir", dir, noReceiver)
	write(t, w, "whole\npart")
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 124 {
		t.Errorf("status %d, want timeout's", got)
	}
	if got, want := queued(t, dir), "whole\npart\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}
