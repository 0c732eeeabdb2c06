package elastic

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"wsrelay/internal/fsutil"

	"github.com/tidwall/gjson"
)

// maxDeadFile bounds the file, in bytes. A full one takes no more: lines wait.
const maxDeadFile = 64 << 20

// deadFile is where dead letters go that the engine refuses among the dead
// letters, too: one document a line, with its _id and _index. What is appended
// is on disk. A last line that is cut was never acknowledged and is cut off at the
// next start.
type deadFile struct {
	limit int64

	mu   sync.Mutex // guards the fields below
	f    *os.File
	size int64
	held map[string]document // by id
}

// openDeadFile opens the file at path, or makes it. A second process gets an
// error.
func openDeadFile(path string) (d *deadFile, err error) {
	f, err := lockDeadFile(path)
	if err != nil {
		return nil, fmt.Errorf("dead-letter file: %w", err)
	}
	d = &deadFile{f: f, limit: maxDeadFile, held: make(map[string]document)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("dead-letter file %s: %w", path, err), f.Close())
		}
	}()
	if err := d.read(); err != nil {
		return nil, err
	}
	return d, errors.Join(f.Truncate(d.size), f.Sync(), fsutil.SyncDir(filepath.Dir(path)))
}

// lockDeadFile opens the file, or makes it, and locks it. Between the two a
// replay may put another file in its place: then it is that one.
func lockDeadFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("another wsreceive has %s: %w", path, err), f.Close())
		}
		ours, err := f.Stat()
		named, gone := os.Stat(path)
		switch {
		case err != nil:
			return nil, errors.Join(err, f.Close())
		case gone == nil && os.SameFile(ours, named):
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// read notes the ids of the letters, up to the last whole line.
func (d *deadFile) read() error {
	lines := bufio.NewReader(d.f)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		d.size += int64(len(line))
		letter := gjson.ParseBytes(line)
		d.held[letter.Get("_id").Str] = sourceOf(letter)
	}
}

// append makes dead letters of the documents, or of none of them.
func (d *deadFile) append(ops []*op) error {
	var lines []byte
	for _, o := range ops {
		lines = append(lines, `{"_id":"`+o.id+`","_index":"`+o.index+`",`...)
		lines = append(lines, o.deadDocument()[1:]...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size+int64(len(lines)) > d.limit {
		return fmt.Errorf("the dead-letter file %s is full: %d MiB", d.f.Name(), d.limit>>20)
	}
	if _, err := d.f.Write(lines); err != nil {
		return errors.Join(err, d.f.Truncate(d.size))
	}
	if err := d.f.Sync(); err != nil { // the letters may be there or not: not there, as far as we tell anybody
		return errors.Join(err, d.f.Truncate(d.size))
	}
	d.size += int64(len(lines))
	for _, o := range ops {
		d.held[o.id] = document{found: true, crc: o.crc, error: o.dead}
	}
	return nil
}

// find looks a dead letter up.
func (d *deadFile) find(id string) document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held[id]
}

// close lets another process have the file.
func (d *deadFile) close() error { return d.f.Close() }
