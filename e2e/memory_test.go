package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memoryGroup is a control group that allows so many bytes, of version 1 or 2.
// kills tells how many processes the kernel has killed in it.
func memoryGroup(t *testing.T, limit int) (procs string, kills func() string) {
	t.Helper()
	for _, v := range []struct{ dir, limit, events string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"}, {"/sys/fs/cgroup", "memory.max", "memory.events"},
	} {
		dir := filepath.Join(v.dir, fmt.Sprintf("wsrelay-e2e-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if _, err := os.Stat(filepath.Join(dir, v.limit)); err != nil {
			continue // this one has no control of memory
		}
		must(t, os.WriteFile(filepath.Join(dir, v.limit), []byte(strconv.Itoa(limit)), 0))
		return filepath.Join(dir, "cgroup.procs"), func() string {
			b, err := os.ReadFile(filepath.Join(dir, v.events))
			must(t, err)
			return string(regexp.MustCompile(`(?m)^oom_kill \d+`).Find(b))
		}
	}
	t.Skip("no control group can be made")
	return "", nil
}

// docs/operations.md promises that 32 MiB and 6 times the longest line are
// enough.
func TestMemory_WhatIsDocumentedIsEnoughForLongLines(t *testing.T) {
	const lines, size = 8, 4 << 20
	procs, kills := memoryGroup(t, 32<<20+6*size)
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
	name := s.Path("input")
	must(t, os.WriteFile(name, input.Bytes(), 0o600))
	cmd := exec.Command("/bin/sh", "-c", `cat "$1" | (echo 0 >"$2"; exec "$3" --queue-dir "$4" --drain 1m "$5")`,
		"sh", name, procs, filepath.Join(s.bin, "wsrelay"), s.QueueDir(), r.URL())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, r.WaitStored(ctx, lines))
	if got := kills(); !strings.HasSuffix(got, " 0") {
		t.Errorf("the kernel has killed: %s", got)
	}
}
