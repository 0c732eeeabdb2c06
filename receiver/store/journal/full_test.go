package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

func TestCommit_FailsAtTheLimitAndSaysWhy(t *testing.T) {
	with(t, func(o *Options) { o.Limit = 64 << 10; o.segment = 16 << 10; o.step = 4 << 10 }, func(w *world) {
		w.setFault(nil, func(string) error { return errInjected })
		_ = w.j.Wait(context.Background()) // nothing to wait for
		seq := uint64(1)
		for ; w.commit(w.batch("a", seq, 10, 100)); seq += 10 {
			if seq > 10000 {
				t.Fatal("there is no limit")
			}
			_ = w.j.Wait(context.Background()) // until the applier has failed
		}
		if s := w.j.Stats(); s.Held > 64<<10 || s.Held < 48<<10 || s.Err == nil || s.Waiting == 0 || s.Lag < 0 {
			t.Errorf("%+v", s)
		}
		began := time.Now()
		_, err := w.j.Commit(context.Background(), []receiver.Batch{w.batch("a", seq, 10, 100)})
		if !errors.Is(err, ErrFull) || !errors.Is(err, errInjected) ||
			!strings.Contains(err.Error(), "the limit is 65536") || w.j.Ready() == nil {
			t.Errorf("the error does not name the reason: %v", err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("waited %s for a database that fails", took)
		}
		w.commit(w.batch("a", 1, 10, 100)) // what is there needs no space
		w.setFault(nil, nil)
		w.wait2()
		if !w.commit(w.batch("a", seq, 10, 100)) {
			t.Error("there is space again, and the journal is still full")
		}
		w.finish()
	})
}

// A journal that is full while the database takes what waits is no failure: commits
// wait, as long as it takes segments.
func TestCommit_WaitsForASlowDatabase(t *testing.T) {
	with(t, func(o *Options) { o.Limit = 64 << 10; o.segment = 16 << 10; o.step = 4 << 10 }, func(w *world) {
		var slow atomic.Int64
		slow.Store(int64(time.Second))
		w.setFault(nil, func(call string) error {
			if call == "Add" {
				time.Sleep(time.Duration(slow.Load()))
			}
			return nil
		})
		began, seq := time.Now(), uint64(1)
		for ; seq < 2000; seq += 10 {
			if !w.commit(w.batch("a", seq, 10, 100)) {
				t.Errorf("the commit of %d failed", seq)
				break
			}
		}
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("took %s: nothing had to wait", took)
		}
		slow.Store(int64(time.Minute))
		var err error
		for began = time.Now(); err == nil; seq += 10 {
			b := w.batch("a", seq, 10, 100)
			began = time.Now()
			if err = w.j.Ready(); err != nil {
				t.Errorf("not ready while commits wait: %v", err)
			}
			_, err = w.j.Commit(context.Background(), []receiver.Batch{b})
		}
		if took := time.Since(began); !errors.Is(err, ErrFull) || took != fullWait {
			t.Errorf("%v after %s, want ErrFull after %s", err, took, fullWait)
		}
		slow.Store(0)
		time.Sleep(time.Minute)
	})
}

// wait2 waits for what is committed, also while the applier is in a pause.
func (w *world) wait2() {
	for w.j.Wait(context.Background()) != nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// One commit may be larger than the limit, or it could never be stored.
func TestCommit_LargerThanTheLimit(t *testing.T) {
	with(t, func(o *Options) { o.Limit = 4096; o.segment = 1 << 20; o.step = 512; o.age = 24 * time.Hour },
		func(w *world) {
			w.faulty = true // while the journal is emptied
			seq, tries := uint64(1), 0
			for range 5 {
				for ; !w.commit(w.batch("a", seq, 50, 300)); tries++ {
					if tries > 100 {
						t.Fatal("the journal is full, and is not emptied")
					}
					time.Sleep(10 * time.Millisecond)
				}
				seq += 50
			}
			w.finish()
		})
}

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a file system of %s cannot be mounted: %v", size, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp takes what is left of a file system.
func fillUp(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "other")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<20); len(b) > 0; {
		if _, err := f.Write(b); err != nil {
			b = b[:len(b)/2]
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bavail > 0 {
		t.Fatalf("%d blocks are left: %v", st.Bavail, err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// Another program fills the disk to the last byte. What is committed still gets into
// the database, and its space becomes free; new lines wait, and nothing is half
// done. The process is killed meanwhile.
func TestCommit_WaitsWhileTheDiskIsFull(t *testing.T) {
	path := tmpfs(t, "8m")
	sub := filepath.Join(path, "store")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, t.TempDir(), 1)
	w.fs.dir = sub
	open := func() {
		dir, err := os.Open(sub)
		if err != nil {
			t.Fatal(err)
		}
		w.dir = dir
		if w.j, err = Open(dir, sub, w.db, Options{Limit: 4 << 20, Reserve: 64 << 10, retry: 1}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	for i := range uint64(20) {
		w.commit(w.batch("a", 1+100*i, 100, 200))
	}
	w.j.Begin(&handshake.Hello{SID: "a", Head: 2001})
	free := fillUp(t, path)
	w.faulty = true
	var err error
	for seq := uint64(2001); err == nil && seq < 1e6; seq += 100 { // into what is allocated
		batches := []receiver.Batch{w.batch("a", seq, 100, 200)}
		for k := range batches[0].Lines {
			w.tried[ID{"a", seq + uint64(k), 0}] = true
		}
		if _, err = w.j.Commit(context.Background(), batches); err == nil {
			for k := range batches[0].Lines {
				w.acked[ID{"a", seq + uint64(k), 0}] = true
			}
		}
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "bytes left") {
		t.Errorf("the error does not name the reason: %v", err)
	}
	w.abandon() // and a kill while the disk is full
	w.db = w.db.crash()
	open()
	w.wait2()
	if s := w.j.Stats(); s.Held != 0 || s.Waiting != 0 {
		t.Errorf("the full disk keeps the journal from being emptied: %+v", s)
	}
	free()
	w.finish()
	if err := errors.Join(w.j.Close(), w.dir.Close()); err != nil {
		t.Error(err)
	}
	w.j = nil
}
