package wsrelay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/status"
)

func TestService_ContinuesAfterASignalWhileTheInputDoes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := command(t, "", "--queue-dir", dir, "--drain", "1ms", noReceiver)
	write(t, w, "before\n")
	waitQueued(t, dir, "before")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	logHas(t, dir, "still open: continuing")
	write(t, w, "after\n")
	waitQueued(t, dir, "after")
	_ = w.Close()
	_ = cmd.Wait()
	if got, want := queued(t, dir), "before\nafter\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

func TestService_KeepsLinesUnderABrokenConfiguration(t *testing.T) {
	for name, tt := range map[string]struct{ options, want string }{
		"unknown option": {
			"no-such-option = 1\nqueue-dir = DIR\nurl = " + noReceiver,
			`unknown option "no-such-option"`,
		},
		"no form":         {"queue-dir = DIR\nwhat is this", "line 2: not of the form"},
		"no form, above":  {"what is this\nqueue-dir = DIR\nurl = " + noReceiver, "line 1: not of the form"},
		"bad URL":         {"queue-dir = DIR\nurl = http://h/", "write ws:// instead of http://"},
		"no URL":          {"queue-dir = DIR", "no URL to ship to"},
		"a bad size":      {"queue-dir = DIR\nqueue-limit = much\nurl = " + noReceiver, "is not a size"},
		"a limit too low": {"queue-dir = DIR\nqueue-limit = 1MiB\nurl = " + noReceiver, "less than 64MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "q")
			options := filepath.Join(t.TempDir(), "options")
			if err := os.WriteFile(options, []byte(strings.ReplaceAll(tt.options, "DIR", dir)+"\n"),
				0o600); err != nil {
				t.Fatal(err)
			}
			cmd, w := command(t, `exec "$0" --options-fd 3 3<`+options)
			write(t, w, "kept\n")
			waitQueued(t, dir, "kept")
			logHas(t, dir, tt.want)
			if got := cmd.ProcessState; got != nil {
				t.Errorf("it ended: %v", got)
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = w.Close()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 0 && got != exitWaiting { // the end may be seen before the signal
				t.Errorf("status %d", got)
			}
			if got := queued(t, dir); got != "kept\n" {
				t.Errorf("queued %q", got)
			}
		})
	}
}

func TestService_KeepsTheLimitOfAConfigurationThatIsWrongElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	_, w := command(t, "", "--queue-dir", dir, "--queue-limit", "65MiB") // and no URL
	defer w.Close()
	eventually(t, "it answers", func() bool { return status.Read(dir).State == status.Holding })
	if got := status.Read(dir).DiskLimitBytes; got != 65<<20 {
		t.Errorf("the limit is %d", got)
	}
}

// A parent that ignores the exit status starts wsrelay again at once.
func TestService_WithoutAKeeperDoesNotEndAtOnceForAMistake(t *testing.T) {
	t.Parallel()
	for want, options := range map[int][]string{
		exitUsage:  nil,
		exitConfig: {"--queue-dir", "/dev/null/none", noReceiver},
	} {
		log := filepath.Join(t.TempDir(), "log")
		cmd, w := command(t, "", append([]string{"--keeper", "off", "--log-file", log}, options...)...)
		began := time.Now()
		_ = cmd.Wait()
		_ = w.Close()
		if took, got := time.Since(began), cmd.ProcessState.ExitCode(); took < testLook || got != want {
			t.Errorf("status %d after %v, want %d after %v", got, took, want, testLook)
		}
	}
}

// What an earlier worker has read is with the keeper: the process that reports an error
// knows, and knows whether the keeper continues.
func TestRun_SaysWhatBecomesOfLinesInMemory(t *testing.T) {
	const want = "no line is lost: 5 B that were read wait in memory until this is fixed"
	for name, shell := range map[string]string{"a service": "", "by hand": `exec "$0" "$@" 2>/dev/full`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir, config, log := filepath.Join(base, "q"), filepath.Join(base, "config"), filepath.Join(base, "log")
			put := func(text string) {
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			good := "queue-dir = " + dir + "\nlog-file = " + log + "\nurl = " + noReceiver + "\n"
			put(good)
			cmd, w := command(t, shell, "--config", config)
			write(t, w, "kept\n")
			eventually(t, "the line is taken", func() bool {
				n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
				return err == nil && n == 0
			})
			put("nonsense\n" + good)
			if n := child(cmd.Process.Pid); n == 0 || syscall.Kill(n, syscall.SIGKILL) != nil {
				t.Fatalf("no worker: %d", n)
			}
			eventually(t, "the log says what becomes of it", func() bool {
				b, _ := os.ReadFile(log)
				return bytes.Contains(b, []byte(want))
			})
			put(good)
			if err := q.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			waitQueued(t, dir, "kept")
		})
	}
}

// Without its file of options wsrelay cannot know where the queue is: the pipe
// waits. Once a file is fixed, nobody has to reload anything.
func TestService_ContinuesOnceItsConfigFileIsFixed(t *testing.T) {
	for name, wrong := range map[string]string{"there is none": "", "it names no receiver": "queue-dir = DIR\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir, config, log := filepath.Join(base, "q"), filepath.Join(base, "config"), filepath.Join(base, "log")
			put := func(text string) {
				if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if wrong != "" {
				put(wrong)
			}
			instance := fmt.Sprint("test", os.Getpid())
			_, w := command(t, "", "--config", config, "--instance", instance, "--log-file", log)
			write(t, w, "early\n")
			eventually(t, "it has tried twice", func() bool {
				b, _ := os.ReadFile(log)
				return bytes.Count(b, []byte("wsrelay: error: ")) >= 2
			})
			put("queue-dir = DIR\nurl = " + noReceiver + "\n")
			eventually(t, "it delivers", func() bool {
				b, _ := os.ReadFile(log)
				return bytes.Contains(b, []byte("connection refused"))
			})
			waitQueued(t, dir, "early")
			if _, err := os.Stat(queueDir(instance)); err == nil {
				t.Errorf("it made %s meanwhile", queueDir(instance))
				_ = os.RemoveAll(queueDir(instance))
			}
		})
	}
}

func TestService_KeepsLinesWhileItsKeyFileIsMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "q")
	key := filepath.Join(t.TempDir(), "key")
	_, w := command(t, "", "--queue-dir", dir, "--key-file", key, noReceiver)
	write(t, w, "kept\n")
	waitQueued(t, dir, "kept")
	logHas(t, dir, "the key cannot be used")
	keygen := onInput(nil, "keygen", key)
	if out, err := keygen.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := syscall.Kill(lockedBy(dir), syscall.SIGKILL); err != nil { // the next one need not wait for half a minute
		t.Fatal(err)
	}
	logHas(t, dir, "connection refused")
	write(t, w, "and more\n")
	waitQueued(t, dir, "and more")
}

// The pipe waits while the directory cannot be used, and one worker after
// another looks whether it can.
func TestService_ContinuesOnceTheQueueDirectoryIsFixed(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir := filepath.Join(base, "q")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file is in its place
		t.Fatal(err)
	}
	log := filepath.Join(base, "log")
	cmd, w := command(t, "", "--queue-dir", dir, "--log-file", log, "--drain", "1ms", noReceiver)
	write(t, w, "early\n")
	eventually(t, "the log says why", func() bool {
		b, _ := os.ReadFile(log)
		return bytes.Count(b, []byte("cannot use the queue directory")) >= 2 // and it tries again
	})
	b, _ := os.ReadFile(log)
	if n := bytes.Count(b, []byte("cannot use the queue directory")); n > 10 {
		t.Errorf("%d workers came at once", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	write(t, w, "late\n")
	waitQueued(t, dir, "late")
	_ = w.Close()
	_ = cmd.Wait()
	if got, want := queued(t, dir), "early\nlate\n"; got != want {
		t.Errorf("queued %q, want %q", got, want)
	}
}

func TestService_LogsWhatACrashSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	_, w := command(t, "", "--queue-dir", dir, noReceiver)
	defer w.Close()
	eventually(t, "the queue has an owner", func() bool { return lockedBy(dir) != 0 })
	worker := lockedBy(dir)
	write(t, w, "a line\n")
	logHas(t, dir, "connection refused") // it has begun to log
	if err := syscall.Kill(worker, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	logHas(t, dir, "SIGQUIT")
	logHas(t, dir, "goroutine ")
	eventually(t, "another worker has the queue", func() bool { now := lockedBy(dir); return now != 0 && now != worker })
}

// The input has ended, and what was taken from it can get nowhere: the second
// SIGTERM ends the relay, which says in the system's log what is lost.
func TestService_EndsAtTheSecondSignalThoughTheQueueCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, stderr := range map[string]string{
		"a service": os.DevNull,
		"by hand":   filepath.Join(t.TempDir(), "stderr"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secondSignal(t, stderr)
		})
	}
}

func secondSignal(t *testing.T, stderr string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "q")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{}) // another has the queue for ever
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(t.Context())
	cmd, w := command(t, `exec "$0" "$@" 2>>`+stderr, "--queue-dir", dir, "--exit-ended", "93", noReceiver)
	write(t, w, "lost\n")
	eventually(t, "the line is taken", func() bool {
		n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
	_ = w.Close()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(1100 * time.Millisecond) // within a second they are one
	if child(cmd.Process.Pid) == 0 {
		t.Error("it ended at the first signal")
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 93 {
		t.Errorf("status %d, want the one that was asked for", got)
	}
	if said, _ := os.ReadFile(stderr); stderr != os.DevNull &&
		!strings.Contains(string(said), "the lines in 5 B that were read and are not on disk are lost") {
		t.Errorf("it says %q", said)
	}
}

func TestQueueDir_NeverDependsOnTheWorkingDirectory(t *testing.T) {
	for _, tt := range []struct{ state, home, want string }{
		{"", "", "/var/lib/syslog-ng/wsrelay/x"},
		{"state", "home", "/var/lib/syslog-ng/wsrelay/x"},
		{"", "/home/u", "/home/u/.local/state/wsrelay/x"},
		{"/state", "/home/u", "/state/wsrelay/x"},
	} {
		t.Setenv("XDG_STATE_HOME", tt.state)
		t.Setenv("HOME", tt.home)
		if got := userQueue("x"); got != tt.want {
			t.Errorf("state %q, home %q: %s, want %s", tt.state, tt.home, got, tt.want)
		}
	}
}
