package file

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

// A commit fails on a full disk, so that what it left cannot be taken away yet; then PATH is
// copied and truncated, which frees the disk.
func TestStore_ATruncatedFileIsNotFilledWithZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one", "two"))
	_ = os.Mkdir(path+".cursor.new", 0o700) // as on a full disk: the cursor cannot be replaced,
	s.mu.Lock()
	good := s.journal.f
	s.journal.f, _ = os.Open(os.DevNull) // nor appended to
	s.mu.Unlock()
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(3, "three")}); err == nil {
		t.Fatal("no failure")
	}
	s.mu.Lock()
	s.journal.f = good
	s.mu.Unlock()
	_ = os.Truncate(path, 0) // logrotate copytruncate
	_ = os.Remove(path + ".cursor.new")
	mustCommit(t, s, linesBatch(3, "three"))
	if text := readFile(t, path); bytes.IndexByte(text, 0) >= 0 {
		t.Errorf("PATH is %q", text)
	}
}

// The directory cannot be synced after the cursor was replaced, in the repair after a rotation.
func TestStore_ACursorThatWasReplacedIsTheOneThatIsWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	dir, dir2 := t.TempDir(), filepath.Join(t.TempDir(), "two")
	_ = os.Mkdir(dir2, 0o700)
	for d := dir2; d != "/tmp"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	for d := dir; d != "/tmp"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o777)
	}
	path := filepath.Join(dir, "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	// For the test the cursor is in another directory, so that only its sync fails.
	_ = os.Rename(path+".cursor", filepath.Join(dir2, "log.cursor"))
	s.journal.path = filepath.Join(dir2, "log.cursor")
	_ = os.Rename(path, path+".1")
	_ = os.Chmod(dir2, 0o300)
	_ = os.Chown(dir2, 65534, 65534)
	_ = os.Chmod(path+".lock", 0o666)
	runtime.LockOSThread()
	_ = unix.Setfsuid(65534)
	_, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(2, "two")})
	_ = unix.Setfsuid(0)
	runtime.UnlockOSThread()
	_ = os.Chmod(dir2, 0o700)
	if err == nil {
		t.Fatal("no failure")
	}
	t.Log(err)
	mustCommit(t, s, linesBatch(2, "two")) // it has a receipt
	mustCommit(t, s, linesBatch(3, "three"))
	kill(s)
	_ = os.Rename(filepath.Join(dir2, "log.cursor"), path+".cursor")
	openFile(t, path)
	wantFile(t, path, "two\nthree\n")
}
