package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Backup writes a copy of the store, as it is at one moment, to a file that must
// not exist yet. Commits go on meanwhile; what they store after that moment is
// not in the copy, and the write-ahead log grows until the copy is done. The copy
// has no unused space in it and is on disk when Backup returns. Without error it
// is a store like any other; after one there is no file.
//
// Copying the file by other means while it is written gives no store.
func (r *Reader) Backup(ctx context.Context, path string) error {
	if err := r.backup(ctx, path); err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	return nil
}

func (r *Reader) backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// SQLite takes an empty file for one that is not there.
	if _, err := r.db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	return errors.Join(f.Sync(), f.Close(), syncDir(path))
}
