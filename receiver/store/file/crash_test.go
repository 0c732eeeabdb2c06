package file

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

// moves are what an administrator does to the files between a crash and the next
// start. Each gives the path that the store has then.
var moves = map[string]func(t *testing.T, path string) string{
	"nothing": func(_ *testing.T, path string) string { return path },
	"renamed": func(t *testing.T, path string) string { rename(t, path, path+".1"); return path },
	"renamed otherwise": func(t *testing.T, path string) string {
		rename(t, path, filepath.Join(filepath.Dir(path), "yesterday"))
		return path
	},
	"renamed, a new one made": func(t *testing.T, path string) string {
		rename(t, path, path+"-20261128")
		writeFile(t, path, nil)
		return path
	},
	"copied to a larger disk": func(t *testing.T, path string) string {
		to := filepath.Join(t.TempDir(), "larger")
		if out, err := exec.Command("cp", "-a", filepath.Dir(path), to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return filepath.Join(to, filepath.Base(path))
	},
	"copied and truncated": func(t *testing.T, path string) string {
		writeFile(t, path+".1", readFile(t, path))
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		return path
	},
}

// allLines are the lines of the log files of a store, sorted.
func allLines(t *testing.T, path string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Dir(path), func(name string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(name); err != nil || ext == ".cursor" || ext == ".lock" || ext == ".gaps" || ext == ".cut" ||
			name == filepath.Dir(path) {
			return err
		}
		all = append(all, strings.SplitAfter(string(readFile(t, name)), "\n")...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return strings.Join(all, "")
}

// TestStore_IsExactAfterACrashAtEveryByte stops a commit at every byte that it
// writes. Both files are synced at the same time, so either may lack its part.
// Then the files are moved, the store starts again, and the senders send again
// what they have no receipt for. The commit is of two senders, and one of them
// has sent some lines before, or none: PATH is empty then, as after a rotation.
func TestStore_IsExactAfterACrashAtEveryByte(t *testing.T) {
	t.Run("after lines", func(t *testing.T) { crashAtEveryByte(t, linesBatch(1, "one", "two")) })
	t.Run("in an empty file", func(t *testing.T) { crashAtEveryByte(t) })
}

func crashAtEveryByte(t *testing.T, before ...receiver.Batch) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	if before != nil {
		mustCommit(t, s, before...)
	}
	log0, cursor0 := readFile(t, path), readFile(t, path+".cursor")
	other := linesBatch(1, "", "other")
	other.SID = "ffffffffffffffff"
	group := []*request{
		{ctx: t.Context(), batches: []receiver.Batch{linesBatch(2, "two", "three"), linesBatch(4, "four")}},
		{ctx: t.Context(), batches: []receiver.Batch{other}},
	}
	if before == nil {
		group[0].batches = append([]receiver.Batch{linesBatch(1, "one")}, group[0].batches...)
	}
	s.mu.Lock()
	s.commit(group)
	s.mu.Unlock()
	log1, cursor1 := readFile(t, path), readFile(t, path+".cursor")
	kill(s)

	for name, move := range moves {
		if before == nil && name == "copied and truncated" {
			continue // nothing shows that the lines of the copy are ours
		}
		crash := func(log, cursor []byte) {
			t.Helper()
			crashed := filepath.Join(t.TempDir(), "log")
			for _, ext := range []string{"", ".cursor"} { // the inodes are the same
				if err := os.Link(path+ext, crashed+ext); err != nil {
					t.Fatal(err)
				}
			}
			writeFile(t, crashed, log)
			writeFile(t, crashed+".cursor", cursor)
			writeFile(t, crashed+".cursor.new", []byte("the rest of a replacement"))
			path := move(t, crashed)
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			again := append(slices.Clone(group[0].batches), linesBatch(5, "five"))
			if added, dup := mustCommit(t, s, again...); added == 0 || before != nil && dup == 0 {
				t.Errorf("got new %d, dup %d", added, dup)
			}
			if added, dup := mustCommit(t, s, other); added+dup != 2 || added == 1 {
				t.Errorf("the other's: got new %d, dup %d; want all or nothing", added, dup)
			}
			if got, want := allLines(t, path), "\nfive\nfour\none\nother\nthree\ntwo\n"; got != want {
				t.Errorf("%s, %d of %d bytes in the file, %d of %d in the cursor: got lines %q, want %q",
					name, len(log), len(log1), len(cursor), len(cursor1), got, want)
			}
		}
		step := 9
		switch {
		case testing.Short():
			step = 61
		case name == "nothing":
			step = 1
		}
		for n := len(log0); n <= len(log1); n += step {
			for _, cursor := range [][]byte{cursor0, cursor1[:(len(cursor0)+len(cursor1))/2], cursor1} {
				crash(log1[:n], cursor)
			}
		}
		for n := len(cursor0); n <= len(cursor1); n += step {
			crash(log1, cursor1[:n])
		}
	}
}

// A full disk makes commits fail, and the receiver is killed then. What the
// failed commits have written is nowhere afterwards.
func TestStore_AFullDiskLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "log")
	s := openFile(t, path)
	line := strings.Repeat("x", 999)
	seq := uint64(1)
	for ; ; seq++ {
		if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(seq, line)}); err != nil {
			break
		}
	}
	size := int64(1000 * (seq - 1))
	for range 3 {
		if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(seq, line, line, line)}); err == nil {
			t.Fatal("the disk is not full")
		}
		if info, err := os.Stat(path); err != nil || info.Size() != size {
			t.Errorf("%v, %v; want %d bytes", info.Size(), err, size)
		}
	}
	kill(s)
	rename(t, path, path+".1")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	s = openFile(t, path)
	if added, dup := mustCommit(t, s, linesBatch(seq-1, line, line, line)); added != 2 || dup != 1 {
		t.Errorf("got new %d, dup %d; want 2, 1", added, dup)
	}
	if got := int64(len(readFile(t, path+".1"))); got != size {
		t.Errorf("%d bytes in the renamed file, want %d", got, size)
	}
}

// A cursor file that was restored alone cuts off lines that have receipts: they are kept.
func TestStore_KeepsWhatAnOlderCursorCutsOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	older := readFile(t, path+".cursor")
	for n := range uint64(2) {
		mustCommit(t, s, linesBatch(2+2*n, "two", "three"))
		kill(s)
		rename(t, path+".cursor", path+".cursor.bad")
		writeFile(t, path+".cursor", older)
		s = openFile(t, path)
		if got, want := string(readFile(t, path)), "one\n"; got != want {
			t.Errorf("got %q in the file, want %q", got, want)
		}
		if got, want := string(readFile(t, path+".cut")), strings.Repeat("two\nthree\n", int(n)+1); got != want {
			t.Errorf("got %q beside the file, want %q", got, want)
		}
		older = readFile(t, path+".cursor")
	}
}
