package victorialogs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOpen_SaysThatTheSkeletonsCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "skeletons"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, "http://127.0.0.1:9", Options{}); err == nil {
		_ = s.Close()
		t.Error("a directory was opened as the table of skeletons")
	}
}
