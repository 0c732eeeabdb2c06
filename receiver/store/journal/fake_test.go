package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

var (
	errCrashed  = errors.New("the process is dead")
	errInjected = fmt.Errorf("injected: %w", unix.EIO)
)

// fakeRow is a row of the fake database.
type fakeRow struct {
	ID
	segment, text string
}

// fakeDB is a database that forgets any part of what is not behind a barrier, shows
// none of it, and after an error has any part of what it was to add.
type fakeDB struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	disk  []fakeRow
	mem   []fakeRow
	mark  string
	fault func(call string) error
	taken func(fakeRow) bool // by retention
	calls map[string]int
	dead  bool
}

func newFakeDB(seed uint64) *fakeDB {
	return &fakeDB{rnd: rand.New(rand.NewPCG(seed, 2)), calls: map[string]int{}}
}

// crash gives the database that comes up after the process has died.
func (d *fakeDB) crash() *fakeDB {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	next := newFakeDB(d.rnd.Uint64())
	next.disk, next.mark, next.taken = slices.Clone(d.disk), d.mark, d.taken
	keep := d.rnd.IntN(5)
	for _, r := range d.mem {
		if d.rnd.IntN(4) < keep {
			next.disk = append(next.disk, r)
		}
	}
	return next
}

// call begins a call: mu is held until the function it gives is called.
func (d *fakeDB) call(name string) (func(), error) {
	d.mu.Lock()
	d.calls[name]++
	if d.dead {
		return d.mu.Unlock, errCrashed
	}
	if d.fault != nil {
		return d.mu.Unlock, d.fault(name)
	}
	return d.mu.Unlock, nil
}

func (d *fakeDB) Add(_ context.Context, segment string, batches []receiver.Batch) error {
	end, err := d.call("Add")
	defer end()
	if d.dead {
		return err
	}
	add := func(r fakeRow) {
		if (err == nil || d.rnd.IntN(2) == 0) && (d.taken == nil || !d.taken(r)) {
			d.mem = append(d.mem, r)
		}
	}
	for i := range batches {
		b := &batches[i]
		if g := b.Gap; g != nil {
			add(fakeRow{ID{b.SID, g.Seq, g.N}, segment, g.Why})
			continue
		}
		for k, line := range b.Lines {
			add(fakeRow{ID{b.SID, b.Seq + uint64(k), 0}, segment, string(line)})
		}
	}
	return err
}

func (d *fakeDB) Barrier(context.Context) error {
	end, err := d.call("Barrier")
	defer end()
	if err == nil {
		d.disk, d.mem = append(d.disk, d.mem...), nil
	}
	return err
}

// all are the rows, behind a barrier or not.
func (d *fakeDB) all() []fakeRow {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Concat(d.disk, d.mem)
}

func (d *fakeDB) Count(_ context.Context, segment string) (n uint64, err error) {
	end, err := d.call("Count")
	defer end()
	for _, r := range d.disk {
		if r.segment == segment {
			n++
		}
	}
	return n, err
}

func (d *fakeDB) Each(_ context.Context, segment string, f func(ID)) error {
	end, err := d.call("Each")
	defer end()
	for _, r := range d.disk {
		if segment == "" || r.segment == segment {
			f(r.ID)
		}
	}
	return err
}

func (d *fakeDB) Sums(_ context.Context, sid string, from, to uint64, f func(seq uint64, crc uint32)) error {
	end, err := d.call("Sums")
	defer end()
	for _, r := range d.disk {
		if r.SID == sid && r.Gap == 0 && from <= r.Seq && r.Seq < to {
			f(r.Seq, crc32.Checksum([]byte(r.text), castagnoli))
		}
	}
	return err
}

func (d *fakeDB) Mark() (string, error) {
	end, err := d.call("Mark")
	defer end()
	return d.mark, err
}

func (d *fakeDB) SetMark(m string) error {
	end, err := d.call("SetMark")
	defer end()
	if err == nil {
		d.mark = m
	}
	return err
}

// cutFS is the real file system, and knows what of it is on the disk, so that a
// power cut can be had: only what was synced is there for sure.
type cutFS struct {
	fileSystem
	dir string

	mu      sync.Mutex
	rnd     *rand.Rand
	names   map[string]*node           // as they are now
	disk    map[string]*node           // as of the last sync of their directory
	log     []func(m map[string]*node) // changes since
	calls   int
	crashAt int // the process dies at this call; 0: not
	dead    bool
	fault   func(n int, call, name string) error
}

// node is a file. What a failed sync has left is on the disk or not, and no later
// sync changes that.
type node struct {
	disk   []byte
	writes []write
}

type write struct {
	off  int64
	data []byte
}

const sector = 512

func newCutFS(dir string, seed uint64) *cutFS {
	return &cutFS{dir: dir, rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]*node{}, disk: map[string]*node{}}
}

// call counts a call, and tells whether it fails.
func (c *cutFS) call(call, name string) error {
	if c.dead {
		return errCrashed
	}
	if c.calls++; c.calls == c.crashAt {
		c.dead = true
		return errCrashed
	}
	if c.fault != nil {
		return c.fault(c.calls, call, name)
	}
	return nil
}

func (c *cutFS) change(f func(m map[string]*node)) {
	f(c.names)
	c.log = append(c.log, f)
}

func (c *cutFS) open(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("open", name); err != nil {
		return nil, err
	}
	f, err := c.fileSystem.open(name)
	if err != nil {
		return nil, err
	}
	return &cutFile{f, c, c.names[name], name}, nil
}

func (c *cutFS) create(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("create", name); err != nil {
		return nil, err
	}
	f, err := c.fileSystem.create(name)
	if err != nil {
		return nil, err
	}
	n := &node{}
	c.change(func(m map[string]*node) { m[name] = n })
	return &cutFile{f, c, n, name}, nil
}

func (c *cutFS) list(name string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("list", name); err != nil {
		return nil, err
	}
	names, err := c.fileSystem.list(name)
	slices.Sort(names)
	return names, err
}

func (c *cutFS) rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("rename", to); err != nil {
		return err
	}
	err := c.fileSystem.rename(from, to)
	if err == nil {
		c.change(func(m map[string]*node) {
			if n := m[from]; n != nil {
				delete(m, from)
				m[to] = n
			}
		})
	}
	return err
}

func (c *cutFS) remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("remove", name); err != nil {
		return err
	}
	err := c.fileSystem.remove(name)
	if err == nil {
		c.change(func(m map[string]*node) { delete(m, name) })
	}
	return err
}

func (c *cutFS) mkdir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("mkdir", name); err != nil {
		return err
	}
	return c.fileSystem.mkdir(name)
}

func (c *cutFS) syncDir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("syncDir", name); err != nil {
		return err
	}
	c.apply(len(c.log))
	return nil
}

func (c *cutFS) apply(n int) {
	for _, f := range c.log[:n] {
		f(c.disk)
	}
	c.log = c.log[n:]
}

func (c *cutFS) holds(name string, f file) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("holds", name); err != nil {
		return false, err
	}
	return c.fileSystem.holds(name, f.(*cutFile).file)
}

func (c *cutFS) freeBytes() (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("free", "."); err != nil {
		return 0, err
	}
	return 1 << 40, nil
}

func (c *cutFS) same() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call("same", "."); err != nil {
		return err
	}
	return c.fileSystem.same()
}

// cutFile is a file of a cutFS.
type cutFile struct {
	file
	fs   *cutFS
	node *node
	name string
}

func (f *cutFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return 0, errCrashed
	}
	return f.file.ReadAt(b, off)
}

func (f *cutFile) writeAt(b []byte, off int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.call("write", f.name)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, errCrashed) && f.fs.calls == f.fs.crashAt {
		b = b[:f.fs.rnd.IntN(len(b)+1)] // a part of it is written
	} else if err != nil {
		return err
	}
	f.node.writes = append(f.node.writes, write{off, slices.Clone(b)})
	return errors.Join(err, f.file.writeAt(b, off))
}

func (f *cutFile) allocate(off, n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.call("allocate", f.name); err != nil {
		return err
	}
	f.node.writes = append(f.node.writes, write{off, make([]byte, n)})
	return f.file.allocate(off, n)
}

// sync records what is on the disk from now on; the real sync would add nothing.
func (f *cutFile) sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.call("sync", f.name)
	if f.fs.dead {
		return err
	}
	f.node.flush(func() bool { return err == nil || f.fs.rnd.IntN(2) == 0 })
	return err
}

// flush puts some of what was written on the disk, sector by sector, and forgets
// the rest: that is how the kernel treats a failed write.
func (n *node) flush(keep func() bool) {
	for _, w := range n.writes {
		for at := 0; at < len(w.data); {
			size := min(len(w.data)-at, sector-int(w.off+int64(at))%sector)
			if keep() {
				end := int(w.off) + at + size
				if len(n.disk) < end {
					n.disk = append(n.disk, make([]byte, end-len(n.disk))...)
				}
				copy(n.disk[int(w.off)+at:], w.data[at:at+size])
			}
			at += size
		}
	}
	n.writes = nil
}

// kill is kill -9: what was written stays. The process that died can do nothing
// more.
func (c *cutFS) kill() *cutFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	next := newCutFS(c.dir, c.rnd.Uint64())
	next.names, next.disk, next.log = c.names, c.disk, c.log
	return next
}

// powerCut is the end of the machine. What is on the disk is in another directory
// then, as real files.
func (c *cutFS) powerCut(dir string) (*cutFS, error) {
	next := c.kill()
	next.dir = dir
	next.apply(next.rnd.IntN(len(next.log) + 1))
	next.log = nil
	next.names = map[string]*node{}
	for _, sub := range []string{journalDir, damagedDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(next.disk)) {
		n := next.disk[name]
		keep := next.rnd.IntN(3)
		n.flush(func() bool { return next.rnd.IntN(4) <= keep })
		next.names[name] = n
		if err := os.WriteFile(filepath.Join(dir, name), n.disk, 0o600); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// evict has the kernel forget what it holds in memory: files show what is on the
// disk, and what is still to be written.
func (c *cutFS) evict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range c.names {
		text := &node{disk: slices.Clone(n.disk), writes: n.writes}
		text.flush(func() bool { return true })
		f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = f.WriteAt(text.disk, 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
