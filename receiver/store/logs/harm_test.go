package logs

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

func init() { children["slowread"] = slowReadChild }

func slowReadChild(dir string) int {
	o := testOptions()
	o.block = func(*logstorage.DataBlock) { fmt.Println("reading"); time.Sleep(time.Minute) }
	_, err := Open(dir, o)
	fmt.Println(err)
	return 0
}

// An administrator's kill -QUIT of a start that takes long costs a good day.
func TestOpen_ASignalWhileDaysAreReadCostsNoDay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	add(t, s, "e-1", lines(1, 100, time.Now()))
	if err := s.damage.note(someDay); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	cmd, said, _ := child(t, "slowread", dir)
	said.Scan()
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	_ = cmd.Wait()
	s = open(t, dir, testOptions())
	if damaged, err := s.damage.list(); err != nil || len(damaged) > 0 {
		t.Errorf("damaged: %v, %v", damaged, err)
	}
	wantCount(t, s, "e-1", 100)
}

// A day whose index is gone.
func TestLines_OfADayWithoutItsIndex(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	commit(t, s, lines(1, 100, time.Now()))
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	all, _ := filepath.Glob(filepath.Join(dir, "database/partitions/*/indexdb"))
	for _, p := range all {
		_ = os.RemoveAll(p)
	}
	s = open(t, dir, testOptions())
	r, err := s.Verify(t.Context())
	n := 0
	lerr := s.Lines(t.Context(), "*", 1000, func(*Found) error { n++; return nil })
	if n != 100 && r.Streams[0].Missing == 0 && len(r.Damaged) == 0 {
		t.Errorf("%d of 100 lines are found, %v; and Verify says %+v, %v", n, lerr, r, err)
	}
	m := 0
	lerr = s.Lines(t.Context(), "* | delete _stream, _stream_id", 1000, func(*Found) error { m++; return nil })
	t.Log("without _stream:", m, lerr)
	m = 0
	lerr = s.eachLine(t.Context(), "* | delete _stream, _stream_id", func(*Found) error { m++; return nil })
	t.Log("without _stream:", m, lerr)
}

// O: /select/lines has no bound on how many run.
func TestHandler_AtMostFourLinesQueriesAtTheSameTime(t *testing.T) {
	var now, most atomic.Int64
	o := testOptions()
	o.block = func(*logstorage.DataBlock) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(300 * time.Millisecond)
		now.Add(-1)
	}
	s := open(t, t.TempDir(), o)
	add(t, s, "e-1", lines(1, 100, time.Now()))
	barrier(t, s)
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, err := http.Get(server.URL + linesPath + "?limit=10&query=" + url.QueryEscape("*"))
			if err == nil {
				r.Body.Close()
			}
		})
	}
	wg.Wait()
	if most.Load() > 4 {
		t.Errorf("%d ran at the same time", most.Load())
	}
}

// A comment of LogsQL swallows the pipes that are put behind a filter.
func TestLines_ACommentDoesNotSwallowTheLimit(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	add(t, s, "e-1", lines(1, 1000, time.Now()))
	barrier(t, s)
	n := 0
	err := s.Lines(t.Context(), "* # all", 10, func(*Found) error { n++; return nil })
	if err != nil || n != 10 {
		t.Errorf("%d lines, %v; want 10", n, err)
	}
}

// A day that could not be moved into the trash is tried again.
func TestRetention_ADayThatCouldNotBeMovedIsTriedAgain(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(1+1000*i), 100, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	s.opts.Retain = 36 * time.Hour
	_ = os.Remove(s.under("trash"))
	if err := s.retention.pass(); err == nil { // as on a disk without space for a name
		t.Fatal("no failure")
	}
	_ = os.Mkdir(s.under("trash"), 0o700)
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(s.under("database/partitions"))
	days, _ := s.library.days()
	if len(left) != len(days) {
		t.Errorf("folders %v, attached %v: one is neither deleted nor found by queries", left, days)
	}
}

// A backup into the store is deleted, or moved away, by the next start.
func TestBackup_IntoTheStoreIsRefused(t *testing.T) {
	for _, name := range []string{"trash/copy", "database/partitions/copy"} {
		dir := t.TempDir()
		s := open(t, dir, testOptions())
		commit(t, s, lines(1, 10, time.Now()))
		to := filepath.Join(dir, name)
		err := s.Backup(t.Context(), to)
		shut(t, s)
		if err != nil {
			continue
		}
		s = open(t, dir, testOptions())
		shut(t, s)
		if _, err := os.Stat(to); err != nil {
			t.Errorf("a backup that succeeded is gone: %v", err)
		}
	}
}

// A backup that a kill has interrupted is no store that is complete.
func TestBackup_HalfOfOneIsNotTakenForAWholeOne(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	for i := range 3 {
		commit(t, s, lines(uint64(1+100*i), 100, time.Now().Add(-time.Duration(i)*oneDay)))
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	b := &backup{Store: s, to: to}
	if err := b.freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := b.snapshots
	// A kill comes after the first day, at a file that cannot be read.
	b.snapshots, b.files, b.sizes = all[:1], map[string]*os.File{"x": nil}, map[string]int64{"x": 1}
	if err := b.copy(t.Context()); err == nil {
		t.Fatal("the copy is whole")
	}
	b.snapshots, b.files = all, nil
	b.release()
	shut(t, s)
	s, err := Open(to, testOptions())
	if err != nil {
		return // it says so
	}
	defer s.Close()
	if r, err := s.Verify(t.Context()); err == nil && r.Streams[0].Missing == 0 {
		t.Errorf("Verify says that all is well with 100 of 300 lines: %+v", r)
	}
}

// Blobs that are gone keep no other line from being found.
func TestLines_WithoutTheirBlobs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	b := lines(1, 100, time.Now())
	b[0].Lines[7] = []byte("\ufffd odd")
	commit(t, s, b)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/*"))
	for _, b := range blobs {
		os.Remove(b)
	}
	s = open(t, dir, testOptions())
	wantReadable(t, s, 99)
}

// So do skeletons.
func TestLines_WithoutTheirSkeletons(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Reserve: 1 << 20})
	b := lines(1, 100, time.Now())
	for i := range 50 {
		b[0].Lines[i] = fmt.Appendf(nil, `{"level":"info", "n" : %d, "msg": "hello"}`, i)
	}
	commit(t, s, b)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	_ = os.Remove(filepath.Join(dir, "skeletons"))
	s = open(t, dir, Options{Reserve: 1 << 20})
	wantReadable(t, s, 50)
}

// wantReadable wants all of 100 lines, so many of them with their text.
func wantReadable(t *testing.T, s *Store, want int) {
	t.Helper()
	all, good := 0, 0
	err := s.Lines(t.Context(), "*", 1000, func(l *Found) error {
		if all++; l.Error == "" {
			good++
		}
		return nil
	})
	if all != 100 || good != want || err != nil {
		t.Errorf("%d lines, %d of them with their text, %v; want 100 and %d", all, good, err, want)
	}
}
