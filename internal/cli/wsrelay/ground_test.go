package wsrelay

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/buffer"
	"wsrelay/internal/status"
)

// What administrators do to the queue directory of a running wsrelay; the queue
// itself is tested in package buffer.

func TestGround_RemovedDirectoryIsThereAgainWithLogAndSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
	write(t, w, "one\n")
	waitQueued(t, dir, "one")
	eventually(t, "it is removed, whatever wsrelay writes meanwhile", func() bool { return os.RemoveAll(dir) == nil })
	write(t, w, "two\n")
	waitQueued(t, dir, "two")
	waitQueued(t, dir, "one")
	logHas(t, dir, "the queue directory was removed")
	eventually(t, "status tells what the relay does", func() bool {
		s := status.Read(dir)
		return s.BacklogLines == 2 && s.Keeper
	})
	_, _ = w.Close(), cmd.Wait()
	if got, want := queued(t, dir), "one\ntwo\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

func TestGround_LogContinuesAfterTheFilesWereRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
	write(t, w, "one\n")
	waitQueued(t, dir, "one")
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	write(t, w, "two\n")
	waitQueued(t, dir, "two")
	logHas(t, dir, "files of the queue were removed or replaced")
	eventually(t, "it answers", func() bool { return status.Read(dir).Keeper })
	_, _ = w.Close(), cmd.Wait()
	if got, want := queued(t, dir), "one\ntwo\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

// A user who can make files in the queue directory could have wsrelay write
// anywhere.
func TestGround_LogFollowsNoLink(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(string, string) error{"symbolic": os.Symlink, "hard": os.Link} {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600),
			link(victim, filepath.Join(dir, "wsrelay.log"))); err != nil {
			t.Fatal(err)
		}
		cmd, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
		write(t, w, "line\n")
		waitQueued(t, dir, "line")
		_, _ = w.Close(), cmd.Wait()
		if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
			t.Errorf("%s link: the other file holds %q, %v", name, b, err)
		}
	}
}

func TestGround_StatusTellsOfARelayThatWaits(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	_, w := command(t, "", "--queue-dir", dir, noReceiver)
	defer w.Close()
	eventually(t, "it answers", func() bool { return status.Read(dir).Keeper })
	if s := status.Read(dir); !s.Healthy {
		t.Errorf("got %+v", s)
	}
	_, other := command(t, "", "--queue-dir", dir, noReceiver)
	defer other.Close()
	write(t, other, "waits\n")
	eventually(t, "another waits", func() bool { return awaited(dir) })
	s := status.Read(dir)
	if s.Healthy || status.ExitCode([]status.Snapshot{s}) != 1 ||
		!strings.Contains(s.Problems[0].What, "waits for this queue") ||
		!strings.Contains(s.Problems[0].Effect, "not counted here") {
		t.Errorf("got %+v", s)
	}
}

func TestGround_StatusOfADirectoryThatItMayNotReadIsUnknown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	base := t.TempDir()
	dir := filepath.Join(base, "q")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(context.Background())
	for _, mode := range []os.FileMode{0o000, 0o711, 0o744} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(base, "wsrelay")
		copyProgram(t, program)
		for _, p := range []string{base, filepath.Dir(base)} {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(program, "status", "--queue-dir", dir)
		cmd.Env = append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "CANNOT TELL") ||
			!strings.Contains(string(out), "not known whether lines wait") {
			t.Errorf("mode %o: status %d\n%s", mode, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(to, b, 0o755), os.Chmod(to, 0o755)) // whatever the umask is
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestGround_TheDirectoryOfAnotherUserIsRefusedAndNotWrittenTo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Parallel()
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600),
		os.Symlink(victim, filepath.Join(dir, "wsrelay.log")),
		os.Symlink(victim, filepath.Join(dir, "LOCK")), os.Chown(dir, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	cmd, stdin, log := program(t, "--keeper", "off", "--queue-dir", dir)
	_ = stdin.Close()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitConfig || !strings.Contains(log.String(), "user with id 12345") ||
		!strings.Contains(log.String(), "hint: run wsrelay as that user") {
		t.Errorf("status %d, %s", cmd.ProcessState.ExitCode(), log)
	}
	_, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver) // a service: its log would be there
	write(t, w, "line\n")
	time.Sleep(2 * testLook)
	_ = w.Close()
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the other file holds %q, %v", b, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("files are there: %v", left)
	}
}
