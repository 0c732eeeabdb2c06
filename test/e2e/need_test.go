package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/test/harness"
)

// need skips the test where a program is missing, as harness.Lack does.
func need(t *testing.T, programs ...string) {
	t.Helper()
	notShort(t)
	for _, program := range programs {
		var err error
		if program == "syslog-ng" {
			_, err = SyslogNGPath()
		} else {
			_, err = exec.LookPath(program)
		}
		if err != nil {
			harness.Lack(t, program+" is not installed")
		}
	}
}

// notShort skips the test with -short, which is for what does not drive real
// programs, unless an engine was started for it.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() && os.Getenv("ELASTICSEARCH_URL") == "" {
		t.Skip("drives the real programs")
	}
}

// standIn is a directory with a wsrelay that only keeps what it gets: its
// options in the file "options" and its lines in the file "lines". It ignores
// SIGTERM and tells the block's shell of the end of its input.
func standIn(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "a program")
	script := "#!/bin/sh\ntrap '' TERM\ncat <&3 >options\ncat >>lines\nexit 93\n"
	must(t, os.Mkdir(bin, 0o700))
	must(t, os.WriteFile(filepath.Join(bin, "wsrelay"), []byte(script), 0o700))
	return bin
}

func newSandbox(t *testing.T, bin string) *Sandbox {
	t.Helper()
	s, err := NewSandbox(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start runs syslog-ng on body until the test ends, or stop is called.
func start(t *testing.T, s *Sandbox, body string, sockets ...string) *Process {
	t.Helper()
	conf, err := s.WriteConfig(body)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.StartSyslogNG(t.Context(), conf, sockets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s, p) })
	return p
}

// stop ends syslog-ng and waits for the end of what it had started.
func stop(t *testing.T, s *Sandbox, p *Process) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := s.WaitChildren(ctx); err != nil {
		t.Error(err)
	}
}

// waitLines reads the lines that the stand-in got once there are n.
func waitLines(t *testing.T, s *Sandbox, n int) []string {
	t.Helper()
	text := waitFor(t, s, "lines", func(b []byte) bool { return bytes.Count(b, []byte("\n")) >= n })
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func waitFor(t *testing.T, s *Sandbox, name string, enough func([]byte) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var content []byte
	err := poll(ctx, func() (bool, error) {
		content, _ = os.ReadFile(s.Path(name)) // not there yet: not enough
		return enough(content), nil
	})
	if err != nil {
		t.Fatalf("%s has only %.1000q: %v", name, content, err)
	}
	return string(content)
}

// build makes the programs, once for all tests; TestMain removes them.
var build = sync.OnceValues(func() (string, error) {
	bin, err := os.MkdirTemp("", "wsrelay-bin-")
	if err != nil {
		return "", err
	}
	binaries = bin
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "wsrelay", "wsrelay/cmd/wsreceive")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds them: little is compiled twice
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

var binaries string

func TestMain(m *testing.M) {
	if os.Getenv("STACK_REQUESTS") != "" { // minutes of a dozen programs, which ^C must end as well
		harness.Main(m)
	}
	code := m.Run()
	if binaries != "" {
		_ = os.RemoveAll(binaries)
	}
	os.Exit(code)
}

// built is the directory with wsrelay and wsreceive.
func built(t *testing.T) string {
	t.Helper()
	notShort(t)
	bin, err := build()
	must(t, err)
	return bin
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
