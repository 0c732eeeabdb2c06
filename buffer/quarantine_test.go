package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuarantine_IsDurable(t *testing.T) {
	for seed := range uint64(10) {
		inBubble(t, func() {
			fs := newStrictFS(seed)
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			name, err := q.Quarantine(q.Stats().SID, 7, []byte("a line"), "oversize")
			if err != nil {
				t.Fatal(err)
			}
			cut := fs.powerCut()
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = q.Close(ctx) // it is dead
			if got := cut.bytes(name); string(got) != "a line" {
				t.Errorf("kept %q", got)
			}
		})
	}
}

func TestQuarantine_KeepsTheBytesAsFarAsTheBoundGoes(t *testing.T) {
	dir := t.TempDir()
	q, _, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sid := q.Stats().SID
	for range 2 { // the second time is that of a new session
		name, err := q.Quarantine(sid, 7, []byte("\xff a line"), "oversize")
		if err != nil || !strings.HasPrefix(name, damagedName) || !strings.HasSuffix(name, sid+"-7") {
			t.Fatalf("%q, %v", name, err)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(kept) != "\xff a line" {
			t.Errorf("kept %q, %v", kept, err)
		}
	}
	q.quarantined = quarantineLimit - 1
	if name, err := q.Quarantine(sid, 8, []byte("xx"), "oversize"); !errors.Is(err, errQuarantineFull) || name != "" {
		t.Errorf("%q, %v; want no more to be kept", name, err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q, found, err := Open(t.Context(), dir, Options{})
	if err != nil || len(found.Quarantined) != 0 {
		t.Errorf("after a restart: %+v, %v", found, err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
