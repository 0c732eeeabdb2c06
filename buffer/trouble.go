package buffer

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// Trouble is what is wrong with a queue now, in the words of a log record.
type Trouble struct {
	What   string
	Effect string
	Hint   string
}

// String is what is wrong; "" if nothing is.
func (t *Trouble) String() string {
	if t == nil {
		return ""
	}
	return t.What
}

// Hint is what to do about an error of a queue. The queue tries again in any case.
func Hint(err error) string {
	is := func(errs ...error) bool {
		return slices.ContainsFunc(errs, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case is(errFull):
		return "bring the receiver back, or raise --queue-limit"
	case noSpace(err):
		return "make space on the file system of the queue directory (df, and df -i for its inodes); wsrelay continues automatically"
	case is(ErrForeign):
		return "run wsrelay as that user, give the directory to the user that wsrelay runs as (chown -R), or name another with --queue-dir"
	case is(ErrLocked):
		return "stop the other wsrelay, or move its queue to another directory; give each wsrelay an instance of its own"
	case is(errNoLock):
		return "put the queue on a file system that has locks (flock(2)), such as a local one"
	case is(unix.EROFS):
		return "mount the file system for writing (see dmesg for why it is read-only); what is in the queue is delivered meanwhile, and wsrelay continues automatically"
	case is(unix.EMFILE):
		return "raise the limit of open files of the process (LimitNOFILE= of the service, ulimit -n)"
	case is(unix.ENFILE):
		return "raise the limit of open files of the machine (sysctl fs.file-max)"
	case is(fs.ErrNotExist, unix.ELOOP, unix.ENOTDIR):
		return "name a directory that can be created, with --queue-dir"
	case is(unix.EACCES, unix.EPERM):
		return "make the queue directory and its files writable for the user that wsrelay runs as (chown -R, chmod 700, chattr -i)"
	}
	return "check the disk, and the permissions of the queue directory"
}
