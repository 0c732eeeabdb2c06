package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const sid = "0123456789abcdef"

func openFile(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// kill leaves the files as a killed process does.
func kill(s *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

func linesBatch(seq uint64, lines ...string) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq}
	for _, l := range lines {
		b.Lines = append(b.Lines, []byte(l))
	}
	return b
}

// mustCommit commits and gives the sums of new and dup.
func mustCommit(t *testing.T, s receiver.Store, batches ...receiver.Batch) (added, dup int) {
	t.Helper()
	results, err := s.Commit(t.Context(), batches)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		added, dup = added+r.New, dup+r.Dup
	}
	return added, dup
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds\n%q, want\n%q", filepath.Base(path), got, want)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestStore_WritesEachLineOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	if added, dup := mustCommit(t, s, linesBatch(1, "one", "two"), linesBatch(3, "", "four")); added != 4 || dup != 0 {
		t.Errorf("got new %d, dup %d; want 4, 0", added, dup)
	}
	if added, dup := mustCommit(t, s, linesBatch(2, "two", "", "four", "five")); added != 1 || dup != 3 {
		t.Errorf("got new %d, dup %d; want 1, 3", added, dup)
	}
	wantFile(t, path, "one\ntwo\n\nfour\nfive\n")
}

// A number that was never committed is new, whatever was committed behind it: a
// line in another's name, or one of a sender that lost some.
func TestStore_ANumberThatWasNeverCommittedIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(2, "two"), linesBatch(60, "sixty"))
	for range 2 {
		if added, dup := mustCommit(t, s, linesBatch(1, "one", "two", "three")); added+dup != 3 {
			t.Errorf("got new %d, dup %d", added, dup)
		}
		wantFile(t, path, "two\nsixty\none\nthree\n")
		s.Close()
		s = openFile(t, path)
	}
	if added, dup := mustCommit(t, s, linesBatch(59, "fifty-nine", "sixty", "sixty-one")); added != 2 || dup != 1 {
		t.Errorf("got new %d, dup %d; want 2, 1", added, dup)
	}
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(58, "58", "59")}); err == nil {
		t.Error("another line under 59 is taken")
	}
	wantFile(t, path, "two\nsixty\none\nthree\nfifty-nine\nsixty-one\n")
}

func TestStore_KeepsStreamsApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	other := linesBatch(1, "another one")
	other.SID = handshake.NewSID()
	if added, _ := mustCommit(t, s, other); added != 1 {
		t.Errorf("got new %d, want 1", added)
	}
	wantFile(t, path, "one\nanother one\n")
}

func TestStore_RefusesAnotherLineUnderANumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one", "two"))
	_, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(1, "one"), linesBatch(2, "TWO", "three")})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 2 || diverged.SID != sid {
		t.Errorf("got error %v, want diverged at 2", err)
	}
	wantFile(t, path, "one\ntwo\n")
}

func TestStore_DoesNothingForASupersededSession(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, []receiver.Batch{linesBatch(1, "one")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wantFile(t, path, "")
}

func TestStore_WritesGapsBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	gap := receiver.Batch{
		SID: sid, Host: "web1", Seq: 2, At: time.UnixMilli(1_700_000_000_123).UTC(),
		Gap: &handshake.Gap{Seq: 2, N: 7, Why: handshake.GapExpired},
	}
	mustCommit(t, s, linesBatch(1, "one"), gap, linesBatch(9, "nine"))
	wantFile(t, path, "one\nnine\n")
	wantFile(t, path+".gaps", `{"id":"0123456789abcdef0000000000002g7","sid":"0123456789abcdef","host":"web1",`+
		`"seq":2,"n":7,"why":"expired","at":"2023-11-14T22:13:20.123Z"}`+"\n")
}

// A full disk or a crash may have left half of a gap's line.
func TestStore_StartsALineForEachGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	if err := os.WriteFile(path+".gaps", []byte(`{"id":"012`), 0o600); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, receiver.Batch{SID: sid, Seq: 2, Gap: &handshake.Gap{Seq: 2, N: 7, Why: handshake.GapExpired}})
	mustCommit(t, s, receiver.Batch{SID: sid, Seq: 9, Gap: &handshake.Gap{Seq: 9, N: 1, Why: handshake.GapExpired}})
	text, err := os.ReadFile(path + ".gaps")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || !json.Valid([]byte(lines[1])) || !json.Valid([]byte(lines[2])) {
		t.Errorf("got %q, want the rest, two gaps, and the end", lines)
	}
}

func TestStore_RefusesASecondWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	_, err := Open(path, Options{})
	if want := fmt.Sprintf("open: pid %d", os.Getpid()); !errors.Is(err, receiver.ErrInUse) ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openFile(t, path)
}

// TestStore_CommitsOfManySendersBecomeFinalTogether lets Commits gather. One
// brings another line under a number, one has been lost.
func TestStore_CommitsOfManySendersBecomeFinalTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	entries := bytes.Count(readFile(t, path+".cursor"), newline)

	type outcome struct {
		results []receiver.Result
		err     error
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	commitWhenAllWait := func(ctx context.Context, b receiver.Batch) <-chan outcome {
		queued := len(s.queue)
		done := make(chan outcome, 1)
		go func() {
			results, err := s.Commit(ctx, []receiver.Batch{b})
			done <- outcome{results, err}
		}()
		for now := queued; now == queued; runtime.Gosched() {
			s.queueMu.Lock()
			now = len(s.queue)
			s.queueMu.Unlock()
		}
		return done
	}
	of := func(sid string, b receiver.Batch) receiver.Batch { b.SID = sid; return b }
	s.mu.Lock()
	a := commitWhenAllWait(t.Context(), of("a", linesBatch(2, "a2", "a3")))
	other := commitWhenAllWait(t.Context(), linesBatch(1, "ONE", "two"))
	left := commitWhenAllWait(gone, of("c", linesBatch(4, "c4")))
	d := commitWhenAllWait(t.Context(), of("d", linesBatch(4, "d4")))
	s.mu.Unlock()

	for name, c := range map[string]<-chan outcome{"a": a, "d": d} {
		if got := <-c; got.err != nil || len(got.results) != 1 || got.results[0].New == 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	var diverged *receiver.DivergedError
	if got := <-other; !errors.As(got.err, &diverged) || diverged.Seq != 1 {
		t.Errorf("got %v, want diverged at 1", got.err)
	}
	if got := <-left; !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %v, want canceled", got.err)
	}
	wantFile(t, path, "one\na2\na3\nd4\n")
	if got := bytes.Count(readFile(t, path+".cursor"), newline) - entries; got != 1 {
		t.Errorf("%d entries in the journal, want one for all", got)
	}
	s.Close()
	s = openFile(t, path)
	if _, dup := mustCommit(t, s, of("d", linesBatch(4, "d4"))); dup != 1 {
		t.Error("d4 is not known any more")
	}
}

func TestStore_FailedCommitFailsForAllOfIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	s.journal.f.Close()
	group := []*request{
		{ctx: t.Context(), batches: []receiver.Batch{linesBatch(1, "one")}},
		{ctx: t.Context(), batches: []receiver.Batch{{SID: "other", Seq: 1, Lines: [][]byte{[]byte("1")}}}},
	}
	s.mu.Lock()
	s.commit(group)
	s.mu.Unlock()
	for i, r := range group {
		if r.err == nil || r.results != nil {
			t.Errorf("request %d: got %v, %v; want an error", i, r.results, r.err)
		}
	}
}

func TestStore_TakesAwayTheRestOfAFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.journal.f.Close() // the lines get to PATH, the entry does not get to PATH.cursor
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(2, "two", "three")}); err == nil {
		t.Fatal("no error")
	}
	wantFile(t, path, "one\n")
	if added, dup := mustCommit(t, s, linesBatch(2, "two")); added != 1 || dup != 0 {
		t.Errorf("got new %d, dup %d; want 1, 0", added, dup)
	}
	wantFile(t, path, "one\ntwo\n")
}

func TestStore_FailedCommitLeavesNothingInARotatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.journal.f.Close()
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(2, "two")}); err == nil {
		t.Fatal("no error")
	}
	rename(t, path, path+".1")
	mustCommit(t, s, linesBatch(2, "two"))
	wantFile(t, path+".1", "one\n")
	wantFile(t, path, "two\n")
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestStore_FollowsARotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	rename(t, path, path+".1")
	mustCommit(t, s, linesBatch(1, "one", "two"))
	wantFile(t, path+".1", "one\n")
	wantFile(t, path, "two\n")

	s.Close()
	rename(t, path, path+".2") // while nobody runs
	s = openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one", "two", "three"))
	wantFile(t, path, "three\n")
	s.Close()
	openFile(t, path)
	wantFile(t, path, "three\n")
}

func TestStore_ContinuesAtTheEndOfAFileThatBecameShorter(t *testing.T) {
	for _, restart := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "log")
		s := openFile(t, path)
		mustCommit(t, s, linesBatch(1, "one", "two"))
		if restart {
			s.Close()
		}
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
		if restart {
			s = openFile(t, path)
		}
		mustCommit(t, s, linesBatch(2, "two", "three"))
		wantFile(t, path, "one\nthree\n")
	}
}

func TestStore_KeepsWhatWasThereBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, []byte("another program's\nlines"))
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	wantFile(t, path, "another program's\nlines\none\n")
}

func TestStore_DamagedCursorCostsNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	for seq := range uint64(3) {
		mustCommit(t, s, linesBatch(seq+1, "line"))
	}
	kill(s)
	cursor := readFile(t, path+".cursor")
	cursor[slices.Index(cursor, '\n')+20] ^= 1 // the second entry
	writeFile(t, path+".cursor", cursor)
	s = openFile(t, path)
	wantFile(t, path, "line\nline\nline\n")
	if _, dup := mustCommit(t, s, linesBatch(2, "line", "line")); dup != 2 {
		t.Errorf("got dup %d, want the two that the damage spared", dup)
	}
}

func TestStore_JournalStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	b := receiver.Batch{SID: sid, Seq: 1}
	for range 50_000 {
		b.Lines = append(b.Lines, []byte("x"))
	}
	for range 40 {
		mustCommit(t, s, b)
		b.Seq = b.End()
	}
	if limit := int64(3*8*rememberLines + 8<<20); s.journal.size > limit {
		t.Errorf("the journal has %d bytes, limit %d", s.journal.size, limit)
	}
	s.Close()
	s = openFile(t, path)
	b.Seq -= rememberLines
	b.Lines = slices.Repeat(b.Lines[:1], rememberLines)
	if added, dup := mustCommit(t, s, b); added != 0 || dup != rememberLines {
		t.Errorf("got new %d, dup %d; want 0, %d", added, dup, rememberLines)
	}
}

func TestStore_OpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing", "log")} {
		if s, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
			if err == nil {
				s.Close()
			}
		}
	}
}

// TestStore_KnowsWhatComesAgainHoweverMuch sends again what a sender has under
// way at most, several times over: it lost its cursor of the last second.
func TestStore_KnowsWhatComesAgainHoweverMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	all := receiver.Batch{SID: sid, Seq: 1, Lines: slices.Repeat([][]byte{[]byte("x")}, 150_000)}
	mustCommit(t, s, all)
	for range 2 {
		if added, dup := mustCommit(t, s, all); added != 0 || dup != len(all.Lines) {
			t.Errorf("got new %d, dup %d; want 0, %d", added, dup, len(all.Lines))
		}
		s.Close()
		s = openFile(t, path)
	}
	if size := int64(len(readFile(t, path))); size != 2*150_000 {
		t.Errorf("the file has %d bytes", size)
	}
}

func TestStore_TellsASenderThatWasRestored(t *testing.T) {
	lines := slices.Repeat([]string{"x"}, rememberLines)
	end := uint64(3 + rememberLines)

	tests := map[string]struct {
		head     uint64
		batch    receiver.Batch
		diverged uint64 // 0: it is not
		dup      int
	}{
		"all given":             {end, linesBatch(1, "one", "two", "x"), 0, 3},
		"more given":            {end + 9, linesBatch(end-1, "x", "y"), 0, 1},
		"not given, other line": {end - 1, linesBatch(end-3, "x", "y"), end - 2, 0},
		"not given, same line":  {end - 1, linesBatch(end-3, "x", "x", "x"), end - 1, 0},
		"not given, known":      {end - 1, linesBatch(end-3, "x", "x"), 0, 2},
		"not given, forgotten":  {end - 1, linesBatch(1, "one", "two"), 1, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			s := openFile(t, path)
			mustCommit(t, s, linesBatch(1, "one", "two"), linesBatch(3, lines...))
			s.Close()
			s = openFile(t, path)
			s.Begin(&handshake.Hello{SID: sid, Head: test.head})
			results, err := s.Commit(t.Context(), []receiver.Batch{test.batch})
			var diverged *receiver.DivergedError
			switch errors.As(err, &diverged); {
			case test.diverged != 0:
				if diverged == nil || diverged.Seq != test.diverged {
					t.Errorf("got %v, want diverged at %d", err, test.diverged)
				}
			case err != nil || results[0].Dup != test.dup:
				t.Errorf("got %+v, %v; want dup %d", results, err, test.dup)
			}
			s.Begin(&handshake.Hello{SID: sid, Head: end + 100}) // the one that was not restored
			if _, dup := mustCommit(t, s, linesBatch(1, "one")); dup != 1 {
				t.Error("a sender that gave all of it is not believed")
			}
			s.Begin(&handshake.Hello{SID: handshake.NewSID(), Head: 1}) // a new stream
		})
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := entry{
		proof: proof{Inode: 7, Start: 3, End: 12, Sum: 9}, State: open,
		Runs:   []run{{SID: sid, Seq: 1, N: 3, Sums: sums{1, 2, 3, 4, 5, 6, 7, 8}}},
		Owners: map[string]string{sid: "web-1"},
	}
	f.Add(e.encode())
	f.Add([]byte("00000000 {}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body := data
		if len(data) > 9 {
			body = data[9:]
		}
		line := append([]byte(handshake.CRC(body)+" "), body...) // past the checksum
		e, ok := decodeEntry(line)
		if !ok {
			return
		}
		again, ok := decodeEntry(bytes.TrimSuffix(e.encode(), newline))
		if !ok || again.proof != e.proof || len(again.Runs) != len(e.Runs) || len(again.Owners) != len(e.Owners) {
			t.Errorf("%+v became %+v", e, again)
		}
	})
}

func TestStore_NothingIsDoneAfterClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	s.Close()
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(1, "one")}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	next := openFile(t, path)
	mustCommit(t, next, linesBatch(1, "one"))
	if err := s.Close(); err != nil { // must not write the journal of the other
		t.Error(err)
	}
	kill(next)
	if _, dup := mustCommit(t, openFile(t, path), linesBatch(1, "one")); dup != 1 {
		t.Error("the line is not known any more")
	}
}

// What another program adds to the file while wsreceive does not write it stays.
func TestStore_KeepsWhatWasAddedAfterAnOrderlyStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.Close()
	writeFile(t, path, []byte("one\n--- moved here ---\n"))
	mustCommit(t, openFile(t, path), linesBatch(1, "one", "two"))
	wantFile(t, path, "one\n--- moved here ---\ntwo\n")
}

// A file beside the log that is not the log is left alone, even after a crash
// and a log that is gone.
func TestStore_CutsNoFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	kill(s)
	rename(t, path, filepath.Join(t.TempDir(), "elsewhere"))
	others := map[string]string{
		path: "another\n", path + ".old": "owe\nand more\n",
		filepath.Join(filepath.Dir(path), "app"): "one\nand more\n",
	}
	for name, text := range others {
		writeFile(t, name, []byte(text))
	}
	s = openFile(t, path)
	for name, text := range others {
		wantFile(t, name, text)
	}
	if added, _ := mustCommit(t, s, linesBatch(1, "one")); added != 1 { // it cannot be known that it was there
		t.Errorf("got new %d, want 1", added)
	}
}

// A file of another that has got the inode of the empty log, as ext4 gives it, is
// left alone. So is an older log that begins with the same lines as the newest.
func TestStore_CutsNeitherAnInodeUsedAgainNorAnOlderLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	kill(openFile(t, path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(filepath.Dir(path), "notes")
	writeFile(t, notes, []byte("not a line\n"))
	s := openFile(t, path)
	wantFile(t, notes, "not a line\n")

	mustCommit(t, s, linesBatch(1, "started", "old"))
	rename(t, path, path+"-20261128")
	mustCommit(t, s, linesBatch(3, "started"))
	kill(s)
	rename(t, path, path+"-20261129")
	writeFile(t, path+"-20261129", []byte("started\nno receipt"))
	openFile(t, path)
	wantFile(t, path+"-20261128", "started\nold\n")
	wantFile(t, path+"-20261129", "started\n")
}

func TestStore_ALockThatIsDeletedIsTakenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, linesBatch(1, "one"))
	if _, err := Open(path, Options{}); !errors.Is(err, receiver.ErrInUse) {
		t.Errorf("a second writer: got %v", err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	other := openFile(t, path) // it is faster than our next commit
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(2, "two")}); !errors.Is(err, receiver.ErrInUse) {
		t.Errorf("got %v, want that the other has the file", err)
	}
	mustCommit(t, other, linesBatch(2, "two"))
	wantFile(t, path, "one\ntwo\n")
	s.mu.Lock()
	s.close() // as a process that ends
	s.mu.Unlock()
}

func TestStore_AStreamHasTheOwnerThatCameFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	set := func(from, to, want string) {
		t.Helper()
		if got, err := s.SetOwner(t.Context(), sid, from, to); err != nil || got != want {
			t.Errorf("from %q to %q: got %q, %v; want %q", from, to, got, err, want)
		}
	}
	set("", "web-a", "web-a")
	set("", "web-b", "web-a")
	kill(s)
	s = openFile(t, path)
	set("", "web-b", "web-a")
	mustCommit(t, s, linesBatch(1, "one"))
	set("web-a", "web-b", "web-b")
	s.Close()
	s = openFile(t, path)
	if got, err := s.Owner(t.Context(), sid); got != "web-b" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := s.Owner(t.Context(), handshake.NewSID()); got != "" || err != nil {
		t.Errorf("a new stream: got %q, %v", got, err)
	}
	for got, owner := range streamsOf(t, s) {
		if got != sid || owner != "web-b" {
			t.Errorf("got %s of %q", got, owner)
		}
	}
}

func streamsOf(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := s.EachOwner(t.Context(), func(sid, owner string) bool { all[sid] = owner; return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

// A store that is an older copy says which lines it lacks, once; a gap at the end of a
// stream is nothing that it lacks.
func TestStore_NamesWhatAnOlderCopyLacks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	gap := receiver.Batch{SID: sid, Host: "web1", Seq: 3, Gap: &handshake.Gap{Seq: 3, N: 4, Why: "dropped"}}
	var out bytes.Buffer
	s, err := Open(path, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, linesBatch(1, "one", "two"), gap)
	for range 2 {
		s.Begin(&handshake.Hello{SID: sid, Host: "web1", Acked: 7, Head: 9})
		if out.Len() > 0 {
			t.Errorf("of a store that lacks nothing: %s", &out)
		}
		kill(s)
		if s, err = Open(path, Options{Log: slog.New(slog.NewTextHandler(&out, nil))}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s.Begin(&handshake.Hello{SID: sid, Host: "web1", Acked: 12, Head: 12})
	}
	s.Begin(&handshake.Hello{SID: "ffffffffffffffff", Host: "web2", Acked: 12, Head: 12}) // it may come from another store
	s.Close()
	if n := strings.Count(out.String(), "lacks lines"); n != 1 || !strings.Contains(out.String(), "first=7 lines=5") {
		t.Errorf("said %d times:\n%s", n, &out)
	}
	if text := string(readFile(t, path+".gaps")); strings.Count(text, "\n") != 2 ||
		!strings.Contains(text, `"seq":7,"n":5,"why":"restored","maybe":true`) {
		t.Errorf("got gaps %s", text)
	}
}
