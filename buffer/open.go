package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"wsrelay/internal/codec"
	"wsrelay/internal/fsutil"
)

// Recovery is what Open found.
type Recovery struct {
	Gaps        []Range  // records that are lost, or were never promised and cannot be read
	Copied      uint64   // records that were not yet proved durable and are now (R12)
	Quarantined []string // files in damaged/ that were not the queue's, or not readable
	NewSID      bool     // the directory was copied, moved or restored: numbers continue under a new stream id
	intakes     intakes
}

// Intake is how far the pipe with this id is on disk: the offset after the
// last stream byte, and whether the last line continues after it.
func (r *Recovery) Intake(id uint64) (end int64, unfinished, ok bool) {
	o, ok := r.intakes.get(id)
	return o.End, o.Unfinished, ok
}

// LiveInput is an intake whose bytes from Mark on can still be read from its
// pipe's spool: what is doubtful from there on is better read again (R5).
type LiveInput struct {
	Intake uint64
	Mark   int64
}

// Open takes the directory, which it makes if necessary, and recovers what it
// holds. While another process has it, Open waits, until ctx ends.
func Open(ctx context.Context, dir string, o Options) (*Queue, *Recovery, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	d, err := takeDir(ctx, dir, o.Log)
	if err != nil {
		return nil, nil, err
	}
	q, rec, err := open(d, o)
	if err != nil && d.removed() { // by another process, meanwhile: another one is made
		_ = d.Close() // nothing is in it
		return Open(ctx, dir, o)
	}
	if errors.Is(err, errVersion) { // R10: what is there is for a newer wsrelay to deliver
		o.Log.Error("the queue was written by a newer wsrelay", "dir", dir, "err", err,
			"effect", "its lines stay in it and are not delivered; new lines go to the folder \"older\" in it",
			"hint", "run the newer wsrelay on this queue")
		q, rec, err := Open(ctx, filepath.Join(dir, "older"), o)
		if err != nil {
			return nil, nil, errors.Join(err, d.Close())
		}
		q.locks, q.dir = append(q.locks, d), d
		return q, rec, nil
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("queue %q: %w", dir, err), d.Close())
	}
	q.locks, q.dir = []io.Closer{d}, d
	return q, rec, nil
}

// takeDir makes the directory, if necessary, and locks it. A user may remove it
// at any moment, or move it while we wait for the lock.
func takeDir(ctx context.Context, dir string, log *slog.Logger) (*osDir, error) {
	for try := 0; ; try++ {
		if err := makeDir(dir, fsutil.SyncDir); err != nil {
			return nil, err
		}
		d, err := lockDir(ctx, dir, log)
		if errors.Is(err, fs.ErrNotExist) && try < 100 {
			continue
		}
		if d != nil || err != nil {
			return d, err
		}
	}
}

// lockDir locks the directory, and waits for that if necessary; nil: the path does
// not lead to it any more.
func lockDir(ctx context.Context, dir string, log *slog.Logger) (*osDir, error) {
	path, err := filepath.EvalSymlinks(dir) // a link may lead elsewhere later, and so may a relative path
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	d, err := ownDir(path)
	if errors.Is(err, ErrLocked) {
		err = d.wait(ctx, log)
	}
	if err != nil {
		return nil, err
	}
	here, err := os.Stat(path)
	there, err2 := d.dir.Load().Stat()
	if err == nil && err2 == nil && os.SameFile(here, there) {
		return d, nil
	}
	return nil, errors.Join(err2, d.Close())
}

// wait waits in line for the lock. flock(2) cannot be cancelled, so it waits in
// a goroutine of its own, which releases the lock if ctx has ended meanwhile.
func (d *osDir) wait(ctx context.Context, log *slog.Logger) error {
	holder, _ := Locked(d.path)
	log.Warn("another wsrelay uses this queue: waiting for it to exit", "dir", d.path, "pid", holder,
		"effect", "no line is lost: new lines wait in the pipe", "hint", "give each wsrelay an instance of its own")
	locked := make(chan error, 1)
	go func() { locked <- d.lock(0) }()
	select {
	case err := <-locked:
		if err != nil {
			err = errors.Join(err, d.Close())
		}
		return err
	case <-ctx.Done():
		go func() {
			<-locked //nolint:errcheck // it is closed in any case
			_ = d.Close()
		}()
		return ctx.Err()
	}
}

// Dir is a path of the directory that Open was given, for this process and as
// long as the queue is open: wherever the directory is by now.
func (q *Queue) Dir() string {
	at := fmt.Sprintf("/proc/self/fd/%d", q.dir.dir.Load().Fd())
	if _, err := os.Stat(at); err != nil {
		return q.dir.path
	}
	return at
}

// open recovers the queue in fsys and starts its writer.
func open(fsys fileSystem, o Options) (*Queue, *Recovery, error) {
	q, w, r, err := load(fsys, o)
	if err != nil {
		return nil, nil, err
	}
	go w.run()
	return q, r, nil
}

// load recovers the queue in fsys; the writer is the caller's to run.
func load(fsys fileSystem, o Options) (*Queue, *writer, *Recovery, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	q := &Queue{
		fsys: fsys, o: o,
		kick: make(chan struct{}, 1), inputEnded: make(chan struct{}), stop: make(chan struct{}),
		abort: make(chan struct{}),
		done:  make(chan struct{}), changed: make(chan struct{}),
	}
	choice := codec.NewChoice(codec.Quick, codec.DensestFirst()...)
	w := &writer{q: q, spare: true, lastActive: time.Now(), choice: choice}
	r := &recoverer{q: q, w: w}
	if err := r.run(); err != nil {
		w.closeFiles()
		return nil, nil, nil, err
	}
	return q, w, &r.Recovery, nil
}
