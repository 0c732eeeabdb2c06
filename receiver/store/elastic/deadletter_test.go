package elastic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsrelay/internal/fsutil"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// blocked makes an engine refuse every write to the index.
func (e *scripted) blocked(index string) {
	e.item = func(_ int, at place, _ string) string {
		if at.index == index {
			return refuse(403, "cluster_block_exception", "index ["+index+"] blocked by: [FORBIDDEN/8/index write (api)];")
		}
		return ""
	}
}

func TestCommit_AnIndexBlockedForTenMinutesHoldsNothingBack(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	now := time.Now()
	s.blocks.now = func() time.Time { return now }
	sid, lines := handshake.NewSID(), linesFrom(1, 10)
	mustCommit(t, s, batchOf(sid, 1, lines[:2]...))
	e.blocked(testIndex)
	try := func() (receiver.Result, error) {
		r, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 3, lines[2:]...)})
		if err != nil {
			return receiver.Result{}, err
		}
		return r[0], nil
	}
	holds := func(minutes int) {
		t.Helper()
		for i := range minutes {
			if _, err := try(); !asError(err).isIndexBlock() {
				t.Fatalf("error %v in minute %d, want the block", err, i)
			}
			now = now.Add(time.Minute)
		}
	}
	holds(9)
	now = now.Add(24 * time.Hour) // nobody asked: this is a block of its own
	holds(10)
	// An earlier try has stored one, and its answer was lost.
	e.docs[place{testIndex, handshake.UID(sid, 5)}] = fmt.Sprintf(`{"wsrelay":{"crc":%q}}`,
		handshake.CRC([]byte(lines[4])))
	s.streams.passed(sid, 3, 3, true)
	r, err := try()
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, r, 0, 1, 7)
	if len(e.docs) != 10 {
		t.Errorf("%d documents and dead letters for 10 lines", len(e.docs))
	}

	e.item = nil // lifted, and set again: the ten minutes begin anew
	checkCounts(t, mustCommit(t, s, batchOf(sid, 11, "a")), 1, 0, 0)
	e.blocked(testIndex)
	if _, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 12, "b")}); err == nil {
		t.Error("a new block made a dead letter at once")
	}
}

func TestCommit_AFullDiskHoldsLinesHoweverLong(t *testing.T) {
	for _, answer := range []string{
		refuse(429, "cluster_block_exception", "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];"),
		refuse(403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];"),
		refuse(403, "cluster_block_exception", "blocked by: [FORBIDDEN/6/cluster read-only (api)];"),
	} {
		e := newScripted(t)
		s := openAt(t, e.URL)
		now := time.Now()
		s.blocks.now = func() time.Time { now = now.Add(time.Hour); return now }
		e.item = func(_ int, at place, _ string) string {
			if at.index == testIndex {
				return answer
			}
			return ""
		}
		if _, err := s.Commit(t.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")}); err == nil ||
			len(e.docs) != 0 {
			t.Errorf("%s: error %v, %d documents", answer, err, len(e.docs))
		}
	}
}

// What is a dead letter stays one: the next try of the same Commit must not
// make a document of it when the fault is fixed in between, whichever line it
// was and whichever sender tries.
func TestCommit_LooksUpAgainAfterAnError(t *testing.T) {
	for _, refused := range []uint64{2, 3} {
		for _, again := range []string{
			"in the same session", "in another", "through another receiver",
			"in another, one by one",
		} {
			t.Run(fmt.Sprint("line ", refused, ", ", again), func(t *testing.T) {
				together := 2
				e := newScripted(t)
				s := openAt(t, e.URL)
				sid := handshake.NewSID()
				mustCommit(t, s, batchOf(sid, 1, "a"))
				e.item = func(n int, at place, _ string) string {
					switch {
					case at == place{testIndex, handshake.UID(sid, refused)}:
						return refuse(400, "mapper_parsing_exception", "failed to parse field [b]")
					case at == place{testDead, handshake.UID(sid, refused)}:
						return ""
					case n == 2:
						return refuse(503, "unavailable_shards_exception", "later")
					}
					return refuse(403, "security_exception", "no") // after the dead letter of the other
				}
				batches := []receiver.Batch{batchOf(sid, 2, "b"), batchOf(sid, 3, "c")}
				if _, err := s.Commit(t.Context(), batches); err == nil {
					t.Fatal("no error")
				}
				e.item = nil
				switch again {
				case "in another, one by one":
					together = 1
					fallthrough
				case "in another":
					s.Begin(&handshake.Hello{SID: sid, Head: 4})
				case "through another receiver":
					s = openAt(t, e.URL)
				}
				for group := range slices.Chunk(batches, together) {
					if _, err := s.Commit(t.Context(), group); err != nil {
						t.Fatal(err)
					}
				}
				if len(e.docs) != 3 {
					t.Errorf("%d documents and dead letters for 3 lines", len(e.docs))
				}
			})
		}
	}
}

// withDeadFile opens a store with the file until the test, or stop, ends it.
func withDeadFile(t *testing.T, url, path string) (s *Store, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), url, Options{DeadFile: path})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = time.Millisecond
	stop = func() { _ = s.Close() }
	t.Cleanup(stop)
	return s, stop
}

func TestDeadFile_TakesWhatTheDeadLetterIndexRefuses(t *testing.T) {
	for name, answer := range map[string]string{
		"mapping": refuse(400, "mapper_parsing_exception", "failed to parse"),
		"closed":  refuse(400, "index_closed_exception", "closed"),
	} {
		t.Run(name, func(t *testing.T) {
			e := newScripted(t)
			path := filepath.Join(t.TempDir(), "dead")
			s, stop := withDeadFile(t, e.URL, path)
			sid, lines := handshake.NewSID(), []string{"good", "caf\xe9 {", `{"a":1}`}
			e.item = func(_ int, at place, source string) string {
				switch {
				case strings.HasPrefix(at.index, "wsrelay-dead-"):
					return answer
				case at.id != handshake.UID(sid, 1) && source != "{}":
					return refuse(400, "mapper_parsing_exception", "failed to parse field [a]")
				}
				return ""
			}
			r := mustCommit(t, s, batchOf(sid, 1, lines...))
			checkCounts(t, r, 1, 0, 2)
			stop()
			e.item = nil // all is fixed: what is in the file stays there until it is replayed
			s, stop = withDeadFile(t, e.URL, path)
			again := mustCommit(t, s, batchOf(sid, 1, lines...))
			checkCounts(t, again, 0, 1, 2)
			if fmt.Sprint(again.Rejected) != fmt.Sprint(r.Rejected) {
				t.Errorf("rejected is %v, was %v", again.Rejected, r.Rejected)
			}
			if _, err := s.ReplayFile(t.Context(), path); err == nil {
				t.Error("a file that is in use was replayed")
			}
			stop()
			back, err := openAt(t, e.URL).ReplayFile(t.Context(), path)
			if want := (Replayed{Stored: 2}); err != nil || fmt.Sprint(back) != fmt.Sprint(want) {
				t.Errorf("got %+v, %v, want %+v", back, err, want)
			}
			e.checkStored(t, sid, 1, lines)
			if text, err := os.ReadFile(path); err != nil || len(text) > 0 {
				t.Errorf("the file still has %q, %v", text, err)
			}
		})
	}
}

// A replay puts another file in the place of the one that it has locked. Who
// opens it meanwhile must not get the lock of the file that is gone.
func TestDeadFile_IsTheOneThatHasItsName(t *testing.T) {
	hands, rounds := 4, 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "dead")
	addOne := func() error {
		d, err := openDeadFile(path)
		for errors.Is(err, syscall.EWOULDBLOCK) {
			d, err = openDeadFile(path)
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		return errors.Join(err, fsutil.ReplaceFile(path, append(text, "{}\n"...)), d.close())
	}
	var wg sync.WaitGroup
	for range hands {
		wg.Go(func() {
			for range rounds {
				if err := addOne(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if text, err := os.ReadFile(path); err != nil || len(text) != hands*rounds*len("{}\n") {
		t.Errorf("%d letters, %v, want %d", bytes.Count(text, []byte{'\n'}), err, hands*rounds)
	}
}

func TestDeadFile_TakesNothingThatWaitingFixes(t *testing.T) {
	for _, answer := range []string{
		refuse(403, "security_exception", "no"),
		refuse(503, "unavailable_shards_exception", "no"),
	} {
		e := newScripted(t)
		path := filepath.Join(t.TempDir(), "dead")
		s, _ := withDeadFile(t, e.URL, path)
		e.item = func(_ int, at place, _ string) string {
			if strings.HasPrefix(at.index, "wsrelay-dead-") {
				return answer
			}
			return refuse(400, "mapper_parsing_exception", "failed to parse")
		}
		if _, err := s.Commit(t.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")}); err == nil {
			t.Error("no error")
		}
		if text, err := os.ReadFile(path); err != nil || len(text) > 0 {
			t.Errorf("the file has %q, %v", text, err)
		}
	}
}

func TestDeadFile_IsBoundedAndLosesOnlyWhatWasNotAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead")
	d, err := openDeadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ops := newOps("logs", []receiver.Batch{batchOf(handshake.NewSID(), 1, linesFrom(1, 100)...)})
	for _, o := range ops {
		o.bury(&Error{Status: 400, Type: "x"})
	}
	d.limit = 3000
	n := 0
	for d.append(ops[n:n+1]) == nil {
		n++
	}
	info, err := os.Stat(path)
	if err != nil || n == 0 || info.Size() > d.limit || info.Size() < d.limit*8/10 {
		t.Fatalf("%d letters in %v, %v", n, info, err)
	}
	if err := errors.Join(os.Truncate(path, info.Size()-7), d.close()); err != nil { // a crash in the last append
		t.Fatal(err)
	}
	if d, err = openDeadFile(path); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for i, o := range ops[:n] {
		if got := d.find(o.id); got.found != (i < n-1) || got.found && got.crc != o.crc {
			t.Errorf("letter %d of %d: %+v", i+1, n, got)
		}
	}
	if err := d.append(ops[n-1 : n]); err != nil || !d.find(ops[n-1].id).found {
		t.Errorf("append after the crash: %v", err)
	}
}

// Letters that are long come a few at a time.
func TestReplay_BringsLongLinesBack(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(_ int, at place, source string) string {
		if at.index == testIndex && source != "{}" {
			return refuse(400, "illegal_argument_exception", "Document contains at least one immense term in field=\"a\"")
		}
		return ""
	}
	lines := linesFrom(1, 20)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"a":"%d%s"}`, i, strings.Repeat("x", 1000))
	}
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, lines...))
	e.item, s.client.maxAnswer = nil, 10_000
	if r, err := s.Replay(t.Context()); err != nil || r.Stored != len(lines) {
		t.Errorf("got %+v, %v, want %d brought back", r, err, len(lines))
	}
	e.checkStored(t, sid, 1, lines)
}

// A search that misses a shard is no replay of all there is.
func TestReplay_FailsWhereItCannotSeeAll(t *testing.T) {
	e := newScripted(t)
	e.halfDown = true
	if _, err := openAt(t, e.URL).Replay(t.Context()); asError(err).Status != http.StatusServiceUnavailable {
		t.Errorf("error %v, want that shards are missing", err)
	}
}

func TestReplay_BringsEachBackOnce(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	gap := receiver.Batch{
		SID: sid, Host: "web1", Seq: 600, At: testDay,
		Gap: &handshake.Gap{Seq: 600, N: 7, Why: handshake.GapExpired, From: 1000, To: 2000},
	}
	e.item = func(_ int, at place, source string) string {
		if at.index == testIndex && source != "{}" {
			return refuse(400, "mapper_parsing_exception", "failed to parse field [a]")
		}
		return ""
	}
	lines := linesFrom(1, 599) // more than one page
	lines[3] = "caf\xe9"
	if _, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, lines...), gap}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Replay(t.Context()); err != nil || r.Stored+r.There != 0 ||
		r.Left["mapper_parsing_exception"] != 600 {
		t.Fatalf("nothing is fixed: %+v, %v", r, err)
	}
	e.item = func(_ int, at place, _ string) string {
		if at.index == testIndex && at.id == handshake.UID(sid, 9) {
			return refuse(400, "mapper_parsing_exception", "failed to parse field [b]")
		}
		return ""
	}
	dead := e.docs[place{testDead, handshake.UID(sid, 7)}]
	e.docs[place{testDead, handshake.UID(sid, 7)}] = strings.Replace(dead, "line 7", "line 8", 1) // it was changed
	ctx, cancel := context.WithCancel(t.Context())
	e.after = func(w http.ResponseWriter, _ int, _ string) bool {
		cancel() // a replay that is ended before it has deleted the letters
		return hangUp(w)
	}
	if _, err := s.Replay(ctx); err == nil {
		t.Fatal("no error")
	}
	e.after = nil
	r, err := s.Replay(t.Context())
	if err != nil || r.Stored+r.There != 598 || r.There != replayPage-2 ||
		fmt.Sprint(r.Left) != "map[mapper_parsing_exception:1 unreadable:1]" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if len(e.docs) != 600 {
		t.Errorf("%d documents and dead letters for 599 lines and a gap", len(e.docs))
	}
	got := e.docs[place{testIndex, handshake.GapID(sid, 600, 7)}]
	_, want, _ := strings.Cut(strings.TrimSpace(string(written("logs", gap)[0].body)), "\n")
	if got != want {
		t.Errorf("the gap became %s, want %s", got, want)
	}
}
