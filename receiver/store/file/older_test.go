package file

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/handshake"
)

// A copy that is older than a whole stream: nothing is said.
func TestStore_ACopyThatIsOlderThanAStreamSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.Close()
	log, cursor := readFile(t, path), readFile(t, path+".cursor")
	s = openFile(t, path)
	b := linesBatch(1, "a", "b", "c")
	b.SID = "ffffffffffffffff"
	mustCommit(t, s, b)
	s.Close()
	_ = os.WriteFile(path, log, 0o600)
	_ = os.WriteFile(path+".cursor", cursor, 0o600)
	var out bytes.Buffer
	s, err := Open(path, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Begin(&handshake.Hello{SID: b.SID, Host: "web2", Acked: 4, Head: 4, Proof: &handshake.Proof{UID: handshake.UID(b.SID, 3)}})
	s.Close()
	if !strings.Contains(out.String(), "lacks lines") {
		t.Errorf("nothing is said of 3 lines: %s", &out)
	}
}
