package buffer

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// keepAside bounds what SetAside puts on disk in one run, in bytes.
const keepAside = 256 << 20

// errAsideFull says that so many lines were put aside that something else must
// be wrong than the lines.
var errAsideFull = fmt.Errorf("%s/ has received %d MiB of lines in this run", damagedName, keepAside>>20)

// SetAside keeps the bytes of record seq of stream sid, which the receiver will
// never take, in a file of their own in damaged/, and gives its name there; why is remembered. They
// are durable when it returns. It is for the goroutine that calls Next.
func (q *Queue) SetAside(sid string, seq uint64, line []byte, why string) (name string, err error) {
	if q.aside+int64(len(line)) > keepAside {
		return "", errAsideFull
	}
	name = filepath.Join(damagedName, fmt.Sprintf("line-%s-%d", sid, seq))
	if err := q.fsys.mkdir(damagedName); err != nil {
		return "", err
	}
	f, err := q.fsys.create(name)
	if err != nil {
		return "", err
	}
	if err = errors.Join(f.writeAt(line, 0), f.sync(), f.Close()); err == nil {
		err = errors.Join(q.fsys.syncDir(damagedName), q.fsys.syncDir("."))
	}
	q.aside += int64(len(line))
	if err == nil {
		q.mu.Lock()
		q.losses.add(Lost{Range: Range{seq, seq + 1}, Why: why, Told: true, At: time.Now()})
		q.mu.Unlock()
		q.poke()
	}
	return name, err
}
