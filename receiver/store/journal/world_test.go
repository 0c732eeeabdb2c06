package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// failer is what a test and a case of rapid have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// inBubble runs f with synthetic time, so that no pause takes any. Rapid stops a
// failed case by a panic, which has to reach rapid's own goroutine.
func inBubble(t *testing.T, f func()) {
	t.Helper()
	var stopped any
	synctest.Test(t, func(*testing.T) {
		defer func() { stopped = recover() }()
		f()
	})
	if stopped != nil {
		panic(stopped)
	}
}

// world is a journal with its directory and its database, the senders, and an
// oracle that knows every line and what was promised of it.
type world struct {
	failer
	root string // for the directories
	dirs int
	fs   *cutFS
	db   *fakeDB
	dir  *os.File
	j    *Journal
	o    Options

	next   map[string]uint64 // each sender's next number
	lines  map[ID]string     // what was sent under a number
	acked  map[ID]bool       // has a receipt; also gaps
	tried  map[ID]bool       // may be stored
	owners map[string]string // with a receipt
	faulty bool

	damaged bool // by the test
}

func newWorld(f failer, root string, seed uint64) *world {
	w := &world{
		failer: f, root: root, db: newFakeDB(seed),
		o:    Options{Limit: 1 << 20, segment: 3000, step: 1024, retry: time.Second, recent: 64},
		next: map[string]uint64{}, lines: map[ID]string{}, acked: map[ID]bool{}, tried: map[ID]bool{},
		owners: map[string]string{},
	}
	w.fs = newCutFS(w.newDir(), seed)
	return w
}

func (w *world) newDir() string {
	w.dirs++
	dir := filepath.Join(w.root, strconv.Itoa(w.dirs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.Fatalf("%v", err)
	}
	return dir
}

// start opens the journal.
func (w *world) start() error {
	dir, err := os.Open(w.fs.dir)
	if err != nil {
		w.Fatalf("%v", err)
	}
	o := w.o
	o.wrap = func(f fileSystem) fileSystem { w.fs.fileSystem = f; return w.fs }
	if w.j, err = Open(dir, w.fs.dir, w.db, o); err != nil {
		_ = dir.Close()
		w.j = nil
		return err
	}
	w.dir = dir
	return nil
}

func (w *world) mustStart() {
	w.Helper()
	if err := w.start(); err != nil {
		w.Fatalf("open: %v", err)
	}
}

// setFault makes calls of the files and of the database fail; nil: none.
func (w *world) setFault(f func(n int, call, name string) error, db func(call string) error) {
	w.fs.mu.Lock()
	w.fs.fault = f
	w.fs.mu.Unlock()
	w.db.mu.Lock()
	w.db.fault = db
	w.db.mu.Unlock()
	w.faulty = f != nil || db != nil
}

// abandon ends the process as a kill does.
func (w *world) abandon() {
	w.fs.mu.Lock()
	w.fs.dead = true
	w.fs.mu.Unlock()
	w.db.mu.Lock()
	w.db.dead = true
	w.db.mu.Unlock()
	if w.j == nil {
		return
	}
	w.j.stop()
	<-w.j.done
	_ = w.j.closeFiles()
	_ = w.dir.Close()
	w.j = nil
}

// crash ends the process, or the machine, and starts again; again > 0: and dies
// once more at that call of the recovery.
func (w *world) crash(cut bool, again int) {
	w.Helper()
	for ; ; again = 0 {
		w.abandon()
		w.setFault(nil, nil)
		if cut {
			fs, err := w.fs.powerCut(w.newDir())
			if err != nil {
				w.Fatalf("%v", err)
			}
			w.fs = fs
		} else {
			w.fs = w.fs.kill()
			if w.fs.rnd.IntN(2) == 0 {
				if err := w.fs.evict(); err != nil {
					w.Fatalf("%v", err)
				}
			}
		}
		w.db = w.db.crash()
		w.fs.crashAt = again
		if err := w.start(); err == nil && again == 0 {
			return
		} else if err != nil && !errors.Is(err, errCrashed) {
			w.Fatalf("open: %v", err)
		}
		synctest.Wait()
	}
}

func text(sid string, seq uint64, size int) string {
	return fmt.Sprintf("%s %d %s", sid, seq, strings.Repeat(string(rune('a'+seq%26)), size))
}

// batch makes a batch of what a sender has under these numbers, or gets.
func (w *world) batch(sid string, seq, n uint64, size int) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "host-" + sid, Seq: seq, At: time.Now().UTC()}
	for ; n > 0; n-- {
		id := ID{sid, seq, 0}
		if w.lines[id] == "" {
			w.lines[id] = text(sid, seq, size)
		}
		b.Lines = append(b.Lines, []byte(w.lines[id]))
		seq++
	}
	return b
}

func (w *world) gap(sid string, seq, n uint64) receiver.Batch {
	id := ID{sid, seq, n}
	w.lines[id] = fmt.Sprint("gap ", id)
	return receiver.Batch{
		SID: sid, Host: "host-" + sid, Seq: seq, At: time.Now().UTC(),
		Gap: &handshake.Gap{Seq: seq, N: n, Why: w.lines[id]},
	}
}

// commit commits and compares what the journal says of each line.
func (w *world) commit(batches ...receiver.Batch) bool {
	w.Helper()
	var ids []ID
	want := make([]receiver.Result, len(batches))
	sure := true
	for i := range batches {
		b := &batches[i]
		add := func(id ID) {
			ids = append(ids, id)
			if w.acked[id] {
				want[i].Dup++
			} else {
				want[i].New++
				sure = sure && !w.tried[id]
			}
		}
		if b.Gap != nil {
			add(ID{b.SID, b.Gap.Seq, b.Gap.N})
		}
		for k := range b.Lines {
			add(ID{b.SID, b.Seq + uint64(k), 0})
		}
	}
	for _, id := range ids {
		w.tried[id] = true
	}
	got, err := w.j.Commit(context.Background(), batches)
	for i := range batches { // their memory is used again
		for _, line := range batches[i].Lines {
			for k := range line {
				line[k] = '!'
			}
		}
	}
	if err != nil {
		if !w.faulty && !errors.Is(err, errCrashed) {
			w.Fatalf("commit: %v", err)
		}
		return false
	}
	for i := range got {
		if sure && (got[i].New != want[i].New || got[i].Dup != want[i].Dup) {
			w.Fatalf("%+v of batch %d from %d, want %+v", got[i], i, batches[i].Seq, want[i])
		}
	}
	for _, id := range ids {
		w.acked[id] = true
	}
	return true
}

// finish sends again what has no receipt, and then compares the database with
// what was sent: each line that has a receipt once, and nothing else.
func (w *world) finish() {
	w.Helper()
	w.setFault(nil, nil)
	for id := range w.tried {
		if w.acked[id] {
			continue
		}
		if id.Gap > 0 {
			w.commit(w.gap(id.SID, id.Seq, id.Gap))
		} else {
			w.commit(w.batch(id.SID, id.Seq, 1, 0))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		err := w.j.Wait(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			w.Fatalf("wait: %v", err)
		}
		time.Sleep(time.Second)
	}
	w.compare()
}

func (w *world) compare() {
	w.Helper()
	count := map[ID]int{}
	for _, r := range w.db.all() {
		if count[r.ID]++; count[r.ID] > 1 {
			w.Fatalf("%+v is there %d times", r, count[r.ID])
		}
		if want := w.lines[r.ID]; r.text != want || !w.tried[r.ID] {
			w.Fatalf("%+v, want %q", r, want)
		}
	}
	for id := range w.acked {
		if count[id] == 0 && (w.db.taken == nil || !w.db.taken(fakeRow{ID: id})) {
			w.Fatalf("%+v is lost", id)
		}
	}
	for sid, owner := range w.owners {
		if got, _ := w.j.Owner(context.Background(), sid); got != owner {
			w.Fatalf("owner of %s is %q, want %q", sid, got, owner)
		}
	}
	if damaged := w.j.Stats().Damaged; damaged > 0 && !w.damaged {
		w.Fatalf("%d bytes count as damaged", damaged)
	}
}
