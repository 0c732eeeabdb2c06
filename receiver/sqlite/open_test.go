package sqlite

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen_SaysWhatIsWrongWithTheFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	database := func(name, statement string) string {
		path := filepath.Join(dir, name)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Join(dir, "newer.db")
	if err := openTest(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	database("newer.db", "PRAGMA user_version = 7")
	for _, tc := range []struct{ name, path, want string }{
		{"text", write("text.log", strings.Repeat("not a database\n", 100)), "not a database"},
		{"short text", write("short.log", "x"), "not a database"},
		{"another program's", database("other.db", "CREATE TABLE t (x)"), "another program"},
		{"another program's, marked", database("marked.db", "PRAGMA application_id = 99"), "another program"},
		{"newer", newer, "schema version 7 is newer"},
		{"no directory", filepath.Join(dir, "missing", "store.db"), "no such file or directory"},
		{"a directory", dir, "not a regular file"},
		{"a file as directory", filepath.Join(newer, "store.db"), "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := os.ReadFile(tc.path)
			s, err := Open(tc.path, Options{})
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.path) {
				t.Errorf("Open: got %v, want …%s…", err, tc.want)
			}
			r, err := OpenReader(tc.path)
			if err == nil {
				r.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("OpenReader: got %v, want …%s…", err, tc.want)
			}
			if after, _ := os.ReadFile(tc.path); string(after) != string(before) {
				t.Errorf("the file was changed")
			}
		})
	}
}

func TestOpen_TakesUnusualPathsAndEmptyFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"plain", "a b?mode=memory#x%41&é.db", "file:x"} {
		s := openTest(t, path)
		mustCommit(t, s, batch(sidA, 1, "x"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: got mode %v, size %d; want 0600, not empty", path, info.Mode(), info.Size())
		}
	}
	if err := os.WriteFile("empty", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader("empty"); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("reader of an empty file: got %v", err)
	}
	mustCommit(t, openTest(t, "empty"), batch(sidA, 1, "x"))
}

func TestOpenReader_CreatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if _, err := OpenReader(path); !os.IsNotExist(err) && (err == nil || !strings.Contains(err.Error(), "no such file")) {
		t.Errorf("got %v, want: no such file", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is there: %v", err)
	}
}
