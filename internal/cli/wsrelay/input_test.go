package wsrelay

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

func TestRun_TakesAnyInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("a\n\nb\nend"), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	write(t, here, "a\n\nb\nend")
	_ = here.Close()
	open, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	write(t, end, "a\n\nb\nend")
	_ = end.Close()
	for name, tt := range map[string]struct {
		stdin  *os.File
		keeper string
	}{
		"file": {open, "auto"}, "socket": {there, "auto"}, "pipe without keeper": {pipe, "off"},
	} {
		t.Run(name, func(t *testing.T) {
			defer tt.stdin.Close()
			dir := filepath.Join(t.TempDir(), "q")
			cmd := onInput(tt.stdin, "--keeper", tt.keeper, "--queue-dir", dir, "--drain", "1ms", noReceiver)
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != exitWaiting {
				t.Errorf("status %d, want %d", got, exitWaiting)
			}
			if got, want := queued(t, dir), "a\nb\nend\n"; got != want {
				t.Errorf("queued %q, want %q", got, want)
			}
		})
	}
}

func onInput(stdin *os.File, args ...string) *exec.Cmd {
	hear()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = stdin
	return cmd
}

func TestRun_TakesATerminal(t *testing.T) {
	for name, tt := range map[string]struct {
		typed, want string
		status      int
	}{
		"^D ends it":         {"a\n\nb\nend\x04\x04", "a\nb\nend\n", exitWaiting},
		"^C ends it at once": {"a\npart\x03", "a\n", 0}, // and the terminal throws the part away
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			dir := filepath.Join(t.TempDir(), "q")
			cmd := onInput(slave, "--queue-dir", dir, "--drain", "1ms", noReceiver)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			first, rest, _ := strings.Cut(tt.typed, "\n")
			write(t, master, first+"\n")
			waitQueued(t, dir, first)
			write(t, master, rest)
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if got := queued(t, dir); got != tt.want {
				t.Errorf("queued %q, want %q", got, tt.want)
			}
		})
	}
}

// terminal is a pseudo-terminal: what is typed goes to the master.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	return master, slave
}

// Without memory files there is no keeper, nor where a sandbox refuses another
// call that it needs: wsrelay works, and says so. The options, if they got into a
// memory file, are still read.
func TestRun_ContinuesWithoutAKeeperWhereThereCanBeNone(t *testing.T) {
	needStrace(t)
	for _, call := range []string{
		"memfd_create:error=EPERM:when=1+", "memfd_create:error=EPERM:when=2+", // the copy of the options fails, or the spool
		"splice:error=EPERM", "tee:error=EPERM", "fallocate:error=EPERM", "splice:error=ENOSYS",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir, options := filepath.Join(base, "q"), filepath.Join(base, "options")
			if err := os.WriteFile(options, []byte("queue-dir = "+dir+"\ndrain = 1ms\nurl = "+noReceiver+"\n"),
				0o600); err != nil {
				t.Fatal(err)
			}
			cmd, w := command(t, "exec strace -f -qq -o "+os.DevNull+" -e trace=memfd_create,splice,tee,fallocate -e inject="+call+` "$0" --options-fd 3 3<`+options)
			write(t, w, "a\n")
			waitQueued(t, dir, "a\n")
			logHas(t, dir, "running without a keeper")
			write(t, w, "b\nend")
			_ = w.Close()
			_ = cmd.Wait()
			if got, want := queued(t, dir), "a\nb\nend\n"; got != want {
				t.Errorf("queued %q, want %q", got, want)
			}
		})
	}
}

func TestRun_WaitsWhileAnotherHasTheQueueAndSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	one, first := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
	write(t, first, "first\n")
	waitQueued(t, dir, "first")
	two, second := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
	write(t, second, "second\n")
	logHas(t, dir, "another wsrelay uses this queue")
	write(t, first, "first again\n")
	_, _ = first.Close(), one.Wait()
	waitQueued(t, dir, "second")
	_, _ = second.Close(), two.Wait()
	if got, want := queued(t, dir), "first\nfirst again\nsecond\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

// A worker whose keeper was killed reads on, and the block's shell starts another
// wsrelay on the same pipe: only one of them may take from it.
func TestRun_LeavesThePipeToAWorkerThatHasLostItsKeeper(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := onInput(r, "--queue-dir", dir, "--drain", "1ms", noReceiver)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		return cmd
	}
	one := start()
	var lines strings.Builder
	lines.WriteString("first\n")
	write(t, w, lines.String())
	waitQueued(t, dir, "first")
	_ = one.Process.Kill()
	_ = one.Wait()
	two := start()
	eventually(t, "it waits", func() bool { return awaited(dir) })
	for i := range 2000 {
		line := fmt.Sprintf("%04d %s\n", i, strings.Repeat("x", 300))
		lines.WriteString(line)
		write(t, w, line)
	}
	_, _ = w.Close(), r.Close()
	_ = two.Wait()
	eventually(t, "both have ended", func() bool { return free(dir) })
	if got, want := queued(t, dir), lines.String(); got != want {
		k := 0
		for k < min(len(got), len(want)) && got[k] == want[k] {
			k++
		}
		t.Errorf("%d bytes are queued, want %d; they differ from %d on: %.60q, want %.60q", len(got), len(want), k,
			got[k:], want[k:])
	}
}

// ^C ends one that waits for another to end, if there is nothing for it to take.
func TestRun_CanBeInterruptedWhileAnotherHasTheQueue(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(context.Background())
	cmd, w := command(t, `exec "$0" "$@" 2>"$2.err"`, "--queue-dir", dir, noReceiver)
	defer w.Close()
	eventually(t, "it waits", func() bool { return awaited(dir) })
	_ = cmd.Process.Signal(syscall.SIGINT)
	eventually(t, "it waits no more", func() bool { return !awaited(dir) })
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != exitConfig {
		t.Errorf("status %d, want %d", got, exitConfig)
	}
	if said, _ := os.ReadFile(dir + ".err"); !strings.Contains(string(said), "stopped while another wsrelay uses") ||
		!strings.Contains(string(said), "nothing was read: no line is lost") {
		t.Errorf("it says %q", said)
	}
}

// The network is down, the queue is at its limit, the pipe is full: a SIGTERM
// and the end of the pipe, and all of it is on disk.
func TestService_StopsWithAFullQueueAndNoNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, "--queue-limit", "64MiB", "--compress", "none", "--drain", "1h",
		noReceiver)
	line := strings.Repeat("x", 999) + "\n"
	sent := 0
	for {
		_ = w.SetWriteDeadline(time.Now().Add(2 * time.Second))
		n, err := w.WriteString(line)
		sent += n
		if err != nil {
			break // the pipe is full
		}
	}
	if sent < 60<<20 {
		t.Fatalf("the pipe was full after %d bytes", sent)
	}
	began := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = w.Close()
	_ = cmd.Wait()
	t.Logf("%d bytes in queue, memory and pipe; it ended %v after the signal", sent,
		time.Since(began).Round(time.Millisecond))
	if got := cmd.ProcessState.ExitCode(); got != 0 {
		t.Errorf("status %d, want 0: all is on disk", got)
	}
	got := queued(t, dir)
	if want := strings.Repeat(line, sent/len(line)+1)[:sent]; strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
		t.Errorf("%d bytes are queued, want the %d that the pipe took", len(got), sent)
	}
}
