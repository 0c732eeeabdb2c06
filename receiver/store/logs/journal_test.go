package logs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
)

// A barrier says that rows are missing. They are in the journal; they must be added.
func TestBarrier_WhatItMissesIsAddedAgain(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	at := time.Now().Add(-5 * oneDay)
	commit(t, s, lines(1, 10, at))
	added := func() {
		for s.Stats().Waiting > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	added()
	if err := s.library.detach(at.UTC().Format(dayFormat)); err != nil {
		t.Fatal(err)
	}
	commit(t, s, lines(11, 10, at)) // which the library drops
	added()
	failed := 0
	for s.Wait(t.Context()) != nil {
		failed++
		time.Sleep(10 * time.Millisecond)
	}
	commit(t, s, lines(21, 1, at)) // attaches the day again
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := s.Lines(t.Context(), "*", 1000, func(*Found) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n != 21 {
		t.Errorf("%d of 21 acknowledged lines are there; the barrier failed %d times", n, failed)
	}
}

// A burst fills the journal up to the reserve while the log database is slow. When it
// is not slow any more, the journal is emptied, for that frees most of the disk.
func TestStore_TheJournalThatTookTheLastSpaceIsEmptied(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=220m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	o := testOptions()
	o.Reserve = 64 << 20
	s := open(t, filepath.Join(disk, "store"), o)
	s.db.adding.Lock() // the log database is slow
	seq := uint64(1)
	for {
		b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: time.Now()}
		for i := range uint64(4000) {
			b.Lines = append(b.Lines, fmt.Appendf(nil,
				"GET /static/images/%d.png HTTP/1.1 200 %d Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 request %x %x",
				(seq+i)%977, (seq+i)*7919%65536, (seq+i)*2654435761%(1<<32), sha256.Sum256(fmt.Append(nil, seq+i))))
		}
		if _, err := s.Commit(t.Context(), []receiver.Batch{b}); err != nil {
			if !errors.Is(err, journal.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		seq += 4000
	}
	before := s.Stats()
	if err := os.WriteFile(filepath.Join(disk, "other"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // the library looks at the disk every two seconds
	s.db.adding.Unlock()
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end) && s.Stats().Held > 0; {
		_ = s.Wait(t.Context())
		time.Sleep(100 * time.Millisecond)
	}
	if after := s.Stats(); after.Held > 0 {
		t.Errorf("%d lines; the journal held %d MiB, and 45 s later %d MiB: free %d MiB, %v", seq-1, before.Held>>20, after.Held>>20, after.Free>>20, after.Err)
	} else {
		t.Logf("%d lines; the journal held %d MiB; free now %d MiB", seq-1, before.Held>>20, after.Free>>20)
	}
}

// A backup to a slow disk copies the segment that is written to while commits continue.
func TestBackup_OfASegmentThatIsWrittenHasNoHoles(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	s.db.adding.Lock() // what is committed stays in the journal, as it does for a moment under load
	seq := uint64(1)
	for ; seq < 300; seq += 100 {
		commit(t, s, lines(seq, 100, time.Now()))
	}
	s.db.adding.Unlock()
	ctx := t.Context()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	b := &backup{Store: s, to: to}
	if err := b.freeze(ctx); err != nil {
		t.Fatal(err)
	}
	for rel, f := range b.files { // as copy does it; the disk is slow after the first 32 KiB
		from := io.Reader(io.NewSectionReader(f, 0, b.sizes[rel]))
		if strings.HasSuffix(rel, ".seg") {
			r := from
			n := 0
			from = readerFunc(func(p []byte) (int, error) {
				if n++; n == 2 {
					for range 40 {
						commit(t, s, lines(seq, 100, time.Now()))
						seq += 100
					}
				}
				return r.Read(p)
			})
		}
		if err := b.write(ctx, rel, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, snapshot := range b.snapshots {
		if err := b.copyTree(ctx, snapshot, filepath.Join("database/partitions", filepath.Base(filepath.Dir(filepath.Dir(snapshot))))); err != nil {
			t.Fatal(err)
		}
	}
	b.release()
	shut(t, s)
	s = open(t, to, testOptions())
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if j := s.Stats(); j.Damaged > 0 || len(s.Streams()[0].Lines) != 1 {
		t.Errorf("the copy: %d bytes damaged, lines %v", j.Damaged, s.Streams()[0].Lines)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
