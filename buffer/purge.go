package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Purge drops all lines that wait in the queue in dir, and frees space on the
// disk: a gap with their exact numbers takes their place, durable before the
// first file goes, and is delivered when the queue is next used. It says how
// many lines went. While another process has the queue it does nothing: ErrLocked.
// After an error as well as after a crash, lines are either still there or in a
// gap.
func Purge(dir string, o Options) (lines uint64, err error) {
	d, err := ownDir(dir)
	if d != nil {
		defer func() { err = errors.Join(err, d.Close()) }()
	}
	if err != nil {
		return 0, err
	}
	if _, err := queueFiles(d); err != nil { // what is no queue must not become one
		return 0, err
	}
	q, w, _, err := load(d, o)
	if err != nil {
		return 0, fmt.Errorf("queue %q: %w", dir, err)
	}
	defer w.closeFiles()
	if err := w.now(); err != nil { // what recovery could not finish
		return 0, err
	}
	return w.purge(q)
}

// purge puts gaps in the place of everything, and ends. Nobody but us has q.
func (w *writer) purge(q *Queue) (lines uint64, err error) {
	all := Range{q.acked, q.durable}
	gap := Gap{Why: "purged", Maybe: true, To: time.Now().UnixMilli()}
	if len(q.segs) > 0 {
		gap.From = q.segs[0].created
	}
	blocks := q.gapBlocksLocked(all, gap)
	if len(blocks) == 0 {
		return 0, w.now()
	}
	if err := w.rotate(blocks); err != nil {
		return 0, err
	}
	for _, b := range blocks {
		lines += b.count
		q.losses.addGap(b)
		q.gaps.durable.add(b)
	}
	for _, s := range slices.Clone(q.segs[:len(q.segs)-1]) {
		if err := ignore(q.fsys.remove(segmentName(s.id)), fs.ErrNotExist); err != nil {
			return lines, err
		}
		q.forget(s)
	}
	return lines, w.now()
}

// now does all that there is to do.
func (w *writer) now() error {
	w.step(time.Now(), true)
	if trouble := w.q.Stats().Trouble; trouble != nil {
		return errors.New(trouble.String())
	}
	return nil
}
