package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Recovery tells what Open found.
type Recovery struct {
	Gaps     []Range  // records that are lost, or were never promised and cannot be read
	Copied   uint64   // records that were not yet proved durable and are now (R12)
	SetAside []string // files in damaged/ that were not the queue's, or not readable
	NewSID   bool     // the directory was copied, moved or restored: numbers go on under a new stream id
	intakes  intakes
}

// Intake is how far the pipe with this id is on disk: the offset behind the
// last stream byte, and whether the last line goes on behind it.
func (r *Recovery) Intake(id uint64) (end int64, unfinished, ok bool) {
	o, ok := r.intakes.get(id)
	return o.End, o.Unfinished, ok
}

// Living is an intake whose bytes from Mark on can still be read from its
// pipe's mirror: what is doubtful from there on is better read again (R5).
type Living struct {
	Intake uint64
	Mark   int64
}

// Open takes the directory, which it makes if need be, and recovers what it
// holds. While another process has it, Open waits, until ctx ends.
func Open(ctx context.Context, dir string, o Options) (*Queue, *Recovery, error) {
	if err := makeDir(dir, func(name string) error { return osDir(name).syncDir(".") }); err != nil {
		return nil, nil, err
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	unlock, err := lock(ctx, filepath.Join(dir, lockName), o.Log)
	if err != nil {
		return nil, nil, err
	}
	q, rec, err := open(osDir(dir), o)
	if errors.Is(err, errVersion) { // R10: what is there is for a newer wsrelay to deliver
		o.Log.Error("the queue was written by a newer wsrelay", "dir", dir, "err", err,
			"effect", "its lines stay where they are and are not delivered; lines that come now go to the folder \"older\" in it",
			"hint", "run the newer wsrelay on this queue")
		q, rec, err := Open(ctx, filepath.Join(dir, "older"), o)
		if err != nil {
			return nil, nil, errors.Join(err, unlock.Close())
		}
		q.unlock = both{q.unlock, unlock}
		return q, rec, nil
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("queue %q: %w", dir, err), unlock.Close())
	}
	q.unlock = unlock
	return q, rec, nil
}

// both lets go of two locks.
type both [2]io.Closer

func (b both) Close() error { return errors.Join(b[0].Close(), b[1].Close()) }

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
		kick: make(chan struct{}, 1), ending: make(chan struct{}), stop: make(chan struct{}), abort: make(chan struct{}),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	w := &writer{q: q}
	r := &recoverer{q: q, w: w}
	if err := r.run(); err != nil {
		w.closeFiles()
		return nil, nil, nil, err
	}
	return q, w, &r.Recovery, nil
}

const lockName = "LOCK"

// holder is the pid that the lock file names, 0 if it names none: of who has
// the queue, or had it last.
func holder(dir string) int {
	text, _ := os.ReadFile(filepath.Join(dir, lockName))
	pid, _ := strconv.Atoi(string(text))
	return pid
}

// lock takes the lock file, waiting in line behind whoever holds it. flock(2)
// cannot be given up, so it waits in a goroutine of its own, which lets go
// again if ctx ended meanwhile.
func lock(ctx context.Context, path string, log *slog.Logger) (io.Closer, error) {
	f, err := tryLock(path)
	if !errors.Is(err, ErrLocked) {
		return own(f, err)
	}
	log.Warn("another wsrelay uses this queue: waiting for it to end", "lock", path, "pid", holder(filepath.Dir(path)),
		"effect", "no line is lost: what comes waits in the pipe", "hint", "give each wsrelay an instance of its own")
	locked := make(chan error, 1)
	go func() { locked <- flock(f, unix.LOCK_EX) }()
	select {
	case err = <-locked:
		return own(f, err)
	case <-ctx.Done():
		go func() { <-locked; _ = f.Close() }()
		return nil, ctx.Err()
	}
}

// lockNow is lock without the wait: ErrLocked.
func lockNow(path string) (io.Closer, error) { return own(tryLock(path)) }

// tryLock opens the lock file, and locks it if nobody has: ErrLocked.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return f, err
}

func flock(f *os.File, how int) error {
	return ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), how) })
}

// own writes into the lock file who has it; or closes it, after an error.
func own(f *os.File, err error) (io.Closer, error) {
	if f == nil {
		return nil, err
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}
