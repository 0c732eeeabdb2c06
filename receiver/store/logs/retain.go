package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wsrelay/internal/fsutil"

	"golang.org/x/sys/unix"
)

// Retention looks at the days this often, and when a barrier or a full disk wakes it.
const retainEvery = time.Hour

// A clock that is so much ahead of the last time that retention believed is not
// believed before it has run so for a while.
const (
	maxClockJump = 7 * oneDay
	clockProof   = oneDay
	clockWrite   = time.Minute // how old the time in the file may become
)

// retention drops the oldest days: those whose lines are all older than Retain, and
// as many as it takes to stay below RetainBytes. The newest day stays.
type retention struct {
	*database
	wake   chan struct{}
	doubt  time.Time // since when the clock is not believed
	now    func() time.Time
	failed bool // said once

	patience time.Duration // as queryPatience
}

// queryPatience is how long a day that is to go waits for queries that read it: a search
// whose output nobody takes must not keep it.
const queryPatience = 10 * time.Minute

func (s *Store) wakeRetention() {
	select {
	case s.retention.wake <- struct{}{}:
	default:
	}
}

func (r *retention) run(ctx context.Context) {
	for {
		err := r.pass()
		if err != nil && !r.failed {
			r.log.Warn("retention failed", "err", err, "effect", "old days stay; the disk may fill",
				"hint", "the error says what is wrong; it is tried again automatically")
		}
		r.failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(retainEvery):
		case <-r.wake:
		}
	}
}

func (r *retention) pass() error {
	days, err := r.library.days()
	if err != nil {
		return err
	}
	now := r.now()
	if r.opts.Retain > 0 { // also while there is one day: the first time must be a believed one
		if now, err = r.believed(); err != nil {
			return err
		}
	}
	slices.Sort(days)
	newest := len(days) - 1 // stays; so does the day into which rows without a day of their own go
	for newest > 0 && days[newest] > time.Now().UTC().Format(dayFormat) {
		newest--
	}
	old := 0
	if r.opts.Retain > 0 {
		for old < newest && expired(days[old], now, r.opts.Retain) {
			old++
		}
	}
	if r.opts.RetainBytes > 0 {
		size := int64(0)
		for i := len(days) - 1; i >= old; i-- {
			n, err := r.sizeOf(days[i])
			if err != nil {
				return err
			}
			if size += n; size > r.opts.RetainBytes && i < newest {
				old = i + 1
			}
		}
	}
	for _, day := range days[:old] {
		if err := r.drop(day); err != nil {
			return err
		}
	}
	if r.opts.Retain == 0 {
		return nil
	}
	return r.dropBlobs(days, now)
}

// dropBlobs deletes old blobs whose day is not there: it was quarantined.
func (r *retention) dropBlobs(days []string, now time.Time) error {
	entries, err := os.ReadDir(r.blobs.dir)
	for _, e := range entries {
		if day := e.Name(); !slices.Contains(days, day) && expired(day, now, r.opts.Retain) {
			err = errors.Join(err, r.blobs.drop(day))
		}
	}
	return err
}

func expired(day string, now time.Time, age time.Duration) bool {
	t, err := time.Parse(dayFormat, day)
	return err == nil && now.Sub(t.Add(oneDay)) > age
}

// believed gives the time that retention goes by. A clock that jumped ahead by years
// would have everything deleted.
func (r *retention) believed() (time.Time, error) {
	now, file := r.now(), filepath.Join(r.library.path, "CLOCK")
	var last time.Time
	if b, err := os.ReadFile(file); err == nil {
		if t, err := time.Parse(time.RFC3339, string(b)); err == nil {
			last = t
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return last, err
	}
	switch {
	case now.Before(last.Add(clockWrite)):
		return now, nil
	case last.IsZero(): // the first time
	case now.Sub(last) <= maxClockJump:
		r.doubt = time.Time{}
	case r.doubt.IsZero():
		r.doubt = now
		fallthrough
	case now.Sub(r.doubt) < clockProof:
		if r.doubt.Equal(now) {
			r.log.Warn("the clock is ahead of the time that retention saw last",
				"clock", now.UTC().Format(time.RFC3339), "last", last.UTC().Format(time.RFC3339),
				"effect", "no line is deleted for its age before the clock has run for a day",
				"hint", "check the clock; if it is right, delete the file database/CLOCK")
		}
		return last, nil
	default:
		r.doubt = time.Time{}
	}
	// A disk that is full must not keep retention from freeing it.
	if err := fsutil.ReplaceFile(filepath.Join(r.library.path, "CLOCK"),
		[]byte(now.UTC().Format(time.RFC3339))); err != nil && !errors.Is(err, unix.ENOSPC) {
		return now, err
	}
	return now, nil
}

func (r *retention) sizeOf(day string) (n int64, err error) {
	for _, root := range []string{filepath.Join(r.library.path, "partitions", day), filepath.Join(r.blobs.dir, day)} {
		err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && e.Name() == "snapshots" { // links to the same files, of a backup
				return fs.SkipDir
			}
			if err == nil && e.Type().IsRegular() {
				var info fs.FileInfo
				if info, err = e.Info(); err == nil {
					n += info.Size()
				}
			}
			if errors.Is(err, fs.ErrNotExist) { // merged meanwhile
				return nil
			}
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// deletedFile is there once retention has deleted a day: from then on lines may be missing
// for it.
const deletedFile = "DELETED"

func (r *retention) noteDeleted() error {
	file := filepath.Join(r.library.path, deletedFile)
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	err := fsutil.ReplaceFile(file, []byte("retention has deleted days\n"))
	if errors.Is(err, unix.ENOSPC) { // it must not keep retention from freeing the disk
		return nil
	}
	return err
}

// drop deletes a day. No row goes into it from here on; queries that read it end first.
func (r *retention) drop(day string) error {
	r.adding.Lock()
	r.mu.Lock()
	r.days[day] = false
	r.mu.Unlock()
	r.adding.Unlock()
	began := time.Now()
	cut := time.AfterFunc(r.patience, func() { r.endRequests(began) })
	err := r.library.detach(day)
	cut.Stop()
	if err != nil {
		return err
	}
	trash := r.under("trash")
	if err := r.noteDeleted(); err != nil {
		return errors.Join(err, r.library.attach(day))
	}
	err = os.Rename(filepath.Join(r.library.path, "partitions", day), filepath.Join(trash, day))
	if err == nil {
		err = errors.Join(fsutil.SyncDir(filepath.Join(r.library.path, "partitions")), r.blobs.drop(day),
			os.RemoveAll(filepath.Join(trash, day)))
	}
	if err != nil {
		if _, gone := os.Lstat(filepath.Join(r.library.path, "partitions", day)); gone == nil {
			err = errors.Join(err, r.library.attach(day)) // so that it is tried again
		}
		return err
	}
	r.mu.Lock()
	delete(r.days, day)
	delete(r.touched, day)
	r.mu.Unlock()
	r.dropped.Add(1)
	r.log.Info("retention deleted a day", "day", day)
	return nil
}
