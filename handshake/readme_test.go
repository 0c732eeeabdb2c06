package handshake

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The example in testdata/README.md is a second implementation.
func TestVectors_HoldInPythonToo(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3: ", err)
	}
	readme, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```python\n")
	script, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("testdata/README.md has no example in Python")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Dir = "testdata"
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "all vectors hold\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
