package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"wsrelay/internal/retry"
	"wsrelay/receiver"
)

// applyBytes is about how much the database is given at once.
const applyBytes = 4 << 20

// run is the applier: it brings the segments into the database, one after the
// other, each to its end before the next, and removes those that are behind a
// barrier.
func (j *Journal) run(ctx context.Context) {
	defer close(j.done)
	pause := retry.Store(j.o.retry)
	var lines [][]byte
	for ctx.Err() == nil {
		worked, wait, err := j.step(ctx, &lines)
		switch {
		case err != nil && ctx.Err() == nil:
			if j.fail(err) { // closing
				return
			}
			wait = pause.NextBackOff()
		case worked:
			pause.Reset()
			j.works()
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-j.news(err):
		}
		timer.Stop()
	}
}

// news is what ends the wait of the applier early: a commit, but not while the
// database fails.
func (j *Journal) news(err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	return j.woken
}

// step does the next thing there is to do for the oldest segment; where the
// database is asynchronous, for the oldest that has something to do. If there is nothing,
// it gives how long to wait.
func (j *Journal) step(ctx context.Context, lines *[][]byte) (worked bool, wait time.Duration, err error) {
	j.mu.Lock()
	segs := j.segs
	if _, async := j.db.(AsyncDatabase); !async {
		segs = segs[:min(1, len(segs))]
	}
	segs = slices.Clone(segs)
	j.mu.Unlock()
	wait = j.o.age
	for i, s := range segs {
		worked, due, err := j.stepOn(ctx, s, i == 0, lines)
		if worked || err != nil {
			return worked, 0, err
		}
		wait = min(wait, due)
	}
	return false, wait, nil
}

func (j *Journal) stepOn(ctx context.Context, s *segment, oldest bool,
	lines *[][]byte,
) (worked bool, wait time.Duration, err error) {
	j.mu.Lock()
	end, rows, applied, sealed, recount := s.end, s.rows, s.applied, s.sealed, s.recount
	due := time.Until(s.first.Add(j.o.age))
	if j.emptying || s.id.number <= j.wanted {
		due = 0
	}
	if !sealed && due <= 0 && applied == end {
		j.emptying = false
	}
	j.mu.Unlock()
	if recount || applied < end {
		if err := j.announce(s); err != nil {
			return false, 0, err
		}
	}
	switch {
	case recount:
		return true, 0, j.addMissing(ctx, s, end, rows, lines)
	case applied < end:
		_, err := j.add(ctx, s, s.scan(s.applied, end), nil, lines)
		return true, 0, err
	case sealed && !oldest:
		return false, j.o.age, nil
	case sealed:
		if wait, err := j.final(ctx, s, rows); err != nil || wait > 0 {
			return false, wait, err
		}
		return true, 0, j.retire(ctx, s)
	case due <= 0:
		j.seal(s)
		return true, 0, nil
	}
	return false, due, nil
}

// final asks an asynchronous database whether it has a segment on disk. If it has lost
// rows, any segment may lack some.
func (j *Journal) final(ctx context.Context, s *segment, rows uint64) (wait time.Duration, err error) {
	async, ok := j.db.(AsyncDatabase)
	if !ok || rows == 0 { // nothing of it was given to the database
		return 0, nil
	}
	if wait, err = async.Final(ctx, s.name, rows); errors.Is(err, ErrForgot) {
		j.mu.Lock()
		for _, o := range j.segs {
			o.recount = true
		}
		j.mu.Unlock()
	}
	if err != nil {
		return 0, fmt.Errorf("segment %s: %w", s.name, err)
	}
	return wait, nil
}

// addMissing adds what the database does not have of a segment (J4).
func (j *Journal) addMissing(ctx context.Context, s *segment, end int64, rows uint64, lines *[][]byte) error {
	if err := j.db.Barrier(ctx); err != nil { // after it the database sees all its rows
		return fmt.Errorf("barrier: %w", err)
	}
	n, err := j.db.Count(ctx, s.name)
	if err != nil {
		return fmt.Errorf("count the rows of segment %s: %w", s.name, err)
	}
	has := rows
	if n != rows || s.unsure {
		there := present{}
		has = 0
		if err := j.db.Each(ctx, s.name, func(id ID) { there.add(id); has++ }); err != nil {
			return fmt.Errorf("list the rows of segment %s: %w", s.name, err)
		}
		for scan := s.scan(segHead, end); scan.off < end; {
			added, err := j.add(ctx, s, scan, there, lines)
			if err != nil {
				return err
			}
			has += added
		}
	}
	j.mu.Lock()
	s.applied, s.recount = end, false
	s.rows += has - rows // damage has fewer, and the database may have more than can be read
	j.mu.Unlock()
	return nil
}

// add gives the database up to about applyBytes of records, without the rows
// that are there. The memory of the lines is used again.
func (j *Journal) add(ctx context.Context, s *segment, scan *scanner, there present, lines *[][]byte) (rows uint64, err error) {
	var batches []receiver.Batch
	var last time.Time
	*lines = (*lines)[:0]
	text := j.text[:0]
	scan.buf, scan.at = j.window[:0], 0
	scan.damage = func(from, to int64) { j.damaged(s, from, to) }
	for len(text) < applyBytes {
		r, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read segment %s: %w", s.name, err)
		}
		last = r.committed
		if r.kind == kindOwner {
			continue
		}
		first := len(text)
		text = append(text, r.payload...) // what text was before keeps its memory
		r.payload = text[first:]
		b, all, err := r.batch(*lines)
		if err != nil {
			return 0, fmt.Errorf("segment %s at %d: %w", s.name, r.off, err)
		}
		*lines = all
		batches = j.missing(batches, &b, there)
	}
	if j.text, j.window = text, scan.buf; cap(text)+cap(scan.buf) > 4*applyBytes { // after a very long line
		j.text, j.window = nil, nil
	}
	if len(batches) > 0 {
		if err := j.db.Add(ctx, s.name, batches); err != nil {
			j.mu.Lock()
			s.recount = true
			j.mu.Unlock()
			return 0, fmt.Errorf("add rows of segment %s: %w", s.name, err)
		}
	}
	for i := range batches {
		if rows += uint64(len(batches[i].Lines)); batches[i].Gap != nil {
			rows++
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.applied = scan.off; !last.IsZero() {
		j.appliedAt = last
	}
	return rows, nil
}

// missing appends what of a batch is not there.
func (j *Journal) missing(to []receiver.Batch, b *receiver.Batch, there present) []receiver.Batch {
	if there == nil {
		return append(to, *b)
	}
	if g := b.Gap; g != nil {
		if !there.hasGap(b.SID, g.Seq, g.N) && !j.restored.hasGap(b.SID, g.Seq, g.N) {
			to = append(to, *b)
		}
		return to
	}
	have := there.lines(b.SID)
	old := j.restored.lines(b.SID)
	have.split(b.Seq, b.End(), func(from, end uint64, in bool) {
		if in {
			return
		}
		old.split(from, end, func(from, end uint64, in bool) {
			if in {
				return
			}
			part := *b
			part.Seq, part.Lines = from, b.Lines[from-b.Seq:end-b.Seq]
			to = append(to, part)
		})
	})
	return to
}

// damaged says once for each part of a segment that it cannot be read.
func (j *Journal) damaged(s *segment, from, to int64) {
	j.mu.Lock()
	known := from < s.damaged
	if !known {
		s.damaged = to
		j.stats.Damaged += to - from
	}
	j.mu.Unlock()
	if known {
		return
	}
	j.log.Error("journal segment damaged", "segment", s.name, "from", from, "to", to,
		"effect", "the lines in these bytes were acknowledged, and those that the database did not have are lost",
		"hint", "Check the disk. The segment is kept in "+damagedDir+"/.")
}

// retire makes what is in a segment durable in the database and then removes it.
func (j *Journal) retire(ctx context.Context, s *segment) error {
	if err := j.db.Barrier(ctx); err != nil {
		j.mu.Lock()
		s.recount = true // the database may have lost any part of it
		j.mu.Unlock()
		return fmt.Errorf("barrier: %w", err)
	}
	if err := j.checkpoint(s); err != nil {
		return err
	}
	j.mu.Lock()
	j.segs = slices.DeleteFunc(j.segs, func(o *segment) bool { return o == s })
	if !slices.ContainsFunc(j.segs, func(o *segment) bool { return o.former }) {
		j.restored = nil
	}
	close(j.changed)
	j.changed = make(chan struct{})
	j.mu.Unlock()
	j.clean()
	_ = s.f.Close() // everything in it is elsewhere
	return nil
}

// clean removes segments that a checkpoint has covered. One that cannot be
// removed is tried again after the next.
func (j *Journal) clean() {
	j.gone = slices.DeleteFunc(j.gone, func(g goneSegment) bool {
		path := journalDir + "/" + g.Name + ".seg"
		if g.Damaged {
			err := j.fs.mkdir(damagedDir)
			if err == nil {
				err = j.fs.rename(path, damagedDir+"/"+g.Name+".seg")
			}
			return ignore(err, fs.ErrNotExist) == nil
		}
		return ignore(j.fs.remove(path), fs.ErrNotExist) == nil
	})
	j.makeReserve()
}

// fail remembers why the applier does not get on, and says so when that begins.
// It tells whether the journal is closing.
func (j *Journal) fail(err error) bool {
	j.mu.Lock()
	began := j.failed == nil
	j.failed = err
	closing := j.closing
	close(j.changed)
	j.changed = make(chan struct{})
	j.mu.Unlock()
	if began {
		j.log.Warn("journal not emptied", "err", err,
			"effect", "no line is lost: lines wait in the journal, and in the senders' queues when it is full",
			"hint", "the error says what the database lacks; it is tried again automatically")
	}
	return closing
}

func (j *Journal) works() {
	j.mu.Lock()
	failed := j.failed != nil
	j.failed = nil
	j.mu.Unlock()
	if failed {
		j.log.Info("journal is emptied again")
	}
}

// present are rows that the database has.
type present map[string]*presence

type presence struct {
	lines Spans
	gaps  map[[2]uint64]bool // first, and how many
}

func (p present) of(sid string) *presence {
	of := p[sid]
	if of == nil {
		of = &presence{gaps: map[[2]uint64]bool{}}
		p[sid] = of
	}
	return of
}

func (p present) add(id ID) {
	of := p.of(id.SID)
	if id.Gap > 0 {
		of.gaps[[2]uint64{id.Seq, id.Gap}] = true
	} else {
		of.lines.add(id.Seq, id.Seq+1)
	}
}

func (p present) lines(sid string) Spans {
	if of := p[sid]; of != nil {
		return of.lines
	}
	return nil
}

func (p present) has(id ID) bool {
	if id.Gap > 0 {
		return p.hasGap(id.SID, id.Seq, id.Gap)
	}
	return p.lines(id.SID).covers(id.Seq, id.Seq+1)
}

func (p present) hasGap(sid string, seq, n uint64) bool {
	of := p[sid]
	return of != nil && of.gaps[[2]uint64{seq, n}]
}
