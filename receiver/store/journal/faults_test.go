package journal

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

// work is a short life in which each kind of file call occurs: segments that are
// filled and retired, a clean restart, commits that come again.
func work(w *world) {
	step := func(batches ...receiver.Batch) {
		if w.j != nil {
			w.commit(batches...)
			synctest.Wait()
		}
	}
	open := func() {
		for range 30 {
			if err := w.start(); err == nil || errors.Is(err, errCrashed) {
				return
			}
			time.Sleep(time.Second)
		}
	}
	open()
	for i := range uint64(4) {
		step(w.batch("a", 1+30*i, 30, 30), w.gap("a", 5000+i, 1))
		step(w.batch("b", 1+10*i, 10, 200))
		step(w.batch("b", 1+10*i, 10, 200))
	}
	if w.j != nil {
		_, _ = w.j.SetOwner(context.Background(), "a", "", "ann")
		_ = w.j.Close()
		_ = w.dir.Close()
		w.j = nil
		open()
	}
	step(w.batch("a", 100, 50, 30))
	time.Sleep(time.Minute)
	synctest.Wait()
}

func newFaultWorld(t *testing.T, root string, n int) *world {
	w := newWorld(t, root, uint64(n))
	w.o.segment = 6000
	return w
}

// countCalls is how many file calls the work makes.
func countCalls(t *testing.T) (n int) {
	root := scratch(t)
	defer os.RemoveAll(root)
	inBubble(t, func() {
		w := newFaultWorld(t, root, 1)
		defer w.abandon()
		work(w)
		n = w.fs.calls
		w.finish()
	})
	if n < 100 {
		t.Fatalf("the work makes %d file calls", n)
	}
	return n
}

// every gives which calls of n to try: all, or, in the short form, one in some.
func every(n int) int {
	switch {
	case os.Getenv("TORTURE") == "long":
		return 1
	case testing.Short():
		return max(1, n/4)
	}
	return max(1, n/25)
}

func TestJournal_SurvivesACrashAtEachFileCall(t *testing.T) {
	total := countCalls(t)
	for n := 1; n <= total; n += every(total) {
		for _, cut := range []bool{false, true} {
			for again := 0; again <= 30; again += every(100) {
				root := scratch(t)
				inBubble(t, func() {
					w := newFaultWorld(t, root, n)
					defer w.abandon()
					w.faulty = true
					w.fs.crashAt = n
					work(w)
					w.crash(cut, again)
					w.finish()
					w.crash(true, 0)
					w.finish()
				})
				_ = os.RemoveAll(root)
				if t.Failed() {
					t.Fatalf("crash at call %d of %d, power cut %v, again at %d", n, total, cut, again)
				}
			}
		}
	}
}

func TestJournal_SurvivesAFaultAtEachFileCall(t *testing.T) {
	total := countCalls(t)
	for n := 1; n <= total; n += every(total) {
		for _, fault := range []error{errInjected, unix.ENOSPC} {
			for _, calls := range []int{1, 25} {
				for _, cut := range []bool{false, true} {
					root := scratch(t)
					inBubble(t, func() {
						w := newFaultWorld(t, root, n)
						defer w.abandon()
						w.setFault(func(k int, call, _ string) error {
							if k >= n && k < n+calls && (errors.Is(fault, unix.EIO) || fills(call)) {
								return fault
							}
							return nil
						}, nil)
						work(w)
						w.crash(cut, 0)
						w.finish()
						w.crash(true, 0)
						w.finish()
					})
					_ = os.RemoveAll(root)
					if t.Failed() {
						t.Fatalf("%v at call %d of %d, %d times, power cut %v", fault, n, total, calls, cut)
					}
				}
			}
		}
	}
}

// fills reports whether a call can fail because the disk is full.
func fills(call string) bool {
	return slices.Contains([]string{"write", "create", "sync", "syncDir", "rename", "mkdir", "allocate"}, call)
}

// A page that cannot be read costs what is on it, and no more.
func TestRecovery_SurvivesABadPage(t *testing.T) {
	with(t, func(o *Options) { o.segment = 1 << 20 }, func(w *world) {
		w.setFault(nil, func(string) error { return errInjected })
		for i := range uint64(60) {
			w.commit(w.batch("a", 1+i, 1, 300))
		}
		w.abandon()
		w.fs, w.db = w.fs.kill(), newFakeDB(1)
		w.o.wrap = nil
		dir, err := os.Open(w.fs.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		j, err := Open(dir, w.fs.dir, w.db, Options{
			Reserve: 1,
			wrap:    func(f fileSystem) fileSystem { return badPages{f} },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		s := j.Stats()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		rows := len(w.db.all())
		if rows < 46 || rows == 60 || s.Damaged < pageSize {
			t.Errorf("%d rows of 60, %+v", rows, s)
		}
		w.db = newFakeDB(1)
	})
}

// badPages is a file system on which the third page of each segment cannot be read.
type badPages struct{ fileSystem }

func (b badPages) open(name string) (file, error) {
	f, err := b.fileSystem.open(name)
	if err == nil && filepath.Ext(name) == ".seg" {
		f = badFile{f}
	}
	return f, err
}

func (b badPages) holds(name string, f file) (bool, error) {
	if bad, ok := f.(badFile); ok {
		f = bad.file
	}
	return b.fileSystem.holds(name, f)
}

type badFile struct{ file }

func (f badFile) ReadAt(b []byte, off int64) (int, error) {
	const from, to = 2 * pageSize, 3 * pageSize
	if off < to && off+int64(len(b)) > from {
		return 0, errInjected
	}
	n, err := f.file.ReadAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Random bytes, and records of another segment, are no records.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("WSRR"), uint64(1), true)
	rec := (&record{kind: kindLines, sid: "a", seq: 1, n: 1, payload: []byte("x\n")}).append(nil)
	sealHead(rec, 1, 0, time.Unix(1, 0))
	f.Add(append(rec, rec...), uint64(1), false)
	f.Add(rec[:len(rec)-1], uint64(1), true)
	f.Fuzz(func(t *testing.T, b []byte, nonce uint64, torn bool) {
		from := int64(-1)
		s := &scanner{
			f: strings.NewReader(string(b)), nonce: nonce, end: int64(len(b)), torn: torn,
			damage: func(a, b int64) {
				if a >= b || a < from {
					t.Errorf("damage from %d to %d", a, b)
				}
				from = b
			},
		}
		for {
			at := s.off
			r, err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || r.next <= at || r.next > int64(len(b)) {
				t.Fatalf("%+v, %v", r, err)
			}
			if _, _, err := r.batch(nil); err != nil && r.kind == kindLines && nonce == 1<<63 {
				t.Fatal(err)
			}
		}
		if s.off > int64(len(b)) || !torn && s.off != int64(len(b)) {
			t.Fatalf("ended at %d of %d", s.off, len(b))
		}
	})
}

func TestSpans_AreASetOfNumbers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var s Spans
		var want [64]bool
		for range 30 {
			from, to := rnd.Uint64N(64), rnd.Uint64N(65)
			in := rnd.IntN(3) > 0
			if in {
				s.add(from, to)
			} else if from < to {
				s.remove(from, to)
			}
			n := uint64(0)
			for i := from; i < to; i++ {
				want[i] = in
			}
			for i := range want {
				if s.covers(uint64(i), uint64(i)+1) != want[i] {
					t.Fatalf("%v has %d: want %v", s, i, want[i])
				}
				if want[i] {
					n++
				}
			}
			if s.Count() != n {
				t.Fatalf("%v has %d numbers, want %d", s, s.Count(), n)
			}
			for i := 1; i < len(s); i++ {
				if s[i-1][1] >= s[i][0] {
					t.Fatalf("%v is not ascending", s)
				}
			}
			next := from
			s.split(from, to, func(a, b uint64, is bool) {
				for i := a; i < b; i++ {
					if want[i] != is || i != next {
						t.Fatalf("%v split from %d to %d: %d is %v", s, from, to, i, is)
					}
					next++
				}
			})
		}
	}
}
