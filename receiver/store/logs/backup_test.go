package logs

import (
	"context"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

func TestBackup_HoldsEachAcknowledgedLineOnceWhileLinesCome(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	var acknowledged atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for n := uint64(0); ctx.Err() == nil; n++ {
			if _, err := s.Commit(context.Background(), lines(1+100*n, 100, time.Now())); err != nil {
				done <- err
				return
			}
			acknowledged.Store(100 * (n + 1))
			if n%3 == 2 { // a segment goes behind a barrier, a checkpoint, and away
				if err := s.Wait(context.Background()); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	root, began := t.TempDir(), map[string]uint64{}
	for i := range 6 {
		to := filepath.Join(root, strconv.Itoa(i))
		began[to] = acknowledged.Load()
		if err := s.Backup(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	for to, least := range began {
		s := open(t, to, testOptions())
		r, err := s.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var lines, rows uint64
		for _, d := range r.Streams {
			lines, rows = d.Lines, d.Rows
			if d.Missing+d.Excess > 0 {
				t.Errorf("%s: %+v", to, d)
			}
		}
		if lines < least {
			t.Errorf("%s: %d lines, and %d were acknowledged before", to, lines, least)
		}
		t.Logf("%d lines were acknowledged before, %d are final in the copy, with %d rows", least, lines, rows)
		shut(t, s)
	}
}

func TestBackup_HasWhatNoRowCanHold(t *testing.T) {
	to := filepath.Join(t.TempDir(), "copy")
	s := open(t, t.TempDir(), testOptions())
	for i := range 3 {
		b := lines(uint64(1+1000*i), 1000, time.Now().Add(-time.Duration(i)*oneDay))
		b[0].Lines[0] = []byte("\ufffd")
		commit(t, s, b)
	}
	if err := s.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	commit(t, s, lines(5001, 10, time.Now())) // not in the copy
	shut(t, s)
	s = open(t, to, testOptions())
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, odd := 0, 0
	err := s.Lines(t.Context(), "*", 1_000_000, func(l *Found) error {
		if all++; string(l.Text) == "\ufffd" {
			odd++
		}
		return nil
	})
	if err != nil || all != 3000 || odd != 3 {
		t.Errorf("%d lines, %d odd ones, %v; want 3000 and 3", all, odd, err)
	}
}
