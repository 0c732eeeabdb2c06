package buffer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/internal/fsutil"
)

// fileSystem is all that the queue asks of the operating system, so that tests
// can take it away. Names are paths inside the queue's directory; "." is itself.
// No link is followed.
type fileSystem interface {
	open(name string) (file, error)           // for reading; fs.ErrNotExist, errStrange
	openForWriting(name string) (file, error) // for reading and writing; the same errors
	create(name string) (file, error)         // for both, empty; a former file of that name is removed
	holds(name string, f file) (bool, error)  // the name leads to f, and not to another file or none
	list(name string) ([]fs.DirEntry, error)
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error
	syncDir(name string) error
	recreate() (bool, error)                  // creates the directory again if it was removed
	freeBytes() (int64, error)                // bytes on the file system that we may take
	home() string                             // differs in another place: a copy, a clone, a restored backup
	clock() (boot [16]byte, up time.Duration) // which start of the machine this is, and how long ago it was
}

// file is an open file of a fileSystem. writeAt writes all or returns an error.
type file interface {
	io.ReaderAt
	io.Closer
	writeAt(b []byte, off int64) error
	sync() error // fdatasync(2): the data, and the size if it changed
	size() (int64, error)
}

// errStrange means that a name leads to something that the queue has not made: a
// link, a directory, a device, a file with another name elsewhere.
var errStrange = errors.New("not a file of the queue")

// osDir is the real thing: a directory. It is an open descriptor, and names are
// looked up in that. So whatever is mounted over the path, or is moved there,
// the queue keeps its files. os.Root would do but for links: it follows those
// that lead to other files of the directory.
type osDir struct {
	path string                  // where it was opened, and would be made again
	dir  atomic.Pointer[os.File] // the lock is on this descriptor, once it is taken
	keep []*os.File              // former ones, which others may be using
}

// openDir opens the directory at path, to look into it.
func openDir(path string) (*osDir, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d := &osDir{path: path}
	d.dir.Store(f)
	return d, nil
}

// ownDir opens the directory at path and takes the lock, if nobody has it. The
// directory must be ours or root's: what another user puts there, that user can
// change at any time.
func ownDir(path string) (*osDir, error) {
	d, err := openDir(path)
	if err != nil {
		return nil, err
	}
	st, err := stat(d.dir.Load())
	if err == nil && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		err = fmt.Errorf("%w: %s belongs to the user with id %d, and wsrelay runs as the user with id %d", ErrForeign,
			path, st.Uid, os.Geteuid())
	}
	if err == nil {
		err = d.lock(unix.LOCK_NB)
	}
	if err != nil && !errors.Is(err, ErrLocked) {
		return nil, errors.Join(err, d.Close())
	}
	return d, err // also where it is locked: to wait for it
}

// lock takes the lock, or, with LOCK_NB, reports that another process has it. It is on the
// directory itself: no file is there that could be removed.
func (d *osDir) lock(how int) error {
	f := d.dir.Load()
	err := ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|how) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("%w: flock %s: %w", errNoLock, d.path, err)
	}
	return nil
}

// stat may be called while another goroutine closes the file: the consumer, say,
// closes its segment while the writer looks whether the directory still has it.
func stat(f *os.File) (syscall.Stat_t, error) {
	info, err := f.Stat()
	if err != nil {
		return syscall.Stat_t{}, err
	}
	return *info.Sys().(*syscall.Stat_t), nil
}

// Close releases the directory and the lock.
func (d *osDir) Close() error {
	err := d.dir.Load().Close()
	for _, f := range d.keep {
		err = errors.Join(err, f.Close())
	}
	return err
}

// at calls f with the descriptor of the folder that name is in, and its name
// there.
func (d *osDir) at(call, name string, f func(dir int, base string) error) error {
	dir, folder, base := d.dir.Load(), filepath.Dir(name), filepath.Base(name)
	err := ignoringEINTR(func() error {
		if folder == "." {
			return f(int(dir.Fd()), base)
		}
		fd, err := unix.Openat(int(dir.Fd()), folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // nothing was written to it
		return f(fd, base)
	})
	runtime.KeepAlive(dir)
	if err != nil {
		return &fs.PathError{Op: call, Path: d.path + "/" + name, Err: err}
	}
	return nil
}

// openAt opens a file, if necessary after a chmod: it is ours.
func (d *osDir) openAt(name string, flags int) (file, error) {
	f, err := d.openOnce(name, flags)
	if errors.Is(err, unix.EACCES) && d.at("chmod", name, func(dir int, base string) error {
		return unix.Fchmodat(dir, base, 0o600, 0) // no link: that would not be EACCES
	}) == nil {
		return d.openOnce(name, flags)
	}
	return f, err
}

// openOnce opens a file. O_NONBLOCK is for what is none: a named pipe would wait.
func (d *osDir) openOnce(name string, flags int) (file, error) {
	f, err := d.openAny(name, flags)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENXIO) ||
		errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: %w", errStrange, err)
	}
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || flags&unix.O_RDWR != 0 && st.Nlink > 1) {
		err = fmt.Errorf("%w: %s", errStrange, f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return osFile{f}, nil
}

func (d *osDir) open(name string) (file, error)           { return d.openAt(name, unix.O_RDONLY) }
func (d *osDir) openForWriting(name string) (file, error) { return d.openAt(name, unix.O_RDWR) }

func (d *osDir) create(name string) (file, error) {
	if err := ignore(d.remove(name), fs.ErrNotExist); err != nil {
		return nil, err
	}
	return d.openAt(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

func (d *osDir) holds(name string, f file) (bool, error) {
	ours, err := stat(f.(osFile).File)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	err = d.at("stat", name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err == nil && st.Dev == ours.Dev && st.Ino == ours.Ino, ignore(err, fs.ErrNotExist)
}

// openAny opens whatever has the name, a folder too.
func (d *osDir) openAny(name string, flags int) (f *os.File, err error) {
	err = d.at("open", name, func(dir int, base string) error {
		fd, err := unix.Openat(dir, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err == nil {
			f = os.NewFile(uintptr(fd), d.path+"/"+name)
		}
		return err
	})
	return f, err
}

func (d *osDir) list(name string) ([]fs.DirEntry, error) {
	f, err := d.openAny(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (d *osDir) rename(from, to string) error {
	return d.at("rename", from, func(fromDir int, fromBase string) error {
		return d.at("rename", to, func(toDir int, toBase string) error {
			return unix.Renameat(fromDir, fromBase, toDir, toBase)
		})
	})
}

func (d *osDir) remove(name string) error {
	return d.at("remove", name, func(dir int, base string) error { return unix.Unlinkat(dir, base, 0) })
}

func (d *osDir) mkdir(name string) error {
	err := d.at("mkdir", name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) })
	return ignore(err, fs.ErrExist)
}

func (d *osDir) syncDir(name string) error {
	f, err := d.openAny(name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *osDir) removed() bool {
	st, err := stat(d.dir.Load())
	return err == nil && st.Nlink == 0
}

// remake makes the directory again, with the lock on it, if it was removed. What
// is at the path by then may be another queue: that is left alone.
func (d *osDir) recreate() (bool, error) {
	if !d.removed() {
		return false, nil
	}
	if err := makeDir(d.path, fsutil.SyncDir); err != nil {
		return false, err
	}
	next, err := ownDir(d.path)
	if err == nil {
		if _, err = queueFiles(next); err == nil {
			err = fmt.Errorf("%w: another queue is in %s now", ErrLocked, d.path)
		}
		err = ignore(err, fs.ErrNotExist)
	}
	if err != nil {
		if next != nil {
			_ = next.Close() // nothing was done with it
		}
		return false, err
	}
	d.keep = append(d.keep, d.dir.Load())
	d.dir.Store(next.dir.Load())
	return true, nil
}

// queueFiles are the names of what a queue is made of. Where no queue is, the error is
// fs.ErrNotExist.
func queueFiles(d *osDir) (names []string, err error) {
	entries, err := d.list(".")
	for _, e := range entries {
		if _, ok := segmentID(e.Name()); ok || e.Name() == cursorName || e.Name() == identityName {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 && err == nil {
		err = fmt.Errorf("%s: there is no queue: %w", d.path, fs.ErrNotExist)
	}
	return names, err
}

// IsQueue reports whether a queue is in dir. An error means that it could not look.
func IsQueue(dir string) (bool, error) {
	d, err := openDir(dir)
	if err != nil {
		return false, err
	}
	_, err = queueFiles(d)
	return err == nil, errors.Join(ignore(err, fs.ErrNotExist), d.Close())
}

// freeBytes is as much as one could want where the file system does not say: some
// have no blocks.
func (d *osDir) freeBytes() (int64, error) {
	var st unix.Statfs_t
	dir := d.dir.Load()
	if err := ignoringEINTR(func() error { return unix.Fstatfs(int(dir.Fd()), &st) }); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	if st.Blocks == 0 {
		return math.MaxInt64 / 4, nil
	}
	return int64(min(st.Bavail, math.MaxInt64/4/uint64(st.Bsize))) * st.Bsize, nil
}

// home is the machine and the directory's inode. The machine id is hashed: it
// is not for other eyes (machine-id(5)).
func (d *osDir) home() string {
	id, _ := os.ReadFile("/etc/machine-id") // none is a home like any other
	st, _ := stat(d.dir.Load())             // it is open: it is there
	return fmt.Sprintf("%x/%d", sha256.Sum256(append([]byte("wsrelay "), id...)), st.Ino)
}

// clock continues while the machine sleeps, and no other clock's mistakes are in
// it.
func (d *osDir) clock() (boot [16]byte, up time.Duration) {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it all that is on disk is of this start
	_, _ = hex.Decode(boot[:], bytes.ReplaceAll(bytes.TrimSpace(text), []byte("-"), nil))
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // cannot fail
	return boot, time.Duration(t.Nano())
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

func (f osFile) writeAt(b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

func (f osFile) sync() error {
	return os.NewSyscallError("fdatasync", ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

// retryReaderAt reads again what could not be read, a few times in all: some disks
// need several tries.
type retryReaderAt struct {
	io.ReaderAt
	left int
}

func withRetry(f io.ReaderAt) *retryReaderAt { return &retryReaderAt{f, 3} }

func (s *retryReaderAt) ReadAt(b []byte, off int64) (n int, err error) {
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
