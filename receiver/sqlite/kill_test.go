package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// childEnv names the store that this binary, started again, writes to until it
// is killed.
const childEnv = "WSRELAY_TEST_SQLITE_CHILD"

// What the child commits at once: some lines and a gap.
const (
	batchLines = 20
	gapRecords = 3
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, child(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// child sends two streams without end, each from its cursor on, and prints what
// is receipted.
func child(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	st, err := s.Stats(context.Background())
	if err != nil {
		return err
	}
	cursors := map[string]uint64{sidA: 1, sidB: 1}
	for _, stream := range st.Streams {
		cursors[stream.SID] = max(1, stream.Cursor)
	}
	failed := make(chan error)
	var stdout sync.Mutex
	for sid, seq := range cursors {
		go func() {
			for {
				lines := accessBatch(sid, seq, batchLines)
				missing := gap(sid, lines.End(), gapRecords)
				if _, err := s.Commit(context.Background(), []receiver.Batch{lines, missing}); err != nil {
					failed <- err
				}
				seq = missing.End()
				stdout.Lock()
				fmt.Println(sid, seq)
				stdout.Unlock()
			}
		}()
	}
	return <-failed
}

func TestStore_SurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	receipts := map[string]uint64{}
	for range rounds {
		killChild(t, path, 1+rand.IntN(20), receipts)
		checkSurvivor(t, path, receipts)
		if t.Failed() {
			return
		}
	}
}

// killChild runs the child, kills it after some of its receipts and remembers
// those that it has given.
func killChild(t *testing.T, path string, after int, receipts map[string]uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		var sid string
		var seq uint64
		if _, err := fmt.Sscan(scanner.Text(), &sid, &seq); err == nil {
			receipts[sid] = max(receipts[sid], seq)
		}
		if n == after {
			_ = cmd.Process.Kill() // what it printed until then is still read
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v, %s", err, stderr.String())
	}
}

// checkSurvivor holds the store against what has been receipted: every line up
// to the cursor is there, once, unharmed and found.
func checkSurvivor(t *testing.T, path string, receipts map[string]uint64) {
	t.Helper()
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var verdict string
	if err := r.db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity check: %s, %v", verdict, err)
	}
	st := stats(t, r)
	var rows int64
	if err := r.db.QueryRow("SELECT count(*) FROM documents").Scan(&rows); err != nil || rows != st.Documents {
		t.Fatalf("got %d documents, %v, want %d", rows, err, st.Documents)
	}
	for _, stream := range st.Streams {
		if stream.Cursor < receipts[stream.SID] {
			t.Errorf("stream %s: cursor %d, but %d was receipted", stream.SID, stream.Cursor, receipts[stream.SID])
		}
		if got := uint64(stream.Documents + stream.Missing); got != stream.Cursor-1 {
			t.Errorf("stream %s: %d documents and gaps below cursor %d", stream.SID, got, stream.Cursor)
		}
	}
	hits := search(t, r, "firefox", int(st.Documents)+1)
	seen := map[string]bool{}
	for _, h := range hits {
		_, seq, err := handshake.ParseUID(h.UID)
		if err != nil {
			t.Fatal(err)
		}
		if want := string(accessLine(seq)); h.Line != want || (seq-1)%(batchLines+gapRecords) >= batchLines {
			t.Fatalf("seq %d: got %q, want %q", seq, h.Line, want)
		}
		seen[h.UID] = true
	}
	if len(seen) != int(st.Documents) || len(hits) != len(seen) {
		t.Errorf("got %d lines, %d distinct, want %d", len(hits), len(seen), st.Documents)
	}
}
