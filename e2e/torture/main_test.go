// Package torture takes the real wsrelay to the end of its promises, from the
// outside: file systems that are shut down hard, processes that are killed at
// any instruction, disks that are full, backlogs that are huge.
//
//	feeder ══pipe══▶ wsrelay ──ws──▶ receiver ─▶ oracle
//	numbered lines     │             kept receipts, outside of what is tortured
//	                 queue on a disk of its own
//
// The oracle is a store behind the real receiver. It keeps which line stands
// under which number of which stream, and so sees a line that is lost, doubled,
// altered, out of order or under a number that another line had.
//
// Every test has a short form, for each run of the tests, and a long one that
// make torture-… runs: it can be stopped at any time, and goes on from there.
package torture

import (
	"context"
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

const insideEnv = "TORTURE_INSIDE"

// TestMain runs the tests in namespaces of their own where it may: whatever
// way they end, nothing stays mounted and no process is left.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		if code, err := contain(); err == nil {
			os.Exit(code)
		}
	} else if err := settle(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
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
	dir, err := os.MkdirTemp("", "wsrelay-torture-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // as far as it goes
	runtime.LockOSThread()  // Pdeathsig is about this thread
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1", "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err // no right to: without, then
	}
	if err := cmd.Wait(); err != nil {
		return max(1, cmd.ProcessState.ExitCode()), nil
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

// contained: what is mounted here goes away with us.
func contained() bool { return os.Getenv(insideEnv) != "" }

// lack skips the test for want of something; in CI, where nothing may be
// skipped, it fails.
func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI skips nothing", what)
	}
	t.Skip(what)
}

func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lack(t, p+" is not installed")
		}
	}
}

var (
	binaries string
	build    = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "wsrelay-torture-")
		if err != nil {
			return "", err
		}
		binaries = dir
		out, err := exec.Command("go", "build", "-o", dir, "wsrelay").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return filepath.Join(dir, "wsrelay"), nil
	})
)

// program is the path of wsrelay, built from this checkout.
func program(t testing.TB) string {
	t.Helper()
	path, err := build()
	must(t, err)
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
