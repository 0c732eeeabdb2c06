package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// docs/operations.md promises that 32 MiB and 6 times the longest line are
// enough.
func TestMemory_WhatIsDocumentedIsEnoughForLongLines(t *testing.T) {
	const lines, size = 8, 4 << 20
	g, err := newCgroup(t, 0, 32+(6*size)>>20)
	if err != nil {
		t.Skipf("this machine does not bound memory: %v", err)
	}
	s := newSandbox(t, built(t))
	r, err := s.NewReceiver()
	must(t, err)
	must(t, r.Start(t.Context()))
	defer r.Kill()
	line := make([]byte, size*3/4)
	var input bytes.Buffer
	for range lines {
		for i := range line {
			line[i] = byte(rand.Uint32()) //nolint:gosec // incompressible is enough
		}
		input.WriteString(base64.StdEncoding.EncodeToString(line)[:size-1] + "\n")
	}
	command := slices.Concat(g.enter(), []string{
		filepath.Join(s.bin, "wsrelay"), "--queue-dir", s.QueueDir(),
		"--drain", "1m", r.URL(),
	})
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = &input // by a pipe
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, r.WaitStored(ctx, lines))
	if n := g.killed(); n > 0 {
		t.Errorf("the kernel has killed %d", n)
	}
}
