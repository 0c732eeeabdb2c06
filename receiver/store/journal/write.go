package journal

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// request is one Commit, or one SetOwner, on its way to the disk.
type request struct {
	sid   string
	buf   []byte // records
	heads []int  // where in buf they begin
	rows  uint64
	runs  []run // lines that are new
	gaps  Spans
	host  string
	owner *string // nil: stays

	st   *stream
	done bool // err is set; guarded by Journal.writing
	err  error
}

// run is consecutive lines, and their checksums.
type run struct {
	seq  uint64
	sums []uint32
}

func (r *run) end() uint64 { return r.seq + uint64(len(r.sums)) }

func (r *request) add(rec *record) {
	r.heads = append(r.heads, len(r.buf))
	r.buf = rec.append(r.buf)
	r.rows += rec.rows()
}

// write makes the records of r durable, together with all that wait, and gives
// the error of r.
func (j *Journal) write(r *request) error {
	j.queueing.Lock()
	j.queue = append(j.queue, r)
	j.queueing.Unlock()

	j.writing.Lock()
	defer j.writing.Unlock()
	if !r.done { // by another call
		j.queueing.Lock()
		group := j.queue
		j.queue = nil
		j.queueing.Unlock()
		err := j.store(group)
		if err == nil {
			err = j.fs.same() // J7: who looks at the path must find what gets a receipt
		}
		for _, r := range group {
			r.done, r.err = true, err
		}
	}
	return r.err
}

// store writes a group, if need be a second time: after a failure nothing in the
// file is believed that was not durable before.
func (j *Journal) store(group []*request) error {
	size := 0
	for _, r := range group {
		size += len(r.buf)
	}
	switch {
	case j.closed:
		return ErrClosed
	case size == 0:
		return nil
	}
	err := j.append(group, size)
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	if again := j.append(group, size); again != nil {
		return err
	}
	j.log.Warn("journal segment abandoned", "err", err,
		"effect", "none: what was not durable in it is in a new segment now",
		"hint", "check the disk if this happens again")
	return nil
}

// append writes a group to the current segment and syncs it: the one sync that a
// commit waits for.
func (j *Journal) append(group []*request, size int) (err error) {
	if s := j.current; s != nil && s.end >= j.o.segment {
		j.sealCurrent()
	}
	s, born := j.current, j.current != nil
	if !born {
		if s, err = j.newSegment(); err != nil {
			return j.reason(err)
		}
	}
	end, err := j.fill(s, group, size)
	if err == nil && !born {
		err = errors.Join(j.fs.syncDir(journalDir), j.fs.syncDir("."))
	}
	if err == nil {
		err = j.findable(s)
	}
	if err == nil {
		j.publish(s, group, end)
		return nil
	}
	if full := errors.Is(err, ErrFull); born && !full {
		j.sealCurrent()
	} else if !born { // the next attempt makes another file of this name
		_ = s.f.Close()
		_ = j.fs.remove(s.path())
	}
	return j.reason(err)
}

// findable fails if the segment was removed: what has no name is not on
// disk, whatever fdatasync says.
func (j *Journal) findable(s *segment) error {
	ok, err := j.fs.holds(s.path(), s.f)
	if err == nil && !ok {
		err = fmt.Errorf("segment %s was removed or replaced", s.name)
	}
	return err
}

// newSegment makes the next segment. It counts once its first records are
// durable; until then its name is free.
func (j *Journal) newSegment() (*segment, error) {
	s := &segment{
		id: segmentID{j.epoch, j.number + 1}, prev: j.last, cut: j.lastEnd, nonce: newNonce(),
		end: segHead, applied: segHead, has: map[string]Span{}, first: time.Now(),
	}
	s.name = s.id.String()
	err := j.fs.mkdir(journalDir)
	if err == nil {
		s.f, err = j.fs.create(s.path())
	}
	return s, err
}

// fill writes the group behind what is durable and syncs the file.
func (j *Journal) fill(s *segment, group []*request, size int) (end int64, err error) {
	if err := j.allocate(s, s.end+int64(size)); err != nil {
		return 0, err
	}
	if s.end == segHead {
		if err := s.f.writeAt(s.header(), 0); err != nil {
			return 0, err
		}
	}
	end = s.end
	now := time.Now()
	for _, r := range group {
		for _, at := range r.heads {
			sealHead(r.buf[at:at+headLen], s.nonce, s.end, now)
		}
		if len(r.buf) > 0 {
			if err := s.f.writeAt(r.buf, end); err != nil {
				return 0, err
			}
			end += int64(len(r.buf))
		}
	}
	return end, s.f.sync()
}

// allocate makes the file long enough, in large steps while there is space.
func (j *Journal) allocate(s *segment, end int64) error {
	if end <= s.size {
		return nil
	}
	free, err := j.fs.freeBytes()
	if err != nil {
		return err
	}
	held := j.held()
	err = nil
	for _, size := range []int64{max(end, s.size+j.o.step), end} {
		grow := size - s.size
		switch {
		case held > 0 && held+grow > j.o.Limit:
			err = behindError{fmt.Errorf("%w: %d bytes wait for the database, and the limit is %d", ErrFull, held, j.o.Limit)}
			j.requestEmptying()
			continue
		case free-grow < j.o.Reserve:
			err = fmt.Errorf("%w: its file system has %d bytes left, of which %d are reserved", ErrFull, free,
				j.o.Reserve)
			continue
		}
		if err = s.f.allocate(s.size, grow); err == nil {
			j.mu.Lock()
			s.size = size
			j.mu.Unlock()
			return nil
		}
		if !noSpace(err) {
			return err
		}
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// behindError is an ErrFull that ends once the database has taken a segment.
type behindError struct{ error }

func (e behindError) Unwrap() error { return e.error }

// reason adds to an error that the journal is full why the database does not
// empty it.
func (j *Journal) reason(err error) error {
	if noSpace(err) && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(err, ErrFull) && j.failed != nil {
		return fmt.Errorf("%w; the database does not take what waits: %w", err, j.failed)
	}
	return err
}

func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// publish makes a durable group known: to later commits, to the applier, and to
// the next checkpoint, all at once.
func (j *Journal) publish(s *segment, group []*request, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current != s {
		j.current, j.last, j.number = s, s.id, s.id.number
		j.segs = append(j.segs, s)
	}
	now := time.Now()
	if j.waitingLocked() == 0 {
		j.appliedAt = now
	}
	for _, r := range group {
		r.publishLocked(j, s, now)
	}
	s.end, j.lastEnd = end, end
	j.wake()
}

func (r *request) publishLocked(j *Journal, s *segment, now time.Time) {
	if len(r.buf) == 0 {
		return
	}
	st := r.st
	s.rows += r.rows
	st.Seen = now.UTC().Truncate(time.Millisecond)
	if r.host != "" {
		st.Host = r.host
	}
	if r.owner != nil {
		st.Owner = *r.owner
	}
	for _, p := range r.gaps {
		st.addGap(p[0], p[1])
	}
	for _, run := range r.runs {
		st.addLines(run.seq, run.end())
		s.note(r.sid, run.seq, run.end())
		j.recent.put(st.number, run.seq, run.sums)
	}
}
