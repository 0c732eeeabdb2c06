package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"wsrelay/receiver"
)

// lockFile takes the lock at path and writes our pid into it. It returns
// receiver.ErrInUse if another process has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close() //nolint:errcheck // it is another's
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("%w: pid %s", receiver.ErrInUse, strings.TrimSpace(string(pid)))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// holdLock makes sure that the lock that we hold is the one that another process
// would meet. A user may have deleted the file as "stale".
func (s *Store) holdLock() error {
	if s.lock == nil {
		return os.ErrClosed
	}
	held, err := s.lock.Stat()
	if err != nil {
		return err
	}
	path := s.path + ".lock"
	if now, err := os.Stat(path); err == nil && os.SameFile(held, now) {
		return nil
	}
	f, err := lockFile(path)
	if err != nil {
		return err
	}
	s.log.Warn("lock file was removed", "path", path,
		"effect", "none: it has been made again", "hint", "leave it there: it keeps a second wsreceive from writing the same file")
	_ = s.lock.Close()
	s.lock = f
	return nil
}
