package victorialogs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"wsrelay/internal/fsutil"
)

// long keeps lines that no row of the server can hold, one file a day. A row says
// where its line is: DAY/OFFSET-LENGTH. One goroutine uses it.
type long struct {
	dir string
	day string
	f   *os.File // of the day; nil: nothing was written since the last sync
}

func (l *long) append(day string, line []byte) (where string, err error) {
	if day != l.day {
		if err := l.sync(); err != nil {
			return "", err
		}
		l.day = day
	}
	if l.f == nil {
		if l.f, err = os.OpenFile(filepath.Join(l.dir, day), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return "", err
		}
	}
	at, err := l.f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = l.f.Write(line)
	}
	return fmt.Sprintf("%s/%d-%d", day, at, len(line)), err
}

func (l *long) sync() error {
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Sync(), l.f.Close(), fsutil.SyncDir(l.dir))
	l.f = nil
	return err
}
