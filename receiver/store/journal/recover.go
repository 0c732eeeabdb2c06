package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"wsrelay/receiver"
)

// recover brings back what was known when the journal was last open. What the
// database lacks of the segments that are left, the applier adds (J4).
func (j *Journal) recover(ctx context.Context) error {
	err := j.fs.mkdir(journalDir)
	if err == nil {
		err = j.fs.syncDir(".")
	}
	if err != nil {
		return err
	}
	c, err := j.readCheckpoint()
	if err != nil {
		return fmt.Errorf("read %s: %w", checkpointName, err)
	}
	text, err := j.db.Mark()
	if err != nil {
		return fmt.Errorf("read the database's mark: %w", err)
	}
	quarantined, err := j.findSegments()
	if err != nil {
		return fmt.Errorf("read the segments: %w", err)
	}
	for _, s := range j.segs {
		s.stale = c != nil && s.id.number <= c.Number && !slices.Contains(c.Live, s.name)
	}
	m := parseMark(text)
	fits := !quarantined && j.fit(c, m)
	if fits {
		j.mark = m
		j.dropGone(c)
	}
	j.restore(c)
	if err := j.replay(); err != nil {
		return err
	}
	fits = !j.cutShort(c) && fits
	strays, err := j.strays(ctx)
	if err != nil {
		return fmt.Errorf("compare the segments with the database: %w", err)
	}
	if !fits || strays {
		if err := j.rebuild(ctx, c, m); err != nil {
			return err
		}
	} else if c.Compare && len(j.segs) > 0 { // the process ended meanwhile
		j.restored = present{}
		if err := j.db.Each(ctx, "", j.restored.add); err != nil {
			return fmt.Errorf("list the rows of the database: %w", err)
		}
	}
	j.makeReserve()
	return nil
}

// fit tells whether CHECKPOINT and the database were left together, with all the
// segments that were there then.
func (j *Journal) fit(c *checkpoint, m mark) bool {
	if c == nil {
		return false
	}
	has := func(name string) bool {
		return slices.ContainsFunc(j.segs, func(s *segment) bool { return s.name == name })
	}
	for _, name := range c.Live {
		if !has(name) {
			return false
		}
	}
	for _, s := range j.segs {
		if c.covers(s) { // a crash came before it was removed
			continue
		}
		if prev := s.prev.String(); s.prev != (segmentID{}) && prev != c.Last && !has(prev) {
			return false
		}
	}
	if m.newest != "-" && m.newest != c.Last && !has(m.newest) {
		return false
	}
	return m.id == c.ID || m.prev == c.ID
}

// findSegments opens the segments, in order. One without a header may be quarantined: what
// was in it is not known.
func (j *Journal) findSegments() (quarantined bool, err error) {
	names, err := j.fs.list(journalDir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		id, ok := parseSegment(name)
		if !ok {
			continue
		}
		j.number = max(j.number, id.number)
		s := &segment{id: id, former: true, sealed: true, recount: true, applied: segHead, first: time.Now()}
		if s.f, err = j.fs.open(journalDir + "/" + name); err != nil {
			return false, err
		}
		if err = s.readHeader(); err == nil {
			s.size, err = s.f.size()
		}
		if err == nil {
			j.segs = append(j.segs, s)
			continue
		}
		if errors.Is(err, errHeader) {
			var kept bool
			kept, err = j.quarantineSegment(s, name)
			quarantined = quarantined || kept
		}
		if err = errors.Join(err, s.f.Close()); err != nil {
			return false, err
		}
	}
	slices.SortFunc(j.segs, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.id.number, b.id.number), cmp.Compare(a.id.epoch, b.id.epoch))
	})
	return quarantined, nil
}

// quarantineSegment removes a segment without a header: a crash left it before anything in
// it had a receipt. If there is more in it, which a crash of the machine can leave,
// but damage too, it is kept.
func (j *Journal) quarantineSegment(s *segment, name string) (kept bool, err error) {
	size, err := s.f.size()
	if err != nil {
		return false, err
	}
	scan := &scanner{f: s.f, off: segHead, end: size}
	if err = scan.search(); errors.Is(err, io.EOF) {
		return false, ignore(j.fs.remove(journalDir+"/"+name), fs.ErrNotExist)
	}
	if err != nil {
		return false, err
	}
	j.log.Warn("journal segment without a header", "segment", name,
		"effect", "none if the machine crashed while the segment was made; after damage, lines in it that the database does not have are lost",
		"hint", "The segment is kept in "+damagedDir+"/.")
	if err = j.fs.mkdir(damagedDir); err != nil {
		return true, err
	}
	return true, j.fs.rename(journalDir+"/"+name, damagedDir+"/"+name)
}

// dropGone removes the segments that the last checkpoint covers.
func (j *Journal) dropGone(c *checkpoint) {
	j.segs = slices.DeleteFunc(j.segs, func(s *segment) bool {
		if !c.covers(s) {
			return false
		}
		_ = s.f.Close() // or its space would not become free
		return true
	})
	j.gone = c.Gone
	j.clean()
}

func (j *Journal) restore(c *checkpoint) {
	if c == nil {
		return
	}
	j.id, j.lastGone = c.ID, c.Last
	j.last, _ = parseSegment(c.Last + ".seg") // until replay finds a newer one
	j.number = max(j.number, c.Number)
	for _, s := range c.Streams {
		j.streamLocked(s.SID).Stream = s
	}
}

// replay takes from the segments what was committed. A segment ends where its
// successor says. The last one ends where its records do, and is written again
// before anything in it is believed: that it can be read only shows that it is in
// the page cache.
func (j *Journal) replay() error {
	for _, s := range j.segs {
		end := int64(-1)
		for _, o := range j.segs {
			if o.prev == s.id && o.cut >= segHead { // else it was gone before the process that made o began
				end = o.cut
			}
		}
		if err := j.replaySegment(s, end); err != nil {
			return fmt.Errorf("read segment %s: %w", s.name, err)
		}
		if end < 0 {
			if err := j.spaced(func() error { return rewrite(s) }); err != nil { // some file systems need space for it
				return fmt.Errorf("write segment %s again: %w", s.name, err)
			}
		}
		s.unsure = end < 0 || s.damaged > 0
		j.last, j.lastEnd = s.id, s.end
	}
	return nil
}

func (j *Journal) replaySegment(s *segment, end int64) error {
	scan := s.scan(segHead, end)
	if scan.torn = end < 0; scan.torn {
		scan.end = max(segHead, s.size)
	}
	scan.damage = func(from, to int64) { j.damaged(s, from, to) }
	err := eachRecord(scan, func(r *record) error { return j.replayRecord(s, r) })
	s.end = scan.off
	return err
}

func (j *Journal) replayRecord(s *segment, r *record) error {
	if j.appliedAt.IsZero() {
		j.appliedAt = r.committed
	}
	st := j.streamLocked(r.sid)
	st.Seen = r.committed.UTC().Truncate(time.Millisecond)
	if r.kind == kindOwner {
		if s.stale && st.Owner != "" {
			return nil
		}
		st.Owner = string(r.payload)
		return nil
	}
	b, _, err := r.batch(nil)
	if err != nil {
		return err
	}
	s.rows += r.rows()
	st.Host = r.host
	if g := b.Gap; g != nil {
		st.addGap(g.Seq, g.Seq+g.N)
		return nil
	}
	sums := make([]uint32, len(b.Lines))
	for i, line := range b.Lines {
		sums[i] = sumOf(line)
	}
	st.addLines(b.Seq, b.End())
	s.note(r.sid, b.Seq, b.End())
	j.recent.put(st.number, b.Seq, sums)
	return nil
}

// rewrite writes what is in a segment once more, where it is. A crash meanwhile
// leaves what is there. Pages that cannot be read are damage, which is known.
func rewrite(s *segment) error {
	buf := make([]byte, pageSize)
	for off := int64(0); off < s.end; off += pageSize {
		page := buf[:min(pageSize, s.end-off)]
		if _, err := s.f.ReadAt(page, off); err != nil {
			continue
		}
		if err := s.f.writeAt(page, off); err != nil {
			return err
		}
	}
	return s.f.sync()
}

// strays tells whether the database has rows of a segment that cannot be read from
// it: an older copy of it was restored, or it is damaged. An AsyncDatabase is not
// asked, for it may be away.
func (j *Journal) strays(ctx context.Context) (found bool, err error) {
	if _, async := j.db.(AsyncDatabase); async {
		return false, nil
	}
	for _, s := range j.segs {
		if !s.unsure || found {
			continue
		}
		has := present{}
		if err := s.collect(has); err != nil {
			return false, err
		}
		if err := j.db.Each(ctx, s.name, func(id ID) { found = found || !has.has(id) }); err != nil {
			return false, err
		}
	}
	return found, nil
}

// cutShort tells whether a segment ends before CHECKPOINT says it did: the streams there
// count lines as committed that cannot be read.
func (j *Journal) cutShort(c *checkpoint) (found bool) {
	if c == nil {
		return false
	}
	for i, name := range c.Live[:min(len(c.Live), len(c.Ends))] {
		for _, s := range j.segs {
			if s.name == name && s.end < c.Ends[i] {
				j.damaged(s, s.end, c.Ends[i])
				found = true
			}
		}
	}
	return found
}

// rebuild brings together a CHECKPOINT and a database of which one was restored,
// replaced or emptied: what either has counts as committed.
func (j *Journal) rebuild(ctx context.Context, c *checkpoint, m mark) error {
	there := present{}
	if err := j.db.Each(ctx, "", there.add); err != nil {
		return fmt.Errorf("list the rows of the database: %w", err)
	}
	if c == nil && len(there) == 0 && len(j.segs) == 0 && (m.id == "" || m.prev == "-") { // a new store
		return j.checkpoint(nil)
	}
	var lacking uint64
	if c != nil {
		lacking = j.findLacks(c, there)
	}
	for sid, has := range there {
		st := j.streamLocked(sid)
		for _, p := range has.lines {
			st.addLines(p[0], p[1])
		}
		for g := range has.gaps {
			st.addGap(g[0], g[0]+g[1])
		}
	}
	j.restored = there
	j.stats.Restored++
	j.log.Warn("database and journal do not belong together", "lacking", lacking,
		"effect", "one of them was restored, replaced or damaged; no line is stored twice, and lines that the database has lost are named by a gap",
		"hint", "restore the store's directory as a whole; run wsreceive verify to see which lines are missing")
	return j.checkpoint(nil)
}

// findLacks notes which lines CHECKPOINT promises that neither the database nor
// the journal has. What is below the first line that the database has of a stream
// may have been taken by retention.
func (j *Journal) findLacks(c *checkpoint, there present) (n uint64) {
	waiting := present{}
	for _, s := range j.segs {
		_ = s.collect(waiting) // it was just read
	}
	for i := range c.Streams {
		st := j.streams[c.Streams[i].SID]
		lacks := slices.Clone(st.Lines)
		for _, p := range there.lines(st.SID) {
			lacks.remove(p[0], p[1])
		}
		if has := there.lines(st.SID); len(has) > 0 {
			lacks.remove(0, has[0][0])
		}
		for _, p := range waiting.lines(st.SID) {
			lacks.remove(p[0], p[1])
		}
		st.Lacks = lacks
		gone := slices.Clone(st.Gaps) // that no row names any more
		for _, has := range []present{there, waiting} {
			if of := has[st.SID]; of != nil {
				for g := range of.gaps {
					gone.remove(g[0], g[0]+g[1])
				}
			}
		}
		if has := there.lines(st.SID); len(has) > 0 {
			gone.remove(0, has[0][0])
		}
		for _, p := range gone {
			st.Gaps.remove(p[0], p[1])
		}
		n += lacks.Count()
	}
	return n
}

// nameLacks stores a gap for each stream of which lines are missing, once.
func (j *Journal) nameLacks(ctx context.Context) {
	for _, st := range j.Streams() {
		if len(st.Lacks) == 0 || st.Gaps.covers(st.Lacks[0][0], st.Lacks.End()) {
			continue
		}
		gap := receiver.LacksGap(st.SID, st.Host, st.Lacks[0][0], st.Lacks.End())
		if _, err := j.Commit(ctx, []receiver.Batch{gap}); err != nil {
			j.log.Warn("missing lines not named", "sid", st.SID, "err", err,
				"effect", "the stored stream has no gap where lines are missing; wsreceive verify names them",
				"hint", "restart wsreceive when the journal has space")
		}
	}
}
