package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"wsrelay/internal/fsutil"
)

// Blobs holds the bytes of lines that their rows cannot return, one file a day.
// A row says where: DAY/OFFSET-LENGTH. What a kill leaves behind a row that never
// came is not looked at. Its methods may be called concurrently.
type Blobs struct {
	dir string

	mu   sync.Mutex          // guards open
	open map[string]*os.File // that were written since the last sync
}

// NewBlobs gives the blobs in a directory, which exists.
func NewBlobs(dir string) *Blobs { return &Blobs{dir: dir, open: map[string]*os.File{}} }

// Append adds the bytes of a line to the file of a day, and says where they are.
func (b *Blobs) Append(day string, data []byte) (where string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.open[day]
	if f == nil {
		if f, err = os.OpenFile(filepath.Join(b.dir, day), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return "", err
		}
		b.open[day] = f
	}
	at, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Write(data)
	}
	return fmt.Sprintf("%s/%d-%d", day, at, len(data)), err
}

// Sync returns when all that was appended is on disk.
func (b *Blobs) Sync() (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) == 0 {
		return nil
	}
	for day, f := range b.open {
		err = errors.Join(err, f.Sync(), f.Close())
		delete(b.open, day)
	}
	return errors.Join(err, fsutil.SyncDir(b.dir))
}

func (b *Blobs) read(where string) ([]byte, error) {
	day, span, _ := strings.Cut(where, "/")
	var at int64
	var n int
	if _, err := fmt.Sscanf(span, "%d-%d", &at, &n); err != nil || strings.ContainsAny(day, "/.") || n < 0 ||
		n > maxBlob {
		return nil, fmt.Errorf("no blob has the name %q", where)
	}
	f, err := os.Open(filepath.Join(b.dir, day))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data := make([]byte, n)
	_, err = f.ReadAt(data, at)
	return data, err
}

const maxBlob = 64 << 20 // no line is longer

func (b *Blobs) drop(day string) error {
	err := os.Remove(filepath.Join(b.dir, day))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
