package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
)

func openFile(t *testing.T, path string) *File {
	t.Helper()
	s, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func linesBatch(seq uint64, lines ...string) Batch {
	b := Batch{SID: sid, Host: "web1", Seq: seq}
	for _, l := range lines {
		b.Lines = append(b.Lines, []byte(l))
	}
	return b
}

// received is b as a session has it: its lines lie in one piece of memory, which
// may go on behind them.
func received(b Batch) Batch {
	text := append(bytes.Join(b.Lines, newline), "\nand more\n"...)
	body := body{text: text}
	body.split(len(b.Lines) + 1)
	b.Lines, b.text = body.lines[:len(b.Lines)], text
	return b
}

// mustCommit commits and gives the sums of new and dup.
func mustCommit(t *testing.T, s Store, batches ...Batch) (added, dup int) {
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

func TestFile_WritesEachLineOnce(t *testing.T) {
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

func TestFile_WritesOfReceivedTextWhatIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, received(linesBatch(2, "two")), received(linesBatch(4, "", "five")))
	if added, dup := mustCommit(t, s, received(linesBatch(2, "two", "a gap's", "", "five", "", "seven"))); added != 2 || dup != 4 {
		t.Errorf("got new %d, dup %d; want 2, 4", added, dup)
	}
	wantFile(t, path, "two\n\nfive\n\nseven\n")
}

func TestFile_KeepsStreamsApart(t *testing.T) {
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

func TestFile_RefusesAnotherLineUnderANumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one", "two"))
	_, err := s.Commit(t.Context(), []Batch{linesBatch(1, "one"), linesBatch(2, "TWO", "three")})
	var diverged *DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 2 || diverged.SID != sid {
		t.Errorf("got error %v, want diverged at 2", err)
	}
	wantFile(t, path, "one\ntwo\n")
}

func TestFile_DoesNothingForASupersededSession(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, []Batch{linesBatch(1, "one")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wantFile(t, path, "")
}

func TestFile_WritesGapsBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	gap := Batch{
		SID: sid, Host: "web1", Seq: 2, At: time.UnixMilli(1_700_000_000_123).UTC(),
		Gap: &handshake.Gap{Seq: 2, N: 7, Why: handshake.GapExpired},
	}
	mustCommit(t, s, linesBatch(1, "one"), gap, linesBatch(9, "nine"))
	wantFile(t, path, "one\nnine\n")
	wantFile(t, path+".gaps", `{"id":"0123456789abcdef0000000000002g7","sid":"0123456789abcdef","host":"web1",`+
		`"seq":2,"n":7,"why":"expired","at":"2023-11-14T22:13:20.123Z"}`+"\n")
}

// A full disk or a crash may have left half of a gap's line.
func TestFile_BeginsALineForEachGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	if err := os.WriteFile(path+".gaps", []byte(`{"id":"012`), 0o600); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, Batch{SID: sid, Seq: 2, Gap: &handshake.Gap{Seq: 2, N: 7, Why: handshake.GapExpired}})
	mustCommit(t, s, Batch{SID: sid, Seq: 9, Gap: &handshake.Gap{Seq: 9, N: 1, Why: handshake.GapExpired}})
	text, err := os.ReadFile(path + ".gaps")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || !json.Valid([]byte(lines[1])) || !json.Valid([]byte(lines[2])) {
		t.Errorf("got %q, want the rest, two gaps, and the end", lines)
	}
}

func TestFile_RefusesASecondWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	_, err := OpenFile(path, FileOptions{})
	if want := fmt.Sprintf("locked by pid %d", os.Getpid()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openFile(t, path)
}

// TestFile_CommitsOfManySendersBecomeFinalTogether lets Commits gather. One
// brings another line under a number, one has been given up.
func TestFile_CommitsOfManySendersBecomeFinalTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	entries := bytes.Count(readFile(t, path+".cursor"), newline)

	type outcome struct {
		results []Result
		err     error
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	commitWhenAllWait := func(ctx context.Context, b Batch) <-chan outcome {
		queued := len(s.queue)
		done := make(chan outcome, 1)
		go func() {
			results, err := s.Commit(ctx, []Batch{b})
			done <- outcome{results, err}
		}()
		for now := queued; now == queued; runtime.Gosched() {
			s.queueMu.Lock()
			now = len(s.queue)
			s.queueMu.Unlock()
		}
		return done
	}
	of := func(sid string, b Batch) Batch { b.SID = sid; return b }
	s.mu.Lock()
	a := commitWhenAllWait(t.Context(), of("a", linesBatch(2, "a2", "a3")))
	other := commitWhenAllWait(t.Context(), linesBatch(1, "ONE", "two"))
	left := commitWhenAllWait(gone, of("c", linesBatch(4, "c4")))
	d := commitWhenAllWait(t.Context(), of("d", received(linesBatch(4, "d4"))))
	s.mu.Unlock()

	for name, c := range map[string]<-chan outcome{"a": a, "d": d} {
		if got := <-c; got.err != nil || len(got.results) != 1 || got.results[0].New == 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	var diverged *DivergedError
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

func TestFile_FailedCommitFailsForAllOfIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	s.journal.f.Close()
	group := []*request{
		{ctx: t.Context(), batches: []Batch{linesBatch(1, "one")}},
		{ctx: t.Context(), batches: []Batch{{SID: "other", Seq: 1, Lines: [][]byte{[]byte("1")}}}},
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

// TestFile_IsExactAfterACrashAtEveryByte stops a commit at every byte that it
// writes, in the order in which it writes them, starts again and sends again
// what it brought, as senders do that got no receipt. The commit is of two
// senders, and one of them has sent some lines before.
func TestFile_IsExactAfterACrashAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one", "two"))
	log0, cursor0 := readFile(t, path), readFile(t, path+".cursor")
	other := received(linesBatch(1, "", "other"))
	other.SID = "ffffffffffffffff"
	group := []*request{
		{ctx: t.Context(), batches: []Batch{received(linesBatch(2, "two", "three")), received(linesBatch(4, "four"))}},
		{ctx: t.Context(), batches: []Batch{other}},
	}
	s.mu.Lock()
	s.commit(group)
	s.mu.Unlock()
	log1, cursor1 := readFile(t, path), readFile(t, path+".cursor")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	crash := func(log, cursor []byte) {
		t.Helper()
		writeFile(t, path, log) // keeps the inode
		writeFile(t, path+".cursor", cursor)
		writeFile(t, path+".cursor.new", []byte("the rest of a replacement"))
		s, err := OpenFile(path, FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		added, dup := mustCommit(t, s, linesBatch(2, "two", "three", "four"), linesBatch(5, "five"))
		if added+dup != 4 || dup < 1 {
			t.Errorf("got new %d, dup %d", added, dup)
		}
		if added, dup := mustCommit(t, s, other); added+dup != 2 || added == 1 {
			t.Errorf("the other's: got new %d, dup %d; want all or nothing", added, dup)
		}
		if added == 1 {
			wantFile(t, path, "one\ntwo\nthree\nfour\n\nother\nfive\n")
		} else {
			wantFile(t, path, "one\ntwo\nthree\nfour\nfive\n\nother\n")
		}
	}
	for n := len(log0); n <= len(log1); n++ {
		crash(log1[:n], cursor0)
	}
	for n := len(cursor0); n <= len(cursor1); n++ {
		crash(log1, cursor1[:n])
	}
}

func TestFile_TakesAwayTheRestOfAFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.journal.f.Close() // the lines get to PATH, the entry does not get to PATH.cursor
	if _, err := s.Commit(t.Context(), []Batch{linesBatch(2, "two", "three")}); err == nil {
		t.Fatal("no error")
	}
	wantFile(t, path, "one\ntwo\nthree\n")
	if added, dup := mustCommit(t, s, linesBatch(2, "two")); added != 1 || dup != 0 {
		t.Errorf("got new %d, dup %d; want 1, 0", added, dup)
	}
	wantFile(t, path, "one\ntwo\n")
}

func TestFile_FailedCommitLeavesNothingInARotatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	s.journal.f.Close()
	if _, err := s.Commit(t.Context(), []Batch{linesBatch(2, "two")}); err == nil {
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

func TestFile_FollowsARotation(t *testing.T) {
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

func TestFile_GoesOnAtTheEndOfAFileThatBecameShorter(t *testing.T) {
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

func TestFile_KeepsWhatWasThereBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, []byte("somebody else's\nlines"))
	s := openFile(t, path)
	mustCommit(t, s, linesBatch(1, "one"))
	wantFile(t, path, "somebody else's\nlines\none\n")
}

func TestFile_DamagedCursorCostsNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	for seq := range uint64(3) {
		mustCommit(t, s, linesBatch(seq+1, "line"))
	}
	s.Close()
	cursor := readFile(t, path+".cursor")
	cursor[slices.Index(cursor, '\n')+20] ^= 1 // the second entry
	writeFile(t, path+".cursor", cursor)
	s = openFile(t, path)
	wantFile(t, path, "line\nline\nline\n")
	if _, dup := mustCommit(t, s, linesBatch(2, "line", "line")); dup != 2 {
		t.Errorf("got dup %d, want the two that the damage spared", dup)
	}
}

func TestFile_JournalStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	b := Batch{SID: sid, Seq: 1}
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

func TestFile_OpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing", "log")} {
		if s, err := OpenFile(path, FileOptions{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
			if err == nil {
				s.Close()
			}
		}
	}
}

// TestFile_KnowsWhatComesAgainHoweverMuch sends again what a sender has under
// way at most, several times over: it lost its cursor of the last second.
func TestFile_KnowsWhatComesAgainHoweverMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	all := Batch{SID: sid, Seq: 1, Lines: slices.Repeat([][]byte{[]byte("x")}, 150_000)}
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

func TestFile_TellsASenderThatWasRestored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	lines := slices.Repeat([]string{"x"}, rememberLines)
	mustCommit(t, s, linesBatch(1, "one", "two"), linesBatch(3, lines...))
	end := uint64(3 + rememberLines)

	tests := map[string]struct {
		head     uint64
		batch    Batch
		diverged uint64 // 0: it is not
		dup      int
	}{
		"all given":             {end, linesBatch(1, "one", "two", "x"), 0, 3},
		"more given":            {end + 9, linesBatch(end-1, "x", "y"), 0, 1},
		"not given, other line": {end - 1, linesBatch(end-3, "x", "y"), end - 2, 0},
		"not given, same line":  {end - 1, linesBatch(end-3, "x", "x", "x"), end - 1, 0},
		"not given, known":      {end - 1, linesBatch(end-3, "x", "x"), 0, 2},
		"not given, forgotten":  {end - 1, linesBatch(1, "one", "two"), 1, 0},
		"not given, all behind": {end - 1, linesBatch(end+5, "z"), end + 5, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s.Close()
			s = openFile(t, path)
			s.Begin(sid, test.head)
			results, err := s.Commit(t.Context(), []Batch{test.batch})
			var diverged *DivergedError
			switch errors.As(err, &diverged); {
			case test.diverged != 0:
				if diverged == nil || diverged.Seq != test.diverged {
					t.Errorf("got %v, want diverged at %d", err, test.diverged)
				}
			case err != nil || results[0].Dup != test.dup:
				t.Errorf("got %+v, %v; want dup %d", results, err, test.dup)
			}
			s.Begin(sid, end+100) // the one that was not restored
			if _, dup := mustCommit(t, s, linesBatch(1, "one")); dup != 1 {
				t.Error("a sender that gave all of it is not believed")
			}
		})
	}
	s.Begin(handshake.NewSID(), 1) // a new stream
}

// TestFile_ReadsTheCursorOfAnOlderVersion has lines under lower numbers behind
// higher ones, and more of them than are kept now.
func TestFile_ReadsTheCursorOfAnOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := openFile(t, path)
	s.Close()
	old := entry{Inode: s.inode, Runs: []run{
		{SID: sid, Seq: 500_000, CRCs: make(crcs, 1<<17)},
		{SID: sid, Seq: 7, CRCs: make(crcs, 9)},
	}}
	writeFile(t, path+".cursor", old.append(nil))
	s = openFile(t, path)
	next := uint64(500_000 + 1<<17)
	if added, dup := mustCommit(t, s, linesBatch(16, "sixteen"), linesBatch(next, "new")); added != 1 || dup != 1 {
		t.Errorf("got new %d, dup %d; want 1, 1", added, dup)
	}
	if _, err := s.Commit(t.Context(), []Batch{linesBatch(next-1, "another line")}); err == nil {
		t.Error("the newest checksums are forgotten")
	}
	if got := s.streams[sid].lines; got != rememberLines {
		t.Errorf("%d lines are remembered, want %d", got, rememberLines)
	}
}

func TestMemory_ForgetsTheOldestFirst(t *testing.T) {
	var m memory
	line := []byte("a line")
	sum := crc32.Checksum(line, castagnoli)
	m.add(run{Seq: 1, CRCs: slices.Repeat(crcs{sum + 1}, rememberLines)})
	m.add(run{Seq: 1 + rememberLines, CRCs: crcs{sum}})
	for seq, want := range map[uint64][2]bool{1: {true, true}, 2: {true, false}, 1 + rememberLines: {true, true}, 2 + rememberLines: {false, false}} {
		if known, same := m.recall(seq, line); known != want[0] || same != want[1] {
			t.Errorf("%d: got known %t, same %t; want %t", seq, known, same, want)
		}
	}
	for i := range uint64(2 * rememberRuns) {
		m.add(run{Seq: 10_000_000 + 2*i, CRCs: crcs{sum}})
	}
	if len(m.runs) > rememberRuns || m.lines != rememberRuns {
		t.Errorf("%d runs, %d lines", len(m.runs), m.lines)
	}
	last := uint64(10_000_000 + 2*(2*rememberRuns-1))
	for _, seq := range []uint64{last, last - 1, last - 2, 1} { // a line, a gap, a line, forgotten
		if known, same := m.recall(seq, line); !known || !same {
			t.Errorf("%d: got known %t, same %t", seq, known, same)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := entry{Inode: 7, End: 12, Runs: []run{{SID: sid, Seq: 1, CRCs: crcs{1, 0xffffffff}}}}
	f.Add(e.append(nil))
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
		again, ok := decodeEntry(bytes.TrimSuffix(e.append(nil), newline))
		if !ok || again.End != e.End || again.Inode != e.Inode || len(again.Runs) != len(e.Runs) {
			t.Errorf("%+v became %+v", e, again)
		}
	})
}

func TestStdout_WritesLinesAgain(t *testing.T) {
	var b strings.Builder
	s := NewStdout(&b)
	mustCommit(t, s, linesBatch(1, "one", "two"))
	mustCommit(t, s, linesBatch(2, "two"))
	if b.String() != "one\ntwo\ntwo\n" {
		t.Errorf("got %q", b.String())
	}
}

// flaky fails its first write.
type flaky struct {
	strings.Builder
	failed bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if !f.failed {
		f.failed = true
		return 0, errors.New("full")
	}
	return f.Builder.Write(p)
}

func TestStdout_GoesOnAfterAnError(t *testing.T) {
	var w flaky
	s := NewStdout(&w)
	if _, err := s.Commit(t.Context(), []Batch{linesBatch(1, "one")}); err == nil {
		t.Error("no error")
	}
	mustCommit(t, s, linesBatch(1, "one"))
	if w.String() != "one\n" {
		t.Errorf("got %q", w.String())
	}
}
