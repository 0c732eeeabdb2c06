package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by LockDir when another process has the directory locked.
var ErrLocked = errors.New("another process has this store open")

// LockDir opens a store's directory, which is made if it is missing, and locks it
// until it is closed.
func LockDir(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}
