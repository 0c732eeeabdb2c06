package wsrelay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wsrelay/buffer"
)

// programEnv makes the test binary wsrelay itself.
const programEnv = "WSRELAY_TEST_PROGRAM"

const testLook = time.Second

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		retryInterval = testLook
		os.Exit(Main())
	}
	testscript.Main(m, map[string]func(){"wsrelay": func() { os.Exit(Main()) }})
}

// TestScripts has a script for each thing that a user does; a receiver runs
// beside them.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	dir, files := "testdata", []string(nil)
	if testing.Short() { // those without a receiver, which takes seconds to link
		dir, files = "", []string{"testdata/options.txtar", "testdata/queue.txtar", "testdata/usage.txtar"}
	} else {
		build := exec.Command("go", "build", "-trimpath", "-o", bin, "wsrelay/cmd/wsreceive")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds it: little is compiled twice
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: dir, Files: files,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("XDG_STATE_HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each program sleeps a second at its end
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Geteuid() == 0, nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certs": makeCerts, "proxy": startProxy,
			"waitfor": waitFor, "status": endsWith, "until": until, "withfd": withFD,
		},
	})
}

// waitFor FILE PATTERN [NAME] waits until FILE holds PATTERN, and sets NAME to
// its first group.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	var found [][]byte
	eventually(ts, args[0]+" holds "+args[1], func() bool {
		text, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		found = pattern.FindSubmatch(text)
		return found != nil
	})
	if len(args) == 3 {
		ts.Setenv(args[2], string(found[1]))
	}
}

// status N COMMAND... runs a command that is to end with status N.
func endsWith(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("status %d, want %s", got, args[0])
	}
}

// until PATTERN COMMAND... runs a command again and again, whatever its status,
// until its standard output has the pattern.
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	eventually(ts, "its output has "+args[0], func() bool {
		_ = ts.Exec(args[1], args[2:]...)
		return pattern.MatchString(ts.ReadFile("stdout"))
	})
}

// withFD FILE COMMAND... runs a command with FILE open on descriptor 3.
func withFD(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("sh", append([]string{"-c", `exec 3<"$0"; exec "$@"`, ts.MkAbs(args[0])}, args[1:]...)...))
}

// eventually waits until something is so.
func eventually(t interface{ Fatalf(string, ...any) }, what string, so func() bool) {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("it does not come to be that %s", what)
}

// program is wsrelay with an input that the test writes, and a receiver that is
// not there.
func program(t *testing.T, args ...string) (cmd *exec.Cmd, stdin *os.File, log *bytes.Buffer) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	cmd = exec.Command(os.Args[0], append(args, "ws://127.0.0.1:1/relay")...)
	cmd.Env = append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stderr = r, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	t.Cleanup(func() { _ = w.Close(); _ = cmd.Process.Kill() })
	return cmd, w, log
}

// queued is what stands in the queue in dir.
func queued(t *testing.T, dir string) string {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(context.Background())
	var lines []byte
	for {
		b, err := q.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return string(lines)
		}
		if lines, err = b.Lines(lines); err != nil {
			t.Fatal(err)
		}
	}
}

// waitQueued waits until a segment in dir holds what, which is too short to be
// compressed.
func waitQueued(t *testing.T, dir string, what string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q is on disk", what), func() bool { return onDisk(dir, what) })
}

func onDisk(dir string, what string) bool {
	names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	for _, name := range names {
		if b, _ := os.ReadFile(name); bytes.Contains(b, []byte(what)) {
			return true
		}
	}
	return false
}

func TestRun_KeepsWhatComesAfterSIGTERM(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd, stdin, log := program(t, "--queue-dir", dir)
	write(t, stdin, "before\n")
	waitQueued(t, dir, "before")
	for range 3 { // systemd, syslog-ng and systemd again
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	write(t, stdin, strings.Repeat("after\n", 2000)+"no newline")
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	want := "before\n" + strings.Repeat("after\n", 2000) + "no newline\n"
	if got := queued(t, dir); got != want {
		t.Errorf("queued %d bytes, want %d", len(got), len(want))
	}
}

func TestRun_EndsAtASecondSignalThoughTheInputContinues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd, stdin, log := program(t, "--queue-dir", dir)
	write(t, stdin, "whole\npart")
	waitQueued(t, dir, "whole")
	for range 2 {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // further apart than signals that are one
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got, want := queued(t, dir), "whole\npart\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

// deadline is a queue that is closed, and sees for how long it might take.
type deadline struct{ limited bool }

func (d *deadline) Close(ctx context.Context) error {
	_, d.limited = ctx.Deadline()
	return nil
}

// A worker that exited would leave the queue to another wsrelay, and the lines
// after that one's.
func TestPersist_WaitsForADiskAsLongAsAKeeperHasTheLines(t *testing.T) {
	for _, kept := range []bool{true, false} {
		var q deadline
		if err := persist(&q, kept); err != nil || q.limited == kept {
			t.Errorf("kept %v: limited %v, %v", kept, q.limited, err)
		}
	}
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}
