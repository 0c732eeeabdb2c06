package buffer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpen_WaitsForTheLockInTurn(t *testing.T) {
	dir := t.TempDir()
	q, _ := mustOpen(t, dir, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Open(ctx, dir, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v while another has the queue", err)
	}
	opened := make(chan error)
	go func() {
		q, _, err := Open(t.Context(), dir, Options{})
		if err == nil {
			err = q.Close(t.Context())
		}
		opened <- err
	}()
	if _, err := q.Append(t.Context(), goldenLines(0), 5, Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func mustOpenDir(t *testing.T, dir string) *osDir {
	t.Helper()
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOSDir_FollowsNoLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := mustOpenDir(t, dir)
	for name, open := range map[string]func(string) (file, error){"open": d.open, "change": d.openForWriting} {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, spareName)),
			os.Symlink(elsewhere, filepath.Join(dir, spareName))); err != nil {
			t.Fatal(err)
		}
		if _, err := open(spareName); !errors.Is(err, errStrange) {
			t.Errorf("%s: got %v, want errStrange", name, err)
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, spareName)),
			os.Link(elsewhere, filepath.Join(dir, spareName))); err != nil {
			t.Fatal(err)
		}
		if f, err := open(spareName); name == "change" && !errors.Is(err, errStrange) {
			t.Errorf("%s of a second name: got %v, want errStrange", name, err)
		} else if err == nil {
			_ = f.Close()
		}
	}
	f, err := d.create(spareName)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.writeAt([]byte("x"), 0), f.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "precious" {
		t.Errorf("got %q, %v", b, err)
	}
}

// IDENTITY alone is left: numbers up to any may have been used.
func TestOpen_StartsANewStreamWhereOnlyIdentityIsLeft(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		was := q.Stats().SID
		closeIn(t, q)
		for _, name := range append(fs.segments(), cursorName) {
			if err := fs.remove(name); err != nil {
				t.Fatal(err)
			}
		}
		q, rec := openIn(t, fs, Options{Limit: modelLimit})
		defer closeIn(t, q)
		if got := q.Stats().SID; got == was || !rec.NewSID {
			t.Errorf("stream %s, was %s; reported as new: %v", got, was, rec.NewSID)
		}
	})
}

func TestMakeDir_SyncsEachParentOfWhatItMade(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	var synced []string
	sync := func(name string) error { synced = append(synced, name); return nil }
	for range 2 { // the second time there is nothing to make
		if err := makeDir(dir, sync); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{top, filepath.Join(top, "a"), filepath.Join(top, "a", "b")}
	if !slices.Equal(synced, want) {
		t.Errorf("synced %v, want %v", synced, want)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := makeDir("relative-"+t.Name(), func(name string) error {
		if name != "." {
			t.Errorf("synced %q, want the working directory", name)
		}
		return os.Remove("relative-" + t.Name())
	}); err != nil {
		t.Error(err)
	}
}

func TestOpen_RemovesASpareThatIsLargerThanASegment(t *testing.T) {
	for size, stays := range map[int]bool{modelLimit / 8: true, modelLimit/8 + 1: false} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			writeFile(t, fs, spareName, make([]byte, size))
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			defer closeIn(t, q)
			if got := fs.bytes(spareName) != nil; got != stays {
				t.Errorf("a spare of %d bytes stays: %v", size, got)
			}
		})
	}
}

// R3: what Open reads does not grow with the backlog, but for the headers.
func TestOpen_ReadsOnlyTheHeadersOfOldSegments(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		const segments = 50
		for id := range uint64(segments) {
			var blocks []*Block
			for k := range uint64(100) {
				blocks = append(blocks, lineBlock(id*300+3*k+1, id*300+3*k+4))
			}
			segmentOfBlocks(t, fs, id+1, id*300+1, blocks...)
		}
		reads := map[string]int{}
		fs.setFault(func(_ int, call, name string) error {
			if call == "read" {
				reads[name]++
			}
			return nil
		})
		q, _ := openIn(t, fs, Options{Limit: modelLimit})
		for id := range uint64(segments - 1) {
			if got := reads[segmentName(id+1)]; got != 1 {
				t.Errorf("%d reads of segment %d, want its header's", got, id+1)
			}
		}
		if reads[segmentName(segments)] < 100 {
			t.Errorf("%d reads of the newest segment, want all its blocks'", reads[segmentName(segments)])
		}
		fs.setFault(nil)
		closeIn(t, q)
	})
}

func TestOpen_WhereNoDirectoryCanBeMadeIsAnError(t *testing.T) {
	if _, _, err := Open(t.Context(), "/proc/none", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// The consumer closes a segment while the writer looks whether the directory still
// has it: what the writer then sees must not be another file that has its number.
// A pipe or a device could block, or never end.
func TestOSDir_OpensNothingButFiles(t *testing.T) {
	d := mustOpenDir(t, t.TempDir())
	mustBe(t, unix.Mkfifo(filepath.Join(d.path, "pipe"), 0o600))
	names := []string{"pipe"}
	if unix.Mknod(filepath.Join(d.path, "zero"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) == nil { // root
		names = append(names, "zero")
	}
	for _, name := range names {
		for call, open := range map[string]func(string) (file, error){"open": d.open, "change": d.openForWriting} {
			if f, err := open(name); !errors.Is(err, errStrange) {
				t.Errorf("%s %s: got %v, %v, want errStrange", call, name, f, err)
			}
		}
	}
}

func TestOSDir_HoldsWhatIsClosedMeanwhile(t *testing.T) {
	d, err := ownDir(t.TempDir())
	mustBe(t, err)
	defer d.Close()
	for range 100 {
		f, err := d.create("a.seg")
		mustBe(t, err)
		closed := make(chan error)
		go func() { closed <- f.Close() }()
		if ok, err := d.holds("a.seg", f); !ok && !errors.Is(err, fs.ErrClosed) {
			t.Errorf("holds: %v, %v", ok, err)
		}
		mustBe(t, <-closed)
	}
}
