package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// strictFS is a file system in memory that keeps no promise it did not make:
// after a power cut, writes that were not synced are there or not, sector by
// sector, in any order; names that were not synced are there up to some moment;
// a file's bytes survive only if they were synced, whatever its name does.
type strictFS struct {
	mu      *sync.Mutex // of all lives: their files are the same
	rnd     *rand.Rand
	names   map[string]*inode // now
	log     []func(map[string]*inode)
	disk    map[string]*inode // names as of the last syncDir
	space   int64             // bytes for all files
	place   string            // home
	calls   int
	fault   func(n int, call, name string) error // asked before the n-th call
	crashAt int                                  // the process dies at its n-th call; 0: not
	dead    bool                                 // the process that used it is gone
	wasCut  bool                                 // it came up after a power cut
	boot    byte                                 // counts starts of the machine
	begun   time.Time                            // when this one was
}

type inode struct {
	now    []byte // what a reader sees
	disk   []byte // what a power cut leaves for sure
	writes []write
	failed bool           // a sync failed: the kernel has forgotten that the pages are dirty
	bad    map[int64]bool // pages that the disk cannot read, until they are written as a whole
}

type write struct {
	off  int64
	data []byte
}

const sector = 512

var (
	errCrashed = errors.New("the process is dead")
	errDies    = fmt.Errorf("%w, from this call on", errCrashed)
	errBadPage = fmt.Errorf("bad page: %w", unix.EIO)
	errShort   = errors.New("short write") // asks writeAt for half a write and ENOSPC
)

func newStrictFS(seed uint64) *strictFS {
	return &strictFS{
		mu: new(sync.Mutex), rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, disk: map[string]*inode{},
		space: 1 << 40, place: "here", begun: time.Now(),
	}
}

// call counts a call and asks for its fault; mu is held.
func (s *strictFS) call(call, name string) error {
	if s.dead {
		return errCrashed
	}
	s.calls++
	if s.calls == s.crashAt {
		s.dead = true
		return errDies
	}
	if s.fault != nil {
		return s.fault(s.calls, call, name)
	}
	return nil
}

func (s *strictFS) alter(f func(map[string]*inode)) {
	f(s.names)
	s.log = append(s.log, f)
}

func (s *strictFS) open(name string) (file, error)           { return s.openFor("open", name) }
func (s *strictFS) openForWriting(name string) (file, error) { return s.openFor("change", name) }

func (s *strictFS) openFor(call, name string) (file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(call, name); err != nil {
		return nil, err
	}
	i := s.names[name]
	if i == nil {
		return nil, fs.ErrNotExist
	}
	return &strictFile{s, i, name}, nil
}

func (s *strictFS) create(name string) (file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("create", name); err != nil {
		return nil, err
	}
	i := &inode{}
	s.alter(func(m map[string]*inode) { m[name] = i })
	return &strictFile{s, i, name}, nil
}

func (s *strictFS) list(dir string) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("list", dir); err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	for name := range s.names {
		if path.Dir(name) == dir {
			entries = append(entries, entry(name))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (s *strictFS) rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("rename", to); err != nil {
		return err
	}
	if s.names[from] == nil {
		return fs.ErrNotExist
	}
	s.alter(func(m map[string]*inode) {
		if i := m[from]; i != nil {
			delete(m, from)
			m[to] = i
		}
	})
	return nil
}

func (s *strictFS) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("remove", name); err != nil {
		return err
	}
	if s.names[name] == nil {
		return fs.ErrNotExist
	}
	s.alter(func(m map[string]*inode) { delete(m, name) })
	return nil
}

func (s *strictFS) mkdir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call("mkdir", name)
}

func (s *strictFS) syncDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("syncDir", name); err != nil {
		return err
	}
	s.apply(len(s.log))
	return nil
}

// apply makes the first n changes of names durable.
func (s *strictFS) apply(n int) {
	for _, f := range s.log[:n] {
		f(s.disk)
	}
	s.log = s.log[n:]
}

func (s *strictFS) freeBytes() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freeLocked(), s.call("free", ".")
}

func (s *strictFS) freeLocked() int64 {
	free := s.space
	for _, i := range s.names {
		free -= int64(len(i.now))
	}
	return free
}

func (s *strictFS) home() string { return s.place }

func (s *strictFS) recreate() (bool, error) { return false, nil }

func (s *strictFS) clock() (boot [16]byte, up time.Duration) {
	boot[0] = s.boot
	return boot, time.Since(s.begun)
}

func (s *strictFS) holds(name string, f file) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("holds", name); err != nil {
		return false, err
	}
	return s.names[name] == f.(*strictFile).i, nil
}

// kill is kill -9: what was written stays. The old process can do nothing more
// with the file system that comes back.
func (s *strictFS) kill() *strictFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	next := newStrictFS(s.rnd.Uint64())
	next.mu, next.names, next.log, next.disk, next.space, next.place = s.mu, s.names, s.log, s.disk, s.space, s.place
	next.boot, next.begun = s.boot, s.begun
	return next
}

// powerCut is the end of the machine.
func (s *strictFS) powerCut() *strictFS {
	next := s.kill()
	next.mu.Lock()
	defer next.mu.Unlock()
	next.wasCut, next.boot, next.begun = true, next.boot+1, time.Now()
	next.apply(next.rnd.IntN(len(next.log) + 1))
	next.log = nil
	next.names = map[string]*inode{}
	done := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(next.disk)) {
		i := next.disk[name]
		if done[i] == nil {
			done[i] = i.afterPowerCut(next.rnd)
		}
		next.names[name] = done[i]
	}
	next.disk = map[string]*inode{}
	maps.Copy(next.disk, next.names)
	return next
}

func (i *inode) afterPowerCut(rnd *rand.Rand) *inode {
	b := slices.Clone(i.disk)
	keep := rnd.IntN(3) // of what was not synced: little, half, most
	for _, w := range i.writes {
		for at := 0; at < len(w.data); {
			n := min(len(w.data)-at, sector-int(w.off+int64(at))%sector)
			if rnd.IntN(4) <= keep {
				b = put(b, w.data[at:at+n], w.off+int64(at))
			}
			at += n
		}
	}
	return &inode{now: slices.Clone(b), disk: b}
}

// evict is the kernel in need of memory: it forgets what it holds clean. Where
// a sync failed the file goes back to what the disk has.
func (s *strictFS) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.names {
		if !i.failed {
			continue
		}
		i.now, i.failed = slices.Clone(i.disk), false
		for _, w := range i.writes {
			i.now = put(i.now, w.data, w.off)
		}
	}
}

// damage changes bytes of a file where they lie, on the disk and in memory.
func (s *strictFS) damage(name string, off int, change func(b []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.names[name]
	change(i.now[off:])
	if off < len(i.disk) {
		change(i.disk[off:])
	}
}

// bytes is what a file holds; nil: there is none.
func (s *strictFS) bytes(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.names[name]; i != nil {
		return slices.Clone(i.now)
	}
	return nil
}

// held is what the segments take, and the spare.
func (s *strictFS) held() (n int64) {
	for _, name := range append(s.segments(), spareName) {
		n += int64(len(s.bytes(name)))
	}
	return n
}

// segments are the names of the segments, in order.
func (s *strictFS) segments() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.names {
		if _, ok := segmentID(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// spoil makes a page of a file one that cannot be read.
func (s *strictFS) spoil(name string, page int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name].bad = map[int64]bool{page: true}
}

// cure is what a write does to bad pages; but it needs to read those that it
// does not cover.
func (i *inode) cure(from, to int64) error {
	for page := range i.bad {
		begin, end := page*pageLen, (page+1)*pageLen
		switch {
		case to <= begin || from >= end:
		case from <= begin && to >= end:
			delete(i.bad, page)
		default:
			return errBadPage
		}
	}
	return nil
}

// backup is a copy as a backup takes it: what can be read now.
func (s *strictFS) backup() *strictFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newStrictFS(s.rnd.Uint64())
	c.space, c.place = s.space, s.place
	for name, i := range s.names {
		c.names[name] = &inode{now: slices.Clone(i.now), disk: slices.Clone(i.now)}
		c.disk[name] = c.names[name]
	}
	return c
}

func put(b, data []byte, off int64) []byte {
	if n := off + int64(len(data)); n > int64(len(b)) {
		b = append(b, make([]byte, n-int64(len(b)))...)
	}
	copy(b[off:], data)
	return b
}

type strictFile struct {
	s    *strictFS
	i    *inode
	name string
}

func (f *strictFile) ReadAt(b []byte, off int64) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.call("read", f.name); err != nil {
		return 0, err
	}
	if off >= int64(len(f.i.now)) {
		return 0, io.EOF
	}
	for page := off / pageLen; page*pageLen < off+int64(len(b)); page++ {
		if f.i.bad[page] {
			n := max(0, page*pageLen-off) * int64(f.s.rnd.IntN(2)) // what is before it, or nothing: file systems differ
			return copy(b[:n], f.i.now[off:]), errBadPage
		}
	}
	n := copy(b, f.i.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *strictFile) writeAt(b []byte, off int64) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	err := f.s.call("write", f.name)
	grow := off + int64(len(b)) - int64(len(f.i.now))
	if err == nil && grow > 0 && grow > f.s.freeLocked() {
		err = errShort
	}
	switch {
	case errors.Is(err, errShort):
		b, err = b[:len(b)/2], unix.ENOSPC
	case errors.Is(err, errDies):
		b = b[:len(b)/2]
	case err != nil:
		return err
	default:
		if err := f.i.cure(off, off+int64(len(b))); err != nil {
			return err
		}
	}
	f.i.now = put(f.i.now, b, off)
	f.i.writes = append(f.i.writes, write{off, slices.Clone(b)})
	return err
}

func (f *strictFile) sync() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.call("sync", f.name); err != nil {
		if !errors.Is(err, errCrashed) {
			f.i.writes, f.i.failed = nil, true // marked clean, and not on disk
		}
		return err
	}
	for _, w := range f.i.writes {
		f.i.disk = put(f.i.disk, w.data, w.off)
	}
	f.i.writes = nil
	return nil
}

func (f *strictFile) size() (int64, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return int64(len(f.i.now)), f.s.call("size", f.name)
}

func (f *strictFile) Close() error { return nil }

type entry string

func (e entry) Name() string               { return path.Base(string(e)) }
func (e entry) IsDir() bool                { return false }
func (e entry) Type() fs.FileMode          { return 0 }
func (e entry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
