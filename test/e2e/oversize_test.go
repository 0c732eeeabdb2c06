package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The sample for nginx takes messages up to 1 MiB: it gets the number of a
// longer line, and the others; the line stays beside the queue.
func TestOpenResty_StoresAGapForALineThatIsTooLong(t *testing.T) {
	s := newSandbox(t, built(t))
	o := newOpenResty(t, s)
	o.run(t)
	t.Cleanup(func() { o.KillGroup() })

	long := strings.Repeat("too long ", 1<<18)
	relay := exec.CommandContext(t.Context(), filepath.Join(s.bin, "wsrelay"), "--drain", "60s",
		"ws://"+o.addr+"/relay")
	relay.Env, relay.Stdin = s.env, strings.NewReader("before\n"+long+"\nbehind\n")
	out, err := relay.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	stored := o.stored()
	if len(stored) != 3 || string(stored[0]) != "before" || !bytes.Contains(stored[1], []byte("oversize")) ||
		string(stored[2]) != "behind" {
		t.Errorf("stored %.100q, want the lines before and behind, and between them the gap", stored)
	}
	aside, _ := filepath.Glob(filepath.Join(s.QueueDir(), "damaged", "line-*-2"))
	if len(aside) != 1 {
		t.Fatalf("aside are %q, want line 2", aside)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != long {
		t.Errorf("kept are %d bytes, %v; want %d", len(kept), err, len(long))
	}
	for _, want := range []string{"a line is dropped", "seq=2", "why=oversize", aside[0], "effect: ", "hint: "} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("nothing says %q:\n%.2000s", want, out)
		}
	}
}
