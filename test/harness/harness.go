// Package harness is what the tests that take wsrelay and wsreceive to their
// limits, as processes and from the outside, have in common:
//
//	Feeder ══pipe══▶ Relay: keeper and worker
//	numbered lines
//
// all of it in namespaces of its own, so that nothing is left of a test,
// whatever way it ends. The harness needs Linux.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const insideEnv = "STAND_INSIDE"

// unsettled is the exit status of tests that got namespaces and could not make
// them their own: in a root directory that is no mount point, for one.
const unsettled = 77

// uncontained says why the tests run without namespaces of their own.
var uncontained string

// Main is a TestMain. It runs the tests in namespaces of their own where it
// may: nothing stays mounted and no process is left.
func Main(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		code, err := contain()
		if err == nil {
			os.Exit(code)
		}
		uncontained = err.Error()
	} else if err := settle(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		os.Exit(unsettled)
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // to wait for the workers of dead keepers
	code := m.Run()
	if binaries != "" {
		_ = os.RemoveAll(binaries)
	}
	os.Exit(code)
}

// contain runs this program again as the first process of a PID namespace, with
// mounts that nobody else sees and a place for files that goes with it. All of
// it ends with us.
func contain() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "ws-") // short: sockets below it have paths of at most 107 bytes
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)                      //nolint:errcheck // as far as it goes
	if err := os.Chmod(dir, 0o711); err != nil { // programs of other users have files in it
		return 0, err
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1", "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err // no right to: without, then
	}
	err = cmd.Wait()
	switch code := cmd.ProcessState.ExitCode(); {
	case code == unsettled:
		return 0, errors.New("this root directory does not let mounts be private")
	case err != nil:
		return max(1, code), nil
	}
	return 0, nil
}

// settle makes the new namespaces' mounts and /proc their own.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// NeedMounts skips the test, as [Lack] does, where what it mounts would not go
// away with it.
func NeedMounts(t testing.TB) {
	t.Helper()
	NotShort(t)
	if os.Getenv(insideEnv) == "" {
		Lack(t, "no namespace with mounts of its own: "+uncontained)
	}
}

// Long reports whether tests take their long form.
func Long() bool { return os.Getenv("TORTURE") == "long" }

// NotShort skips the test with -short, which is for what does not drive real
// programs.
func NotShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("drives the real programs")
	}
}

// Lack skips the test because something is missing; in CI, where nothing may be
// skipped, it fails.
func Lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI skips nothing", what)
	}
	t.Skip(what)
}

// Need skips the test where a program is missing, as [Lack] does.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	NotShort(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lack(t, p+" is not installed")
		}
	}
}

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	binaries string
	build    = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "wsrelay-bin-")
		if err != nil {
			return "", err
		}
		binaries = dir
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir, "wsrelay", "wsrelay/cmd/wsreceive")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds them: little is compiled twice
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return dir, nil
	})
)

// Program is the path of wsrelay or wsreceive, built from this checkout.
func Program(t testing.TB, name string) string {
	t.Helper()
	NotShort(t)
	dir, err := build()
	Must(t, err)
	return filepath.Join(dir, name)
}
