package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wsrelay/handshake"
)

// FuzzOpen gives recovery an arbitrary log file, and beside it cursor entries
// whose checksums are right. A store that opens takes a line and has it in its file.
func FuzzOpen(f *testing.F) {
	e := entry{proof: proof{End: 3}, State: open, Runs: []run{{SID: sid, Seq: 1, N: 1}}}
	f.Add([]byte("one\ntw"), e.encode()[9:], []byte(`{"state":"appended"}`))
	f.Add([]byte{}, []byte(`{"end":-1,"start":5}`), []byte(`{"runs":[{"sid":"0123456789abcdef","seq":1,"n":-5}]}`))
	f.Fuzz(func(t *testing.T, log, first, second []byte) {
		path := filepath.Join(t.TempDir(), "log")
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		side := s.journal.path
		kill(s)
		var entries []byte
		for _, body := range [][]byte{first, second} {
			entries = append(entries, slices.Concat([]byte(handshake.CRC(body)+" "), body, newline)...)
		}
		for name, text := range map[string][]byte{path: log, side: entries} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if s, err = Open(path, Options{}); err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		b := linesBatch(1, "new")
		b.SID = "another"
		if added, dup := mustCommit(t, s, b); added+dup != 1 {
			t.Errorf("%d are new, %d were there", added, dup)
		} else if added == 1 && !strings.HasSuffix(string(readFile(t, path)), "new\n") {
			t.Error("the line is not at the end of the file")
		}
	})
}
