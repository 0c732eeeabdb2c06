package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blockCommand is what syslog-ng hands to /bin/sh -c for the block.
func blockCommand(t *testing.T, s *Sandbox, options string) string {
	t.Helper()
	block, err := s.shipped("websocket/plugin.conf", nil)
	must(t, err)
	found := regexp.MustCompile(`(?ms)^  program\((".*?[^\\]")$`).FindStringSubmatch(block)
	if found == nil {
		t.Fatal("the block has no program()")
	}
	command := strings.ReplaceAll(strings.Trim(found[1], `"`), `\"`, `"`)
	return strings.NewReplacer("`wsrelay`", filepath.Join(s.bin, "wsrelay"), "`unread-dir`", s.Path("un read"),
		"`instance`", "default", "`url`", nobody, "`options`", options).Replace(command)
}

// TestStop_AtAnyMomentOfTheStart sends SIGTERM to the process group 0 to 30 ms
// after its fork and then closes the pipe, as syslog-ng does. Either all lines
// come to be in the queue, or the process that got the signal died by it before anybody
// had touched the pipe. EARLY=1000 takes a minute or two.
func TestStop_AtAnyMomentOfTheStart(t *testing.T) {
	const lines = 40
	s := newSandbox(t, built(t))
	for _, tt := range []struct {
		name, command string
		spared        float64 // share of the signals that must not be deadly
	}{
		{"the block", blockCommand(t, s, "queue-dir=$QUEUE"), 0.8},
		{"by hand", fmt.Sprintf("exec %s --queue-dir $QUEUE %s", filepath.Join(s.bin, "wsrelay"), nobody), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept, latest, longest := 0, time.Duration(0), time.Duration(0)
			n := long(t, "EARLY", 50)
			for range n {
				dir := filepath.Join(t.TempDir(), "queue")
				delay := rand.N(30 * time.Millisecond)
				if took, heard := termEarly(t, strings.ReplaceAll(tt.command, "$QUEUE", dir), delay, lines); heard {
					kept++
					longest = max(longest, took)
					if got, want := count(t, dir, 0, lines), (tally{lines: lines}); got != want {
						t.Errorf("SIGTERM after %v: got %+v, want %+v", delay, got, want)
					}
				} else {
					latest = max(latest, delay)
				}
			}
			t.Logf("%d times SIGTERM: %d times all lines are in the queue, %v later at most; %d times it came too early and the pipe was left as it was, at the latest after %v",
				n, kept, longest.Round(time.Millisecond), n-kept, latest)
			if kept < int(tt.spared*float64(n)) {
				t.Errorf("%d of %d continued, want most", kept, n)
			}
		})
	}
}

// termEarly reports whether the command ended normally and not of the SIGTERM,
// and how long it took.
func termEarly(t *testing.T, command string, delay time.Duration, lines int) (took time.Duration, heard bool) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	size := 0
	for k := range lines {
		n, err := fmt.Fprintf(w, "seq: %d\n", k)
		must(t, err)
		size += n
	}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	time.Sleep(delay)
	began := time.Now()
	must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM))
	_ = w.Close()
	_ = cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	left, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
	must(t, err)
	if status.Signaled() && status.Signal() == syscall.SIGTERM {
		if left != size {
			t.Errorf("SIGTERM after %v: it died by it, and %d of %d bytes are left in the pipe", delay, left, size)
		}
		return 0, false
	}
	// 75: it got the signal before it was there, and has seen the pipe end.
	if st := status.ExitStatus(); st != 0 && st != 75 || left != 0 {
		rest, _ := io.ReadAll(r)
		t.Errorf("SIGTERM after %v: status %d, %q left in the pipe", delay, st, rest)
	}
	return time.Since(began), true
}
