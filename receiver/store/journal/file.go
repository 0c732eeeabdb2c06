package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// fileSystem is everything that the journal asks of the operating system, so
// that tests can inject faults. Names are paths inside the store's directory;
// "." is the directory itself.
type fileSystem interface {
	open(name string) (file, error)   // for reading and writing; fs.ErrNotExist
	create(name string) (file, error) // empty; a former file of that name is removed
	list(name string) ([]string, error)
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error // no error if it exists
	syncDir(name string) error
	freeBytes() (int64, error)               // bytes on the file system that we may use
	holds(name string, f file) (bool, error) // the name leads to this file
	same() error                             // errMoved unless the path still leads to the directory
}

// file is an open file of a fileSystem. writeAt writes all or returns an error.
type file interface {
	io.ReaderAt
	io.Closer
	writeAt(b []byte, off int64) error
	sync() error // fdatasync(2)
	size() (int64, error)
	allocate(off, n int64) error // makes the file longer by n zero bytes whose space is taken
}

// errMoved indicates that the path of the store leads to another directory than
// the one that is open, or to none.
var errMoved = errors.New("the store's directory was moved or replaced")

// osDir is the real file system. Names are looked up in the open directory, so
// moving it, or mounting something over its path, does not separate its files.
type osDir struct {
	dir  *os.File // the caller's
	path string
	root *os.Root
}

func openDir(dir *os.File, path string) (*osDir, error) {
	root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
	if err != nil {
		return nil, err
	}
	return &osDir{dir: dir, path: path, root: root}, nil
}

func (d *osDir) Close() error { return d.root.Close() }

func (d *osDir) openFile(name string, flags int) (file, error) {
	f, err := d.root.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err // not f: a nil pointer in an interface is not nil
	}
	return osFile{f}, nil
}

func (d *osDir) open(name string) (file, error) { return d.openFile(name, os.O_RDWR) }

func (d *osDir) create(name string) (file, error) {
	if err := ignore(d.remove(name), fs.ErrNotExist); err != nil {
		return nil, err
	}
	return d.openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *osDir) list(name string) ([]string, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (d *osDir) rename(from, to string) error { return d.root.Rename(from, to) }
func (d *osDir) remove(name string) error     { return d.root.Remove(name) }
func (d *osDir) mkdir(name string) error      { return ignore(d.root.Mkdir(name, 0o700), fs.ErrExist) }

func (d *osDir) syncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *osDir) freeBytes() (int64, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Fstatfs(int(d.dir.Fd()), &st) }); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	if st.Blocks == 0 { // some file systems do not tell
		return 1 << 60, nil
	}
	return int64(min(st.Bavail, 1<<60/uint64(st.Bsize))) * st.Bsize, nil
}

func (d *osDir) holds(name string, f file) (bool, error) {
	there, err := d.root.Lstat(name)
	if err != nil {
		return false, ignore(err, fs.ErrNotExist)
	}
	ours, err := f.(osFile).Stat()
	return err == nil && os.SameFile(there, ours), err
}

func (d *osDir) same() error {
	ours, err := d.dir.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	if !os.SameFile(ours, there) {
		return fmt.Errorf("%w: %s is another directory now", errMoved, d.path)
	}
	return nil
}

type osFile struct{ *os.File }

func (f osFile) writeAt(b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

func (f osFile) sync() error {
	return os.NewSyscallError("fdatasync", ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// allocate saves time in each sync that follows: neither the size nor the place
// of the blocks changes by a write. File systems that cannot do it do without.
func (f osFile) allocate(off, n int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, off, n) })
	return os.NewSyscallError("fallocate", ignore(err, unix.EOPNOTSUPP))
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ignore returns nil for the error that is expected.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
