// Package fsutil makes the names and contents of files durable.
package fsutil

import (
	"errors"
	"os"
	"path/filepath"
)

// SyncDir makes durable which files there are in a directory, and their names.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReplaceFile gives a file other contents, durably, and wholly or not at all. Only
// its owner can read it.
func ReplaceFile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	next := filepath.Join(dir, "."+name+".new")
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return SyncDir(filepath.Dir(path))
}
