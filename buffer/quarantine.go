package buffer

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// quarantineLimit bounds what Quarantine puts on disk in one run, in bytes.
const quarantineLimit = 256 << 20

// errQuarantineFull reports that so many lines were quarantined that something else
// than the lines must be wrong.
var errQuarantineFull = fmt.Errorf("%s/ has received %d MiB of lines in this run", damagedName, quarantineLimit>>20)

// Quarantine keeps the bytes of record seq of stream sid, which the receiver will
// never take, in a file of their own in damaged/, and returns its name there; why is
// remembered. They are durable when it returns. It is for the goroutine that calls
// Next.
func (q *Queue) Quarantine(sid string, seq uint64, line []byte, why string) (name string, err error) {
	if q.quarantined+int64(len(line)) > quarantineLimit {
		return "", errQuarantineFull
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
	if err == nil {
		q.quarantined += int64(len(line)) // only what was kept: it is tried again, as on a full disk
		q.mu.Lock()
		q.losses.add(Lost{Range: Range{seq, seq + 1}, Why: why, Acknowledged: true, At: time.Now()})
		q.mu.Unlock()
		q.poke()
	}
	return name, err
}
