package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSetAside_KeepsTheBytesAsFarAsTheBoundGoes(t *testing.T) {
	dir := t.TempDir()
	q, _, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sid := q.Stats().SID
	for range 2 { // the second time is that of a new session
		name, err := q.SetAside(sid, 7, []byte("\xff a line"))
		if err != nil || !strings.HasPrefix(name, damagedName) || !strings.HasSuffix(name, sid+"-7") {
			t.Fatalf("%q, %v", name, err)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(kept) != "\xff a line" {
			t.Errorf("kept %q, %v", kept, err)
		}
	}
	q.aside = keepAside - 1
	if name, err := q.SetAside(sid, 8, []byte("xx")); !errors.Is(err, errAsideFull) || name != "" {
		t.Errorf("%q, %v; want no more to be kept", name, err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q, found, err := Open(t.Context(), dir, Options{})
	if err != nil || len(found.SetAside) != 0 {
		t.Errorf("after a restart: %+v, %v", found, err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
