package buffer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileSystem is all that the queue asks of the operating system, so that tests
// can take it away. Names are paths inside the queue's directory; "." is itself.
type fileSystem interface {
	open(name string) (file, error)   // for reading and writing; fs.ErrNotExist
	create(name string) (file, error) // truncated if it is there
	list(name string) ([]fs.DirEntry, error)
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error
	syncDir(name string) error
	free() (int64, error) // bytes on the file system that we may take
	home() string         // differs in another place: a copy, a clone, a restored backup
}

// file is an open file of a fileSystem. writeAt writes all or returns an error.
type file interface {
	io.ReaderAt
	io.Closer
	writeAt(b []byte, off int64) error
	sync() error // fdatasync(2): the data, and the size if it changed
	size() (int64, error)
}

// osDir is the real thing: a directory.
type osDir string

func (d osDir) path(name string) string { return filepath.Join(string(d), name) }

func (d osDir) open(name string) (file, error) {
	return newOSFile(os.OpenFile(d.path(name), os.O_RDWR|unix.O_NOFOLLOW, 0))
}

func (d osDir) create(name string) (file, error) {
	return newOSFile(os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600))
}

func (d osDir) list(name string) ([]fs.DirEntry, error) { return os.ReadDir(d.path(name)) }
func (d osDir) rename(from, to string) error            { return os.Rename(d.path(from), d.path(to)) }
func (d osDir) remove(name string) error                { return os.Remove(d.path(name)) }

func (d osDir) mkdir(name string) error {
	if err := os.Mkdir(d.path(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (d osDir) syncDir(name string) error {
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

func (d osDir) free() (int64, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(string(d), &st) }); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// home is the machine and the directory's inode. The machine id is hashed: it
// is not for other eyes (machine-id(5)).
func (d osDir) home() string {
	id, _ := os.ReadFile("/etc/machine-id") // none is a home like any other
	var st unix.Stat_t
	_ = ignoringEINTR(func() error { return unix.Stat(string(d), &st) }) // it is open: it is there
	return fmt.Sprintf("%x/%d", sha256.Sum256(append([]byte("wsrelay "), id...)), st.Ino)
}

// makeDir makes dir, and what is missing above it, so that they stay after a
// power cut; syncDir is how.
func makeDir(dir string, syncDir func(name string) error) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(parent, syncDir); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700) // once: in /proc there can be none
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return syncDir(parent)
}

type osFile struct{ *os.File }

func newOSFile(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err // not a file that holds a nil pointer
	}
	return osFile{f}, nil
}

func (f osFile) writeAt(b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

func (f osFile) sync() error {
	return os.NewSyscallError("fdatasync", ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

// stubborn reads again what could not be read, a few times in all: some disks
// need several tries.
type stubborn struct {
	io.ReaderAt
	left int
}

func insist(f io.ReaderAt) *stubborn { return &stubborn{f, 3} }

func (s *stubborn) ReadAt(b []byte, off int64) (n int, err error) {
	for {
		n, err = s.ReaderAt.ReadAt(b, off)
		if err == nil || errors.Is(err, io.EOF) || s.left == 0 {
			return n, err
		}
		s.left--
		time.Sleep(retryFirst)
	}
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f osFile) size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
