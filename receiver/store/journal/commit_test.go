package journal

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// with runs f with an open journal in a bubble.
func with(t *testing.T, set func(*Options), f func(w *world)) {
	t.Helper()
	root := scratch(t)
	defer os.RemoveAll(root)
	inBubble(t, func() {
		w := newWorld(t, root, 1)
		if set != nil {
			set(&w.o)
		}
		defer w.abandon()
		w.mustStart()
		f(w)
	})
}

func (w *world) wait() {
	w.Helper()
	if err := w.j.Wait(context.Background()); err != nil {
		w.Fatalf("wait: %v", err)
	}
	synctest.Wait() // for the segments to be removed
}

// other commits another line under a number and wants it refused.
func (w *world) other(sid string, seq uint64) {
	w.Helper()
	_, err := w.j.Commit(context.Background(), []receiver.Batch{{
		SID: sid, Seq: seq,
		Lines: [][]byte{[]byte("another line")},
	}})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != seq || diverged.SID != sid {
		w.Fatalf("another line under %d: %v", seq, err)
	}
}

func TestCommit_SyncsOnce(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 20; o.step = 1 << 20 }, func(w *world) {
		w.commit(w.batch("a", 1, 10, 50))
		calls := map[string]int{}
		w.setFault(func(_ int, call, _ string) error { calls[call]++; return nil }, nil)
		for i := range uint64(50) {
			w.commit(w.batch("a", 11+10*i, 10, 50))
		}
		w.setFault(nil, nil)
		if calls["sync"] != 50 || calls["syncDir"] != 0 || calls["write"] != 50 || calls["same"] != 50 {
			t.Errorf("50 commits make %v", calls)
		}
	})
}

func TestCommit_CommitsThatWaitShareASync(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir, 1)
	w.mustStart()
	defer w.abandon()
	w.commit(w.batch("first", 1, 1, 10))
	reached, release := make(chan bool), make(chan bool)
	syncs := 0
	w.setFault(func(_ int, call, _ string) error {
		if call == "sync" {
			if syncs++; syncs == 1 {
				reached <- true
				<-release
			}
		}
		return nil
	}, nil)
	var all sync.WaitGroup
	commit := func(sid string) {
		all.Go(func() {
			b := receiver.Batch{SID: sid, Seq: 2, Lines: [][]byte{[]byte(sid)}}
			if _, err := w.j.Commit(t.Context(), []receiver.Batch{b}); err != nil {
				t.Error(err)
			}
		})
	}
	commit("first")
	<-reached
	for i := range 20 {
		commit(strconv.Itoa(i))
	}
	for waiting := 0; waiting < 20; runtime.Gosched() {
		w.j.queueing.Lock()
		waiting = len(w.j.queue)
		w.j.queueing.Unlock()
	}
	close(release)
	all.Wait()
	w.setFault(nil, nil)
	if syncs != 2 {
		t.Errorf("%d syncs for 1 commit and 20 that waited, want 2", syncs)
	}
}

func TestCommit_ComparesWithWhatMemoryForgot(t *testing.T) {
	for _, where := range []string{"journal", "database"} {
		with(t, func(o *Options) { o.segment = 1 << 16 }, func(w *world) {
			w.commit(w.batch("a", 1, 200, 10)) // memory has 64
			if where == "database" {
				w.wait()
			} else {
				w.setFault(nil, func(call string) error {
					if call == "Add" {
						return errInjected
					}
					return nil
				})
				defer w.setFault(nil, nil)
			}
			w.commit(w.batch("a", 1, 210, 10))
			for _, seq := range []uint64{1, 100, 199, 205} {
				w.other("a", seq)
			}
			w.setFault(nil, nil)
			if asked := w.db.calls["Sums"] > 0; asked != (where == "database") {
				t.Errorf("lines in the %s: the database was asked: %v", where, asked)
			}
			w.finish()
		})
	}
}

// A row that retention has taken is neither stored again nor compared, unless its
// sender began again below it.
func TestCommit_KnowsLinesThatRetentionHasTaken(t *testing.T) {
	with(t, nil, func(w *world) {
		w.db.taken = func(r fakeRow) bool { return r.Seq < 150 }
		w.commit(w.batch("a", 1, 300, 10))
		w.wait()
		w.crash(false, 0)
		w.j.Begin(&handshake.Hello{SID: "a", Head: 301})
		w.commit(w.batch("a", 1, 300, 10))
		w.other("a", 200)
		w.j.Begin(&handshake.Hello{SID: "a", Head: 100})
		w.commit(w.batch("a", 1, 99, 10))
		w.other("a", 120)
		w.finish()
	})
}

func TestRecovery_DoesNotAddForEverWhatRetentionTakes(t *testing.T) {
	with(t, nil, func(w *world) {
		w.db.taken = func(fakeRow) bool { return true }
		w.commit(w.batch("a", 1, 300, 10))
		w.crash(false, 0)
		w.wait()
		if n := len(w.j.segs); n != 0 {
			t.Errorf("%d segments are left", n)
		}
		if w.db.calls["Each"] > 3 {
			t.Errorf("%v", w.db.calls)
		}
	})
}

func TestCommit_KeepsLinesAndGapsApart(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.gap("a", 5, 5))
		w.commit(w.batch("a", 1, 20, 10))
		w.commit(w.gap("a", 5, 5))
		w.commit(w.gap("a", 15, 2))
		w.finish()
		if n := len(w.db.all()); n != 22 {
			t.Errorf("%d rows, want 20 lines and 2 gaps", n)
		}
	})
}

func TestCommit_ForgetsHolesAndNoLine(t *testing.T) {
	with(t, func(o *Options) { o.Limit = 1 << 30; o.segment = 1 << 20 }, func(w *world) {
		const n = maxSpans + 500
		var batches []receiver.Batch
		for i := range uint64(n) {
			batches = append(batches, w.batch("a", 1+2*i, 1, 1))
		}
		w.commit(batches...)
		if got := len(w.j.Streams()[0].Lines); got != maxSpans {
			t.Errorf("%d spans, want %d", got, maxSpans)
		}
		w.wait()
		w.commit(w.batch("a", 1, 300, 1))
		w.other("a", 3)
		w.finish()
		if got := len(w.db.all()); got != n+150 {
			t.Errorf("%d rows, want %d", got, n+150)
		}
	})
}

func TestCommit_RefusesWhatNoSenderMaySend(t *testing.T) {
	with(t, nil, func(w *world) {
		line := [][]byte{[]byte("x")}
		for name, batches := range map[string][]receiver.Batch{
			"not ascending":   {{SID: "a", Seq: 2, Lines: line}, {SID: "a", Seq: 2, Lines: line}},
			"two streams":     {{SID: "a", Seq: 1, Lines: line}, {SID: "b", Seq: 2, Lines: line}},
			"number 0":        {{SID: "a", Seq: 0, Lines: line}},
			"too large":       {{SID: "a", Seq: handshake.MaxSeq + 1, Lines: line}},
			"gap that wraps":  {{SID: "a", Gap: &handshake.Gap{Seq: 5, N: ^uint64(0)}}},
			"newline":         {{SID: "a", Seq: 1, Lines: [][]byte{[]byte("x\ny")}}},
			"name of a host":  {{SID: "a", Host: strings.Repeat("h", 1<<16), Seq: 1, Lines: line}},
			"name of a strea": {{SID: strings.Repeat("s", 256), Seq: 1, Lines: line}},
		} {
			var refused *receiver.RefusedError
			if _, err := w.j.Commit(context.Background(), batches); !errors.As(err, &refused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s := w.j.Stats(); s.Streams != 0 || s.Held != 0 {
			t.Errorf("%+v after nothing", s)
		}
	})
}

func TestCommit_FailsWhileTheDirectoryIsMoved(t *testing.T) {
	with(t, nil, func(w *world) {
		w.commit(w.batch("a", 1, 5, 10))
		w.faulty = true
		was := w.fs.dir
		if err := os.Rename(was, was+"-moved"); err != nil {
			t.Fatal(err)
		}
		if w.commit(w.batch("a", 6, 5, 10)) {
			t.Error("a receipt for what the path does not lead to")
		}
		if _, err := w.j.Commit(context.Background(), []receiver.Batch{w.batch("a", 1, 5, 10)}); !errors.Is(err,
			errMoved) {
			t.Errorf("lines that are there already: %v", err)
		}
		if err := os.Mkdir(was, 0o700); err != nil {
			t.Fatal(err)
		}
		if w.commit(w.batch("a", 6, 5, 10)) {
			t.Error("a receipt for what is in another directory")
		}
		if err := errors.Join(os.Remove(was), os.Rename(was+"-moved", was)); err != nil {
			t.Fatal(err)
		}
		w.faulty = false
		if !w.commit(w.batch("a", 6, 5, 10)) {
			t.Error("no receipt after the directory is back")
		}
		w.finish()
	})
}

func TestCommit_WritesAgainWhatAUserRemoved(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 16 }, func(w *world) {
		w.setFault(nil, func(string) error { return errInjected })
		w.commit(w.batch("a", 1, 5, 10))
		if err := os.RemoveAll(w.fs.dir + "/" + journalDir); err != nil {
			t.Fatal(err)
		}
		w.fs.mu.Lock()
		clear(w.fs.names)
		clear(w.fs.disk)
		w.fs.mu.Unlock()
		w.commit(w.batch("a", 6, 5, 10))
		if names, err := os.ReadDir(w.fs.dir + "/" + journalDir); err != nil || len(names) != 1 {
			t.Errorf("%v, %v, want a new segment", names, err)
		}
		w.finish()
	})
}

func TestOwners_SurviveACrash(t *testing.T) {
	with(t, nil, func(w *world) {
		set := func(sid, from, to, want string) {
			t.Helper()
			if got, err := w.j.SetOwner(context.Background(), sid, from, to); got != want || err != nil {
				t.Errorf("set owner of %s from %q to %q: %q, %v, want %q", sid, from, to, got, err, want)
			}
		}
		set("a", "", "ann", "ann")
		set("b", "", "bob", "bob")
		set("a", "", "eve", "ann")
		set("a", "ann", "carl", "carl")
		w.crash(true, 0)
		set("a", "ann", "eve", "carl")
		w.wait()
		w.crash(true, 0) // from CHECKPOINT now
		set("b", "", "eve", "bob")
		var all []string
		err := w.j.EachOwner(context.Background(), func(sid, owner string) bool { all = append(all, sid+" "+owner); return len(all) < 2 })
		if got := strings.Join(all, ", "); err != nil || got != "a carl, b bob" {
			t.Errorf("%s, %v", got, err)
		}
	})
}
