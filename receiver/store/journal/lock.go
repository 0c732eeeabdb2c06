package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

// LockDir opens a store's directory, which is made if it is missing, and locks it
// until it is closed. It returns receiver.ErrInUse if another process has locked it.
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
			err = receiver.ErrInUse
		}
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}
