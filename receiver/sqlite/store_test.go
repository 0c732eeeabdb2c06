package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	sidA = "aaaaaaaaaaaaaaaa"
	sidB = "bbbbbbbbbbbbbbbb"
	sidC = "cccccccccccccccc"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func newStore(t testing.TB) *Store {
	t.Helper()
	return openTest(t, filepath.Join(t.TempDir(), "store.db"))
}

func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newWriter is the writer without a goroutine that runs it.
func newWriter(t testing.TB) *writer {
	t.Helper()
	w, err := openWriter(filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() })
	return w
}

func commit(w *writer, batches ...receiver.Batch) ([]receiver.Result, error) {
	r := &request{batches: batches, done: make(chan struct{})}
	w.commit([]*request{r})
	<-r.done
	return r.results, r.err
}

// batch is lines of a stream, a second younger with each seq.
func batch(sid string, seq uint64, lines ...string) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: noon.Add(time.Duration(seq) * time.Second)}
	for _, line := range lines {
		b.Lines = append(b.Lines, []byte(line))
	}
	return b
}

func gap(sid string, seq, n uint64) receiver.Batch {
	return receiver.Batch{
		SID: sid, Host: "web1", Seq: seq, At: noon,
		Gap: &handshake.Gap{Seq: seq, N: n, Why: handshake.GapOverflow, At: noon.UnixMilli()},
	}
}

func mustCommit(t testing.TB, s *Store, batches ...receiver.Batch) []receiver.Result {
	t.Helper()
	res, err := s.Commit(t.Context(), batches)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// contents is every document as "uid line", ordered by UID.
func contents(t testing.TB, r *Reader) []string {
	t.Helper()
	hits := search(t, r, "", 1_000_000)
	var all []string
	for _, h := range hits {
		all = append(all, h.UID+" "+h.Line)
	}
	slices.Sort(all)
	return all
}

func stats(t testing.TB, r *Reader) Stats {
	t.Helper()
	st, err := r.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Two handles are two receivers of one store; each run has streams of its own.
func TestCommit_StoresEachLineOnceHoweverItIsResent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	stores := []*Store{openTest(t, path), openTest(t, path)}
	rapid.Check(t, func(rt *rapid.T) {
		sids := []string{handshake.NewSID(), handshake.NewSID()}
		stored := map[string][]string{} // by sid
		cursors := map[string]uint64{}
		for range rapid.IntRange(1, 8).Draw(rt, "commits") {
			sid := rapid.SampledFrom(sids).Draw(rt, "sid")
			var batches []receiver.Batch
			var want []receiver.Result
			for range rapid.IntRange(1, 3).Draw(rt, "batches") {
				b := batch(sid, rapid.Uint64Range(1, 70).Draw(rt, "seq"))
				var res receiver.Result
				for i := range rapid.Uint64Range(1, 70).Draw(rt, "n") {
					line := fmt.Sprintf("%03d of %s", b.Seq+i, sid)
					b.Lines = append(b.Lines, []byte(line))
					if slices.Contains(stored[sid], line) {
						res.Dup++
					} else {
						res.New++
						stored[sid] = append(stored[sid], line)
					}
				}
				cursors[sid] = max(cursors[sid], b.End())
				batches, want = append(batches, b), append(want, res)
			}
			got, err := rapid.SampledFrom(stores).Draw(rt, "store").Commit(t.Context(), batches)
			if err != nil {
				rt.Fatal(err)
			}
			for i := range want {
				if got[i].New != want[i].New || got[i].Dup != want[i].Dup {
					rt.Fatalf("batch %d: got %+v, want %+v", i, got[i], want[i])
				}
			}
		}
		for sid, want := range stored {
			got, cursor := streamOf(t, stores[0].Reader, sid)
			if slices.Sort(want); !slices.Equal(got, want) || cursor != cursors[sid] {
				rt.Fatalf("stream %s: got cursor %d, %q; want %d, %q", sid, cursor, got, cursors[sid], want)
			}
		}
	})
}

// streamOf is the lines of one stream in the order of their ids, and its cursor.
func streamOf(t testing.TB, r *Reader, sid string) (lines []string, cursor uint64) {
	t.Helper()
	err := eachRow(func() (*sql.Rows, error) {
		return r.db.QueryContext(t.Context(),
			"SELECT line, cursor FROM documents, streams WHERE sid = ? AND id >> 40 = number ORDER BY id", sid)
	}, func(scan func(...any) error) error {
		lines = append(lines, "")
		return scan(&lines[len(lines)-1], &cursor)
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, cursor
}

func TestCommit_DivergedStoresNothing(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "a", "b", "c"))
	before := contents(t, s.Reader)

	_, err := s.Commit(t.Context(), []receiver.Batch{
		batch(sidA, 4, "d"), gap(sidA, 5, 3), batch(sidA, 1, "a", "B", "C", "e"),
	})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.SID != sidA || diverged.Seq != 2 {
		t.Fatalf("got %v, want *DivergedError of seq 2", err)
	}
	if got := contents(t, s.Reader); !slices.Equal(got, before) {
		t.Errorf("got %q, want %q", got, before)
	}
	st := stats(t, s.Reader)
	if st.Gaps != 0 || st.Documents != 3 || st.Streams[0].Cursor != 4 {
		t.Errorf("got %+v, want 3 documents, no gap, cursor 4", st)
	}
	if res := mustCommit(t, s, batch(sidA, 3, "c", "d")); res[0].New != 1 || res[0].Dup != 1 {
		t.Errorf("after it: got %+v, want 1 new, 1 dup", res[0])
	}
}

func TestCommit_DivergedHarmsNobodyElseInItsGroup(t *testing.T) {
	w := newWriter(t)
	if _, err := commit(w, batch(sidB, 1, "x")); err != nil {
		t.Fatal(err)
	}
	var group []*request
	for _, b := range []receiver.Batch{batch(sidA, 1, "a"), batch(sidB, 1, "y"), batch(sidC, 1, "c")} {
		group = append(group, &request{batches: []receiver.Batch{b}, done: make(chan struct{})})
	}
	w.commit(slices.Clone(group))
	for i, want := range []bool{false, true, false} {
		<-group[i].done
		if got := errors.As(group[i].err, new(*receiver.DivergedError)); got != want || (!want && group[i].results[0].New != 1) {
			t.Errorf("request %d: got %+v, %v; want diverged %t", i, group[i].results, group[i].err, want)
		}
	}
}

func TestCommit_KeepsCursorAndGapsOnResend(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "a", "b"), gap(sidA, 3, 10), batch(sidA, 13, "c"))
	res := mustCommit(t, s, batch(sidA, 1, "a"), gap(sidA, 3, 10))
	for i, r := range res {
		if r.New != 0 || r.Dup != 1 {
			t.Errorf("batch %d: got %+v, want 1 dup", i, r)
		}
	}
	got := stats(t, s.Reader).Streams
	want := []StreamStats{{
		SID: sidA, Host: "web1", Cursor: 14, Documents: 3, Gaps: 1, Missing: 10, Newest: noon.Add(13 * time.Second),
	}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCommit_GivesLinesBackByteForByte(t *testing.T) {
	s := newStore(t)
	lines := []string{
		"", " ", "plain", "größer", "\x00", "a\x00b", "\xff\xfe", "cr\r", "\n", "😀", "\xed\xa0\x80", "0", "1e3",
		strings.Repeat("x", 1<<20), string(make([]byte, 70_000)),
	}
	for b := range 256 {
		lines = append(lines, string([]byte{byte(b)}), string([]byte{'a', byte(b), 'z'}))
	}
	mustCommit(t, s, batch(sidA, 1, lines...))
	hits := search(t, s.Reader, "", len(lines)+1)
	if len(hits) != len(lines) {
		t.Fatalf("got %d lines, want %d", len(hits), len(lines))
	}
	for i, want := range lines {
		if got := hits[len(lines)-1-i].Line; got != want {
			t.Errorf("line %d: got %.40q, want %.40q", i, got, want)
		}
	}
	if res := mustCommit(t, s, batch(sidA, 1, lines...)); res[0].Dup != len(lines) {
		t.Errorf("sent again: got %+v, want all dup", res[0])
	}
}

func TestCommit_StoresTextWhereSQLCanReadIt(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "", "größer", "a\x00b", "\xff"))
	var got string
	err := s.db.QueryRow("SELECT group_concat(typeof(line), ' ' ORDER BY id) FROM documents").Scan(&got)
	if want := "text text blob blob"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestCommit_RefusesWhatItCannotNumber(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, maxSeq, "the last"))
	for _, b := range []receiver.Batch{
		batch(sidA, maxSeq, "the last", "one more"), batch(sidA, maxSeq+1, "x"), batch(sidA, 0, "x"),
		gap(sidA, maxSeq, 2), gap(sidA, 1, 1<<63), gap(sidA, 2, 1<<64-1),
	} {
		if _, err := s.Commit(t.Context(), []receiver.Batch{b}); err == nil || !strings.Contains(err.Error(), "outside") {
			t.Errorf("seq %d: got %v, want it refused", b.Seq, err)
		}
	}
	if got := contents(t, s.Reader); len(got) != 1 {
		t.Errorf("got %q, want the last alone", got)
	}
}

func TestCommit_NumbersStreamsUpToItsLimit(t *testing.T) {
	w := newWriter(t)
	err := w.transact(func() error {
		return w.exec("INSERT INTO sqlite_sequence (name, seq) VALUES ('streams', ?)", maxStream-1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commit(w, batch(sidA, maxSeq, "the very last")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := commit(w, batch(sidB, 1, "x")); !errors.Is(err, errTooManyStreams) {
			t.Errorf("got %v, want %v", err, errTooManyStreams)
		}
	}
}

func TestCommit_GathersWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{requests: make(chan *request), quit: make(chan struct{})}
		for range 5 {
			go s.Commit(t.Context(), []receiver.Batch{batch(sidA, 1, strings.Repeat("x", groupBytes/4))}) //nolint:errcheck // counted below
		}
		synctest.Wait()
		first := s.gather(<-s.requests)
		second := s.gather(<-s.requests)
		if len(first) != 4 || len(second) != 1 {
			t.Errorf("got groups of %d and %d, want 4 and 1", len(first), len(second))
		}
		for _, r := range append(first, second...) {
			r.finish(nil)
		}
	})
}

func TestCommit_GivesUpWhileItWaits(t *testing.T) {
	s := &Store{requests: make(chan *request), quit: make(chan struct{})} // nobody takes it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, []receiver.Batch{batch(sidA, 1, "x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestCommit_FailsAfterClose(t *testing.T) {
	s := newStore(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Commit(t.Context(), []receiver.Batch{batch(sidA, 1, "x")}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestCommit_OfManyStreamsAtOnce(t *testing.T) {
	s := newStore(t)
	const streams, commits, lines = 8, 20, 30
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			sid := strings.Repeat(strconv.Itoa(i), handshake.SIDLen)
			for c := range uint64(commits) {
				res, err := s.Commit(t.Context(), []receiver.Batch{accessBatch(sid, 1+c*lines, lines)})
				if err != nil || res[0].New != lines {
					t.Errorf("stream %s: got %+v, %v", sid, res, err)
				}
			}
		})
	}
	wg.Wait()
	st := stats(t, s.Reader)
	if st.Documents != streams*commits*lines || len(st.Streams) != streams {
		t.Errorf("got %d documents of %d streams", st.Documents, len(st.Streams))
	}
	for _, stream := range st.Streams {
		if stream.Cursor != commits*lines+1 {
			t.Errorf("stream %s: got cursor %d", stream.SID, stream.Cursor)
		}
	}
}

func TestCommit_RecoversFromFullDisk(t *testing.T) {
	w := newWriter(t)
	if _, err := commit(w, batch(sidA, 1, "before")); err != nil {
		t.Fatal(err)
	}
	if err := w.transact(func() error { return w.exec("PRAGMA max_page_count = 30") }); err != nil {
		t.Fatal(err)
	}
	large := accessBatch(sidA, 2, 3000)
	if _, err := commit(w, large); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("got %v, want: full", err)
	}
	// The limit went with the connection, as if somebody had made room.
	res, err := commit(w, large)
	if err != nil || res[0].New != 3000 {
		t.Errorf("got %+v, %v, want 3000 new", res, err)
	}
}

func TestCommit_RecoversFromLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var writers [2]*writer
	for i := range writers {
		w, err := openWriter(path)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		writers[i] = w
	}
	if err := writers[1].transact(func() error { return writers[1].exec("PRAGMA busy_timeout = 0") }); err != nil {
		t.Fatal(err)
	}
	err := writers[0].transact(func() error {
		if _, err := commit(writers[1], batch(sidB, 1, "x")); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("got %v, want: locked", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commit(writers[1], batch(sidB, 1, "x")); err != nil {
		t.Error(err)
	}
}

func TestChore_LogsWhenItStopsAndResumes(t *testing.T) {
	var log strings.Builder
	s := &Store{path: "x.db", log: slog.New(slog.NewTextHandler(&log, nil))}
	var failure error
	c := chore{step: func() (bool, error) { return false, failure }, told: s.told("retention", "the effect", "the hint")}
	for _, failure = range []error{nil, errors.New("disk full"), errors.New("disk full"), nil, nil} {
		c.do()
	}
	got := log.String()
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, "stopped") || !strings.Contains(got, "hint=") ||
		!strings.Contains(got, "resumed") {
		t.Errorf("got %s, want one stop and one resumption", got)
	}
}

func TestChore_HasItsPartOfTheTime(t *testing.T) {
	const took = 10 * time.Millisecond
	steps := 0
	c := chore{step: func() (bool, error) { steps++; return true, nil }, rest: 9, took: took}
	for _, commit := range []struct {
		busy, spare time.Duration
		want        int
	}{
		{busy: 9 * took, want: 0},
		{busy: took, want: 1},
		{spare: took, want: 1},
		{busy: took, spare: took, want: 2},
		{busy: took, want: 2},
	} {
		c.after(commit.busy, commit.spare)
		if steps != commit.want {
			t.Errorf("%d steps after %+v", steps, commit)
		}
		c.took = took // whatever it was
	}
}

func TestBackup_IsAStoreOfOneMoment(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, accessBatch(sidA, 1, 2000))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for seq := uint64(2001); ; seq += 10 {
			select {
			case <-stop:
				return
			default:
				if _, err := s.Commit(context.Background(), []receiver.Batch{accessBatch(sidA, seq, 10)}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	path := filepath.Join(t.TempDir(), "copy.db")
	err := s.Backup(t.Context(), path)
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	restored := openTest(t, path)
	var mode, vacuum string
	if err := restored.db.QueryRow("SELECT journal_mode, auto_vacuum FROM pragma_journal_mode, pragma_auto_vacuum").Scan(&mode, &vacuum); err != nil || mode != "wal" || vacuum != "2" {
		t.Errorf("journal mode %s, auto_vacuum %s, %v; want wal and 2, incremental", mode, vacuum, err)
	}
	st := stats(t, restored.Reader)
	if n := st.Documents; n < 2000 || n%10 != 0 || st.Streams[0].Cursor != uint64(n)+1 || len(search(t, restored.Reader, "firefox", 1_000_000)) != int(n) {
		t.Errorf("got %+v", st)
	}
	mustCommit(t, restored, accessBatch(sidA, st.Streams[0].Cursor, 10))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if err := s.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: got %v", err)
	}
}
