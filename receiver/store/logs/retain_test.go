package logs

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/receiver/store/journal"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The hard links of a backup's snapshots count twice in retention by size.
func TestRetention_BySizeDuringABackupDeletesNothingThatFits(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	total := int64(0)
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(10000*i), 5000, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	days, _ := s.library.days()
	for _, d := range days {
		n, err := s.retention.sizeOf(d)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	s.opts.RetainBytes = total * 12 / 10
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	if days, _ := s.library.days(); len(days) != 4 {
		t.Fatalf("before: %v", days)
	}
	b := &backup{Store: s, to: t.TempDir()}
	if err := b.freeze(t.Context()); err != nil { // a backup that is copying now
		t.Fatal(err)
	}
	defer b.release()
	if err := s.retention.pass(); err != nil { // as any barrier wakes it
		t.Fatal(err)
	}
	if days, _ := s.library.days(); len(days) != 4 {
		t.Errorf("retention left %v of 4 days that take %d of %d bytes", days, total, s.opts.RetainBytes)
	}
}

// A backup while retention takes a day.
func TestBackup_WhileRetentionTakesADay(t *testing.T) {
	book := &logbook{}
	o := testOptions()
	o.Log = book.logger()
	s := open(t, t.TempDir(), o)
	now := time.Now()
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(10000*i), 5000, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	to := filepath.Join(t.TempDir(), "copy")
	_ = os.Mkdir(to, 0o700)
	b := &backup{Store: s, to: to}
	if err := b.freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.opts.Retain = 36 * time.Hour
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	if err := b.copy(t.Context()); err != nil {
		t.Error(err)
	}
	b.release()
	t.Log(book.String())
}

// The day of now is on its way out while lines come.
func TestRetention_NoLineGoesIntoADayOnItsWayOut(t *testing.T) {
	var hold atomic.Pointer[chan struct{}]
	var held atomic.Bool
	o := testOptions()
	o.block = func(*logstorage.DataBlock) {
		if c := hold.Load(); c != nil {
			held.Store(true)
			<-*c
		}
	}
	s := open(t, t.TempDir(), o)
	now := time.Now()
	add(t, s, "e-1", lines(1, 100, now))
	add(t, s, "e-2", lines(1001, 1, now.Add(oneDay-time.Minute))) // of a sender whose local time is ahead
	barrier(t, s)
	c := make(chan struct{})
	hold.Store(&c)
	queried := make(chan error, 1)
	go func() {
		queried <- s.db.Each(context.Background(), "e-1", func(journal.ID) {})
	}()
	for !held.Load() {
		time.Sleep(time.Millisecond)
	}
	s.opts.RetainBytes = 1
	passed := make(chan error, 1)
	go func() {
		passed <- s.retention.pass()
	}()
	for end := time.Now().Add(2 * time.Second); ; {
		days, _ := s.library.days()
		if len(days) == 1 || time.Now().After(end) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	err := s.db.Add(t.Context(), "e-3", lines(2001, 100, time.Now()))
	t.Log("Add:", err)
	hold.Store(nil)
	close(c)
	t.Log("query:", <-queried)
	t.Log("pass:", <-passed)
	if err != nil {
		return // it is tried again
	}
	err = s.db.Barrier(t.Context())
	t.Log("Barrier:", err)
	if err != nil {
		return
	}
	s.opts.RetainBytes = 0
	wantCount(t, s, "e-3", 100)
}

// A paused follower holds memory.
func TestOpen_TwiceAfterAReadThatMetNoDay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	if err := s.damage.note(someDay); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
}

// A day of the future, from a clock that was ahead, and retention by size.
func TestRetention_ADayOfTheFutureDoesNotCostToday(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	add(t, s, "e-1", lines(1, 1000, now))
	add(t, s, "e-2", lines(10001, 1, now.Add(oneDay-time.Minute)))
	barrier(t, s)
	s.opts.RetainBytes = 1
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	wantCount(t, s, "e-1", 1000)
}

// A clock that jumps ahead while there is one day.
func TestRetention_AClockThatJumpsWhileThereIsOneDay(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	s.opts.Retain = 30 * oneDay
	add(t, s, "e-1", lines(1, 10, now.Add(-20*oneDay)))
	barrier(t, s)
	s.retention.now = func() time.Time { return now }
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	add(t, s, "e-2", lines(101, 10, now))
	barrier(t, s)
	s.retention.now = func() time.Time { return now.Add(3000 * oneDay) }
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	if days, _ := s.library.days(); len(days) != 2 {
		t.Errorf("%v", days)
	}
}

// Retention is set, has deleted nothing, and verify forgives all that is missing.
func TestVerify_DoesNotBlameRetentionForWhatItHasNotDeleted(t *testing.T) {
	dir := t.TempDir()
	o := testOptions()
	o.Retain = 3650 * oneDay
	s := open(t, dir, o)
	commit(t, s, lines(1, 10, time.Now()))
	commit(t, s, lines(11, 10, time.Now().Add(-2*oneDay)))
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	_ = os.RemoveAll(filepath.Join(dir, "database/partitions", time.Now().UTC().Format(dayFormat)))
	s = open(t, dir, o)
	r, err := s.Verify(t.Context())
	if err != nil || r.Streams[0].Missing != 10 || r.Deleted {
		t.Errorf("%+v, %v: cmd_verify says ok of 10 lines that are missing", r, err)
	}
	shut(t, s)
	s = open(t, dir, testOptions()) // where no other goroutine deletes
	s.opts.Retain = oneDay
	commit(t, s, lines(21, 10, time.Now()))
	if err := errors.Join(s.Wait(t.Context()), s.retention.pass()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	if r, err = open(t, dir, o).Verify(t.Context()); err != nil || !r.Deleted {
		t.Errorf("after retention has deleted a day: %+v, %v", r, err)
	}
}

// As `wsreceive search | less` does.
func TestRetention_APausedSearchHoldsItUpNoLongerThanItMay(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(1+100000*i), 30000, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	client := &http.Client{Transport: &http.Transport{DialContext: s.dialAny}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://store/lines?limit=1000000&query=*", nil)
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	time.Sleep(300 * time.Millisecond)
	s.opts.Retain, s.retention.patience = 36*time.Hour, 100*time.Millisecond
	done := make(chan error, 1)
	go func() { done <- s.retention.pass() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
		return
	case <-time.After(45 * time.Second):
		t.Error("retention waits for a search that is not read")
	}
	cancel()
	r.Body.Close()
	<-done
}

// What a quarantined day had of blobs is deleted by retention some day.
func TestRetention_DeletesBlobsOfAQuarantinedDay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	old := time.Now().Add(-10 * oneDay)
	for i := range 2 {
		b := lines(uint64(1+100*i), 10, old.Add(time.Duration(i)*10*oneDay))
		b[0].Lines[0] = []byte("\ufffd")
		add(t, s, "e-1", b)
	}
	barrier(t, s)
	shut(t, s)
	day := old.UTC().Format(dayFormat)
	_ = os.WriteFile(filepath.Join(dir, "database/partitions", day, "datadb/parts.json"), nil, 0o600)
	s = open(t, dir, testOptions())
	s.opts.Retain, s.opts.RetainBytes = 36*time.Hour, 1
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs", day)); err == nil {
		t.Error("blobs of a day that is quarantined stay for ever, whatever retention says")
	}
}
