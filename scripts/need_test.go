// Package scripts tests the scripts beside it.
package scripts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need runs need.sh with a table of its own, in a directory that has a file and a
// directory of the names in that table, where few programs are: no installer.
func need(t *testing.T, table string, args ...string) (output string, status int) {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	script, err := os.ReadFile("need.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"scripts/need.sh": string(script), "scripts/needs": table, "go.mod": "module x\n\ngo 1.26.0\n",
		"absent-program/x": "", "there": "",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dirname", "grep", "sort", "cut", "tr", "sed", "id", "cat"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"scripts/need.sh"}, args...)...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + bin, "GO=" + os.Getenv("NEED_TEST_GO")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func TestNeed_LooksUpAProgramAsAProgram(t *testing.T) {
	out, status := need(t, "+ absent-program 1 one,two the test\n", "absent-program")
	if status != 1 || !strings.Contains(out, "missing: absent-program\n") {
		t.Errorf("status %d, %q, where a directory of that name stands in the working directory", status, out)
	}
	if !strings.Contains(out, "apt-get install --no-install-recommends one two\n") {
		t.Errorf("%q does not name the packages as apt-get takes them", out)
	}
}

func TestNeed_LooksUpAPathAsAPath(t *testing.T) {
	table := "+ ./there 1 a x\n+ ./not-there 1 b y\n+ cat 1 c z\n"
	out, status := need(t, table, "./there", "./not-there", "cat")
	if status != 1 || !strings.Contains(out, "found: ./there cat\n") ||
		!strings.Contains(out, "missing: ./not-there\n") {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestNeed_SaysWhatTheTestsSkip(t *testing.T) {
	out, _ := need(t, "- heavy 300 h everything\n+ light 2 l little\n")
	if !strings.Contains(out, "skip what needs them") || strings.Index(out, "light") > strings.Index(out, "heavy") {
		t.Errorf("%q is no list by size", out)
	}
}

func TestNeed_KnowsNoOtherProgram(t *testing.T) {
	if out, status := need(t, "+ cat 1 c z\n", "dog"); status != 64 || !strings.Contains(out, "does not have dog") {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestNeed_RefusesAGoThatIsTooOld(t *testing.T) {
	old := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho go1.19.8\n"), 0o700); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	for of, want := range map[string]string{old: "this is go1.19.8", "/nowhere/go": "neither in PATH"} {
		t.Setenv("NEED_TEST_GO", of)
		if out, status := need(t, "+ cat 1 c z\n"); status != 1 || !strings.Contains(out, want) ||
			!strings.Contains(out, "Go 1.26.0") {
			t.Errorf("status %d, %q, want %q", status, out, want)
		}
	}
}
