package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A user may remove, move or replace the files of a running queue, or its
// whole directory. What an open descriptor still has is written again under the
// name that it had; what is gone gets gaps.

// inspectInterval is how often the files are looked at while lines wait and none come.
const inspectInterval = 5 * time.Second

// ensureSegment makes sure that the segment that is written has its name and its bytes.
// What a file without a name holds is not on disk, whatever fdatasync said.
func (w *writer) ensureSegment() error {
	if w.seg == nil || w.poisoned {
		return nil
	}
	ok, err := w.q.fsys.holds(segmentName(w.seg.id), w.f)
	if err == nil && !ok {
		err = w.reclaim()
	}
	if err != nil {
		return err
	}
	size, err := w.f.size()
	if err == nil && size < w.off {
		w.poisoned = true
		w.q.o.Log.Error("a file of the queue was cut short", "file", segmentName(w.seg.id), "bytes", size,
			"written", w.off,
			"effect", "undelivered lines in the part that was cut off are lost, and gap documents have their numbers; new lines go to a new file", "hint", removedHint)
	}
	return err
}

const removedHint = "never touch the files of a queue while wsrelay runs; wsrelay queue purge drops a backlog"

// inspectFiles is ensureSegment for all files: from time to time, where the consumer
// missed a block, and at the end, for what is open then can be written again, and
// nobody can later.
func (w *writer) inspectFiles(now time.Time, closing bool) error {
	q := w.q
	q.mu.Lock()
	missed := q.missed
	q.mu.Unlock()
	if now.Sub(w.lastInspected) < inspectInterval && (missed == nil || missed.inspected || w.inspectErr != nil) && !closing {
		return w.inspectErr
	}
	w.lastInspected = now
	if w.inspectErr = w.reclaim(); w.inspectErr != nil || missed == nil {
		return w.inspectErr
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	missed.inspected = true
	q.broadcastLocked()
	return nil
}

// reclaim makes again what is not where it was.
func (w *writer) reclaim() error {
	q := w.q
	made, err := q.fsys.recreate()
	if err != nil {
		return fmt.Errorf("create the removed queue directory again: %w", err)
	}
	w.recreated = w.recreated || made
	if err := w.reclaimSegments(); err != nil {
		return err
	}
	if w.cursorFile != nil {
		ok, err := q.fsys.holds(cursorName, w.cursorFile)
		if err != nil {
			return err
		}
		if !ok {
			_ = w.cursorFile.Close() // nobody can read it any more
			w.cursorFile, w.cursorStale, w.cursorSynced = nil, true, false
			w.gone = append(w.gone, cursorName)
		} else if c, err := loadCursor(q.fsys); err != nil {
			return err
		} else if c.generation != w.saved.generation || c.acked != w.saved.acked {
			w.saved.generation, w.cursorStale = max(w.saved.generation, c.generation), true // copied over
		}
	}
	if err := w.reclaimIdentity(); err != nil {
		return err
	}
	if f, err := q.fsys.open(lostName); err == nil {
		_ = f.Close() // only looked for
	} else if errors.Is(err, fs.ErrNotExist) {
		q.mu.Lock()
		q.losses.stale = len(q.losses.all) > 0 // it is written again with the next step
		q.mu.Unlock()
	}
	const effect = "wsrelay wrote the files again that it had open; lines that were only in other files are lost, and gap documents have their numbers"
	switch {
	case w.recreated:
		q.o.Log.Error("the queue directory was removed", "effect", effect, "hint", removedHint)
	case len(w.gone) > 0:
		q.o.Log.Error("files of the queue were removed or replaced", "files", strings.Join(w.gone, ", "),
			"effect", effect, "hint", removedHint)
	}
	w.recreated, w.gone = false, nil
	return nil
}

// reclaimIdentity writes IDENTITY again where it is not what it was. Diverge may write
// it meanwhile.
func (w *writer) reclaimIdentity() error {
	q := w.q
	q.mu.Lock()
	before := q.ident.text()
	q.mu.Unlock()
	onDisk, err := readIdentity(q.fsys)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	text := onDisk.text()
	same := bytes.Equal(text, before) || bytes.Equal(text, q.ident.text()) || w.identityStale && len(onDisk.pairs) > 0
	if same && !w.recreated {
		return nil
	}
	q.ident.home = q.fsys.home()
	if err := q.ident.write(q.fsys); err != nil {
		return err
	}
	w.gone = append(w.gone, identityName)
	return nil
}

// reclaimSegments reclaims the segments. Files may be
// removed, and the consumer may open one, meanwhile: what is not listed is lost
// only if it is not open after that.
func (w *writer) reclaimSegments() error {
	q := w.q
	entries, err := q.fsys.list(".")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
	}
	open := map[*segment]bool{}
	for _, o := range w.opened() {
		open[o.seg] = true
		name := segmentName(o.seg.id)
		ok, err := q.fsys.holds(name, o.f)
		if err != nil && !errors.Is(err, fs.ErrClosed) { // by the consumer, meanwhile
			return err
		}
		if ok || err != nil {
			continue
		}
		if err := w.restore(o); err != nil && !errors.Is(err, fs.ErrClosed) {
			return fmt.Errorf("write the removed file %s again: %w", name, err)
		}
		w.gone = append(w.gone, name)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.segs = slices.DeleteFunc(q.segs, func(s *segment) bool {
		name := segmentName(s.id)
		if there[name] || open[s] || s.next == 0 {
			return false
		}
		w.gone = append(w.gone, name)
		q.requestMissingLocked(Range{s.base, s.next})
		return true
	})
	return nil
}

// requestMissingLocked asks for a gap of what of r is not in memory and not under way.
func (q *Queue) requestMissingLocked(r Range) {
	r.First = max(r.First, q.next)
	if ring := q.ring.blocks; len(ring) > 0 {
		r.End = min(r.End, ring[0].first)
	}
	if r.First < r.End {
		q.requestGapLocked(r, removedHint)
	}
}

// openSegment is a segment with a descriptor that we have.
type openSegment struct {
	seg *segment
	f   file
}

// opened are the segments that are open: the newest, and the one that the
// consumer reads, unless it reads it right now for long.
func (w *writer) opened() (all []openSegment) {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.segs); w.f != nil && n > 0 {
		all = append(all, openSegment{q.segs[n-1], w.f})
	}
	for range 100 {
		if !q.reading {
			break
		}
		q.mu.Unlock()
		time.Sleep(time.Millisecond)
		q.mu.Lock()
	}
	if r := &q.reader; !q.reading && r.f != nil && slices.Contains(q.segs, r.seg) &&
		(len(all) == 0 || all[0].seg != r.seg) {
		all = append(all, openSegment{r.seg, r.f})
	}
	return all
}

// restore copies what the descriptor has into a file of the same name, which is
// complete and durable before it has it.
func (w *writer) restore(o openSegment) error {
	q, fsys := w.q, w.q.fsys
	end := o.seg.size
	if w.seg == o.seg {
		end = w.off
	}
	f, err := createAnew(fsys, spareName)
	if err != nil {
		return err
	}
	err = copyFile(f, o.f, end)
	if err == nil {
		err = f.sync()
	}
	if err == nil {
		err = renameOver(fsys, spareName, segmentName(o.seg.id))
	}
	if err == nil {
		err = fsys.syncDir(".")
	}
	if err != nil {
		_ = fsys.remove(spareName) // on a full disk it takes what others need
		return errors.Join(err, f.Close())
	}
	q.mu.Lock()
	o.seg.size = end
	o.seg.rewrites++
	q.rewrites++
	q.moves++ // what the consumer finds in the old file is void
	if !q.reading {
		q.reader.closeOld(q.segs)
	}
	q.mu.Unlock()
	if w.f != o.f { // it was the consumer's
		return f.Close()
	}
	w.f = f
	return o.f.Close()
}

// copyFile copies up to end. A page that cannot be read is left out: it is as
// damaged as it was.
func copyFile(to, from file, end int64) error {
	b := make([]byte, 256<<10)
	for off, step := int64(0), int64(len(b)); off < end; off += step {
		n, err := from.ReadAt(b[:min(step, end-off)], off)
		switch {
		case errors.Is(err, fs.ErrClosed):
			return err
		case err != nil && step > pageLen && !errors.Is(err, io.EOF):
			off, step = off-pageLen, pageLen // by pages from here on
			continue
		}
		if err := to.writeAt(b[:n], off); err != nil {
			return err
		}
	}
	return nil
}

// quarantine moves what has one of the queue's names, and is not what it should
// be, out of the way: into damaged/, under a name that is free.
func quarantine(fsys fileSystem, name string) (to string, err error) {
	to = fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	if name != damagedName {
		if err := fsys.mkdir(damagedName); err != nil {
			return "", err
		}
		to = filepath.Join(damagedName, to)
	}
	return to, fsys.rename(name, to)
}

// createAnew is create, also where something is that is no file.
func createAnew(fsys fileSystem, name string) (file, error) {
	f, err := fsys.create(name)
	if isFolder(err) {
		if _, err := quarantine(fsys, name); err != nil {
			return nil, err
		}
		return fsys.create(name)
	}
	return f, err
}

// tmpSuffix ends the name under which replaceFile writes.
const tmpSuffix = ".tmp"

// replaceFile gives the file of this name other contents, in one step. With sync
// they are durable, and their name is once the directory is synced.
func replaceFile(fsys fileSystem, name string, text []byte, sync bool) error {
	f, err := createAnew(fsys, name+tmpSuffix)
	if err == nil {
		err = f.writeAt(text, 0)
		if sync {
			err = errors.Join(err, f.sync())
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = renameOver(fsys, name+tmpSuffix, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// openIfUsable opens a file that the queue can do without. Without an error nil means
// that it is not there, or not a file that can be read.
func openIfUsable(fsys fileSystem, name string) (file, error) {
	f, err := fsys.open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errStrange), errors.Is(err, fs.ErrPermission):
		return nil, nil //nolint:nilnil // as the comment says
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return f, nil
}

// renameOver is rename, also where something is that is no file.
func renameOver(fsys fileSystem, from, to string) error {
	err := fsys.rename(from, to)
	if isFolder(err) {
		if _, err := quarantine(fsys, to); err != nil {
			return err
		}
		return fsys.rename(from, to)
	}
	return err
}

func isFolder(err error) bool {
	return errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}
