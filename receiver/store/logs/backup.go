package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"wsrelay/internal/fsutil"
)

// Backup writes a copy of the store to a directory that must not exist yet. Lines
// come in meanwhile; they wait in the journal until the snapshot is taken. The copy
// is a store with each line that was acknowledged before Backup began.
func (s *Store) Backup(ctx context.Context, to string) (err error) {
	if !filepath.IsAbs(to) {
		return fmt.Errorf("backup: %q is not an absolute path", to)
	}
	if within(to, s.dir) {
		return errors.New("backup: the copy cannot lie in the store's own directory")
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	b := &backup{Store: s, to: to}
	defer b.release()
	if err = b.freeze(ctx); err == nil {
		err = b.copy(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("backup to %s: %w", to, err), os.RemoveAll(to))
	}
	return nil
}

// within tells whether a path leads into a directory.
func within(path string, dir *os.File) bool {
	inside, err := dir.Stat()
	if err != nil {
		return false
	}
	path, err = filepath.EvalSymlinks(filepath.Dir(path))
	for ; err == nil; path = filepath.Dir(path) {
		if info, statErr := os.Stat(path); statErr == nil && os.SameFile(info, inside) {
			return true
		}
		if path == "/" {
			break
		}
	}
	return false
}

// backup is a copy that is being made. What it is made of is pinned first, at one
// moment: rows by snapshots, files by open descriptors and their sizes.
type backup struct {
	*Store
	to        string
	snapshots []string
	files     map[string]*os.File // by their path below the directory
	sizes     map[string]int64
}

// freeze pins the rows and then the journal while no row is added and no barrier
// passes. So each line is behind the journal's checkpoint with its row in the
// snapshot, or it is in a segment that is pinned.
func (b *backup) freeze(ctx context.Context) (err error) {
	b.db.adding.Lock()
	defer b.db.adding.Unlock()
	if err := b.writable(); err != nil {
		return err
	}
	if err := b.db.flush(ctx); err != nil {
		return err
	}
	if b.snapshots, err = b.library.snapshot(""); err != nil { // of all days
		return err
	}
	for ctx.Err() == nil {
		if err = b.pin(); !errors.Is(err, errMoved) {
			return err
		}
	}
	return ctx.Err()
}

var errMoved = errors.New("the journal made a checkpoint meanwhile")

// pin opens what is no snapshot. A checkpoint replaces a file, then deletes
// segments: if it does so meanwhile, all is opened again.
func (b *backup) pin() error {
	b.closeFiles()
	var ends map[string]int64
	for _, name := range []string{"CHECKPOINT", "database/MARK", "database/CLOCK", "database/" + deletedFile, "skeletons", "journal", "blobs"} {
		if name == "journal" {
			ends = b.Durable()
		}
		err := filepath.WalkDir(b.under(name), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			rel := strings.TrimPrefix(path, b.under("")+"/")
			end, durable := ends[rel]
			if name == "journal" && strings.HasSuffix(rel, ".seg") && !durable { // it began after that moment
				return nil
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			info, err := f.Stat()
			if err != nil {
				return errors.Join(err, f.Close())
			}
			b.files[rel], b.sizes[rel] = f, info.Size()
			if durable { // what follows may change while it is copied
				b.sizes[rel] = min(info.Size(), end)
			}
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist) && (name == "journal" || name == "blobs") && dirExists(b.under(name)):
			return errMoved
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	now, err := os.Stat(b.under("CHECKPOINT"))
	if errors.Is(err, fs.ErrNotExist) && b.files["CHECKPOINT"] == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if b.files["CHECKPOINT"] == nil {
		return errMoved
	}
	if pinned, err := b.files["CHECKPOINT"].Stat(); err != nil || !os.SameFile(pinned, now) {
		return errors.Join(errMoved, err)
	}
	return nil
}

func dirExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// incomplete lies in a copy until it is whole.
const incomplete = "INCOMPLETE"

func (b *backup) copy(ctx context.Context) error {
	if err := fsutil.ReplaceFile(filepath.Join(b.to, incomplete), nil); err != nil {
		return err
	}
	for _, snapshot := range b.snapshots {
		if err := ctx.Err(); err != nil {
			return err
		}
		day := filepath.Base(filepath.Dir(filepath.Dir(snapshot)))
		rel := filepath.Join("database/partitions", day)
		err := b.copyTree(ctx, snapshot, rel)
		if !dirExists(snapshot) { // retention has taken the day
			err = os.RemoveAll(filepath.Join(b.to, rel))
		}
		if err != nil {
			return err
		}
	}
	for rel, f := range b.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.write(ctx, rel, io.NewSectionReader(f, 0, b.sizes[rel])); err != nil {
			return err
		}
	}
	if err := syncTree(b.to); err != nil {
		return err
	}
	return errors.Join(os.Remove(filepath.Join(b.to, incomplete)), fsutil.SyncDir(b.to))
}

// copyTree links the files of a snapshot, which never change, or copies them to
// another file system.
func (b *backup) copyTree(ctx context.Context, from, rel string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.Join(rel, strings.TrimPrefix(path, from))
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(b.to, rel), 0o700)
		}
		if os.Link(path, filepath.Join(b.to, rel)) == nil {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		return b.write(ctx, rel, f)
	})
}

func (b *backup) write(ctx context.Context, rel string, from io.Reader) error {
	path := filepath.Join(b.to, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &whileWanted{ctx, from})
	return errors.Join(err, f.Sync(), f.Close())
}

// whileWanted reads until ctx ends.
type whileWanted struct {
	ctx context.Context
	io.Reader
}

func (r *whileWanted) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = fsutil.SyncDir(path)
		}
		return err
	})
}

func (b *backup) closeFiles() {
	for _, f := range b.files {
		_ = f.Close() // only read
	}
	b.files, b.sizes = map[string]*os.File{}, map[string]int64{}
}

func (b *backup) release() {
	b.closeFiles()
	for _, path := range b.snapshots {
		if !dirExists(path) {
			continue
		}
		if err := b.library.dropSnapshot(path); err != nil {
			b.log.Warn("a snapshot stays", "path", path, "err", err,
				"effect", "it holds disk space until the next start", "hint", "restart wsreceive")
		}
	}
}
