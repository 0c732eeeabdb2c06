package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const damagedName = "damaged"

// recoverer is the state of one recovery. It changes nothing but by setting
// files aside and by making one new segment, so a crash within it is harmless:
// the next one finds the same (R11).
type recoverer struct {
	Recovery
	q             *Queue
	w             *writer
	proved        uint64      // every record below is known to have been durable
	headerDurable uint64      // what the last segment's headers say of that
	tail          []tailEntry // of the last segment, in file order: what is not below proved, a few MiB
	expect        uint64      // after the last data block of the tail
	unreadableEnd bool        // after the last data block are bytes that cannot be read
	sealed        bool        // the last block is a seal: all before it was synced
	sealAlone     bool        // and it alone knows how far an intake is
}

// tailEntry is a data block of the last segment, or numbers that it lacks.
type tailEntry struct {
	*Block       // nil: none
	lost   Range // if there is no block: none holds these
}

func (r *recoverer) run() error {
	q := r.q
	var err error
	if q.ident, err = readIdentity(q.fsys); err != nil {
		return err
	}
	if err := r.findSegments(); err != nil {
		return err
	}
	if r.w.saved, err = loadCursor(q.fsys); err != nil {
		return err
	}
	_ = r.w.syncCursor() // it is tried again
	q.acked, q.receipt = r.w.saved.acked, r.w.saved.receipt
	q.table = slices.Clone(r.w.saved.intakes)
	if err := r.scanLast(); err != nil {
		return err
	}
	r.findHoles()
	r.resolveTail()
	q.losses = readLosses(q.fsys, time.Now())
	for _, g := range q.gaps.durable {
		q.losses.addGap(g)
	}
	if err := r.identify(); err != nil {
		return err
	}
	r.rewriteUnproven()
	return nil
}

// findSegments lists the segments; what only looks like one is quarantined, and
// what a later segment has taken over is removed (R9), once all are known (R10).
func (r *recoverer) findSegments() error {
	// A name may be there and not durable: of a segment whose maker was killed
	// between the rename and the sync.
	if err := r.q.fsys.syncDir("."); err != nil && !refused(err) {
		return err
	}
	entries, err := r.q.fsys.list(".")
	if err != nil {
		return err
	}
	r.moveStrangers(entries)
	var strange, unreadable []string
	for _, e := range entries {
		id, ok := segmentID(e.Name())
		if !ok {
			continue
		}
		s, err := findSegment(r.q.fsys, id)
		switch {
		case errors.Is(err, errNoSegment), err == nil && len(r.q.ident.pairs) > 0 && !r.q.ident.has(s.sid):
			strange = append(strange, e.Name())
		case errors.Is(err, fs.ErrPermission):
			unreadable = append(unreadable, e.Name())
		case err != nil:
			return fmt.Errorf("segment %s: %w", e.Name(), err)
		default:
			r.q.segs = append(r.q.segs, s)
		}
	}
	for _, name := range strange {
		if err := r.quarantineFile(name); err != nil {
			return err
		}
	}
	for _, name := range unreadable { // it may hold lines: it is not left out before it is safe
		to, err := quarantine(r.q.fsys, name)
		if err != nil {
			return err
		}
		r.Quarantined = append(r.Quarantined, to)
	}
	if err := r.dropSpare(); err != nil {
		return err
	}
	segs := r.q.segs
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.id, b.id) })
	if len(r.q.ident.pairs) == 0 {
		r.rebuildIdentity()
	}
	for k := len(segs) - 2; k >= 0; k-- {
		segs[k].next = segs[k+1].base
		if segs[k].base < segs[k].next {
			continue
		}
		if err := r.q.fsys.remove(segmentName(segs[k].id)); err != nil && !refused(err) {
			return err
		}
		segs = slices.Delete(segs, k, k+1)
	}
	r.q.segs = segs
	return nil
}

// dropSpare removes a spare that is larger than a segment, since the limit was
// changed.
func (r *recoverer) dropSpare() error {
	f, err := openIfUsable(r.q.fsys, spareName)
	if f == nil {
		return err
	}
	size, err := f.size()
	if err := errors.Join(err, f.Close()); err != nil || size <= r.q.segmentSize() {
		return err
	}
	if err := r.q.fsys.remove(spareName); err != nil && !refused(err) {
		return err
	}
	return nil
}

// rebuildIdentity takes the streams from the segments, which name them too.
func (r *recoverer) rebuildIdentity() {
	for _, s := range r.q.segs {
		if s.sid != r.q.ident.sid(s.base) {
			r.q.ident.pairs = append(r.q.ident.pairs, pair{s.base, s.sid})
		}
	}
}

// quarantineFile moves a file into damaged/. Where nothing may be changed it only names
// the file.
func (r *recoverer) quarantineFile(name string) error {
	to, err := quarantine(r.q.fsys, name)
	if refused(err) {
		to, err = name, nil
	}
	if err == nil {
		r.Quarantined = append(r.Quarantined, to)
	}
	return err
}

// moveStrangers moves away what has a name of the queue's and is not a file, or, under
// the name damaged/, not a folder.
func (r *recoverer) moveStrangers(entries []fs.DirEntry) {
	for _, e := range entries {
		var want fs.FileMode
		switch e.Name() {
		case damagedName:
			want = fs.ModeDir
		case cursorName, identityName, identityTmp, spareName:
		default:
			continue
		}
		if e.Type() != want {
			_ = r.quarantineFile(e.Name()) // nothing depends on it: what is not there is made
		}
	}
}

// refused reports whether nothing may be changed, which is no reason not to deliver
// what is there.
func refused(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// scanLast reads the last segment to its end (R3, R4).
func (r *recoverer) scanLast() error {
	q := r.q
	for _, s := range q.segs {
		q.acked = max(q.acked, s.acked)
	}
	r.proved, r.headerDurable = max(q.acked, r.w.saved.durable), 1
	if len(q.segs) == 0 {
		return nil
	}
	seg := q.segs[len(q.segs)-1]
	r.headerDurable = seg.base
	for _, o := range seg.intakes {
		r.noteInput(o)
	}
	f, err := q.fsys.open(segmentName(seg.id))
	if err != nil {
		return err
	}
	r.w.f = f // if the file is removed, it can still be read
	scan := newScanner(withRetry(f), seg, seg.size)
	for h, err := range scan.blocks() {
		if err != nil {
			return err
		}
		b, err := scan.sound(h)
		if err != nil {
			return err
		}
		if b != nil && h.kind == kindData && h.first > scan.expect {
			keepDamaged(q.fsys, f, seg, scan.good, scan.off)
			r.tail = append(r.tail, tailEntry{lost: Range{scan.expect, h.first}})
		}
		r.noteBlock(h, b)
	}
	r.expect, r.unreadableEnd = scan.expect, scan.bad != nil
	if r.expect < r.proved {
		keepDamaged(q.fsys, f, seg, scan.good, seg.size)
	}
	return nil
}

// noteBlock takes what a block of the last segment has, or, of one that is
// damaged, what its header says.
func (r *recoverer) noteBlock(h header, b *Block) {
	switch {
	case b == nil:
		r.advanceDurable(h)
		return
	case h.kind == kindData:
		r.tail = append(r.tail, tailEntry{Block: b})
	case h.kind == kindGap:
		b.sid = r.q.ident.sid(h.first)
		r.q.gaps.durable.add(b)
	}
	r.advanceDurable(h)
	r.sealed = h.kind == kindSeal && h.durable >= h.first
	r.sealAlone = h.kind == kindSeal && r.noteInput(h.origin())
}

// findHoles looks for segments that are missing in the middle (R8). What cannot
// be looked at now is looked at when it is read.
func (r *recoverer) findHoles() {
	q := r.q
	for k := 0; k+1 < len(q.segs); k++ {
		s := q.segs[k]
		if q.segs[k+1].id == s.id+1 || s.next <= q.acked {
			continue
		}
		f, err := q.fsys.open(segmentName(s.id))
		if err != nil {
			continue
		}
		scan := newScanner(withRetry(f), s, s.size)
		if expect, err := scan.end(); err == nil && scan.bad == nil && expect < s.next {
			r.Gaps = append(r.Gaps, Range{expect, s.next})
		}
		_ = f.Close() // only read
	}
}

// advanceDurable notes what a header states to have been durable, and settles what is
// below.
func (r *recoverer) advanceDurable(h header) {
	r.proved = max(r.proved, h.durable, h.acked)
	r.headerDurable = max(r.headerDurable, h.durable)
	r.q.acked = max(r.q.acked, h.acked)
	r.settleBelow(r.proved)
}

// settleBelow takes from the front of the tail what is proved: its intakes
// count, its missing numbers are damage (R6).
func (r *recoverer) settleBelow(seq uint64) {
	for len(r.tail) > 0 {
		t := r.tail[0]
		switch {
		case t.Block == nil && t.lost.End <= seq:
			r.Gaps = append(r.Gaps, t.lost)
		case t.Block != nil && t.next() <= seq:
			r.noteInput(t.origin())
		default:
			return
		}
		r.tail = r.tail[1:]
	}
}

// noteInput notes how far an intake is on disk, and reports whether that is new.
func (r *recoverer) noteInput(o Origin) bool {
	old, ok := r.q.table.get(o.Intake)
	if o.Intake == 0 || ok && (old == o || old.End > o.End) {
		return false
	}
	r.q.table.set(o, r.q.o.LiveInput.Intake)
	return true
}

// resolveTail decides on what the last segment lacks, and numbers what comes.
func (r *recoverer) resolveTail() {
	q := r.q
	q.acked = max(q.acked, 1)
	lost := r.Gaps
	r.Gaps = nil
	for _, x := range lost {
		r.addGaps(x, "damaged")
	}
	for k, t := range r.tail {
		if t.Block != nil {
			r.noteInput(t.origin())
			continue
		}
		if t.lost.First < r.proved {
			r.addGaps(Range{t.lost.First, r.proved}, "damaged")
			t.lost.First = r.proved
		}
		if r.readAgain(r.tail[k+1:]) {
			r.tail, r.expect = r.tail[:k], t.lost.First
			break
		}
		r.addGaps(t.lost, "unsynced")
	}
	if r.expect < r.proved && len(q.segs) > 0 {
		r.addGaps(Range{max(r.expect, q.acked), r.proved}, "damaged")
	}
	q.head = max(1, r.expect, r.proved, q.acked)
	for _, p := range q.ident.pairs {
		q.head = max(q.head, p.from)
	}
	for _, g := range q.gaps.durable {
		q.head = max(q.head, g.next())
	}
	if len(q.segs) > 0 {
		r.addGaps(Range{q.acked, max(q.acked, q.segs[0].base)}, "damaged") // R8
	}
	q.gaps.durable.acknowledge(q.acked)
	if live := q.gaps.durable; len(live) > 0 {
		q.acked = min(q.acked, live[0].first) // a gap is delivered whole, as it was made
	}
	q.durable, q.next, q.handedOut = q.head, q.acked, q.head
	r.intakes = q.table
}

// readAgain reports whether all that stands after the hole came from the live intake,
// and its pipe's spool still has it (R5).
func (r *recoverer) readAgain(later []tailEntry) bool {
	l := r.q.o.LiveInput
	last, ok := r.q.table.get(l.Intake)
	if !ok || last.End < l.Mark || r.q.table[len(r.q.table)-1] != last {
		return false
	}
	return !slices.ContainsFunc(later, func(t tailEntry) bool {
		return t.Block != nil && t.intake != l.Intake
	})
}

// addGaps makes gaps of r, but for what is acknowledged or in a gap already.
func (r *recoverer) addGaps(x Range, why string) {
	x.First = max(x.First, r.q.acked)
	for _, b := range r.q.gapBlocksLocked(x, Gap{Why: why, Maybe: true}) {
		r.q.gaps.durable.add(b)
		r.Gaps = append(r.Gaps, b.Range())
	}
}

// identify settles which stream the numbers to come belong to, before any is
// given. Numbers may have been used that nothing here remembers: in a directory
// that was copied, or whose newest segment was removed, or of which the end
// cannot be read. Then what comes gets a new stream, and what is here keeps its
// own.
func (r *recoverer) identify() error {
	q := r.q
	was, here := q.ident, q.fsys.home()
	var newest uint64
	if len(q.segs) > 0 {
		newest = q.segs[len(q.segs)-1].id
	}
	switch known := newest > 0 || r.w.saved.generation > 0; {
	case len(was.pairs) == 0 && !known:
		q.ident.renew(1)
	case !known, was.home != here, newest < r.w.saved.segment, r.unreadableEnd:
		q.ident.pairs = slices.Clone(was.pairs)
		q.ident.renew(q.head)
		r.NewSID = true
	}
	q.ident.home = here
	q.ident.prune(q.acked, q.segs)
	if was.home == here && slices.Equal(was.pairs, q.ident.pairs) {
		return nil
	}
	err := q.ident.write(q.fsys)
	if refused(err) || noSpace(err) {
		r.w.identityStale, err = true, nil // before anything gets a number
	}
	return err
}

// rewriteUnproven copies what is not proved durable, with all gaps, into a new
// segment (R12). That such blocks read well proves nothing: they may live in
// the page cache only, and the file may be one whose sync failed. So they are
// treated as after a failed sync (F1); if that cannot be done now, the writer
// keeps trying, and Next gives only what is before them until then.
func (r *recoverer) rewriteUnproven() {
	q, w := r.q, r.w
	var copies []*Block
	for _, t := range r.tail {
		if t.Block != nil {
			copies = append(copies, t.Block)
		}
	}
	live := q.gaps.durable
	if len(copies) == 0 && len(r.Gaps) == 0 && (len(live) == 0 || r.sealed) && !r.sealAlone {
		w.syncedDurable = r.headerDurable // where only CURSOR knows more, a seal will follow
		return
	}
	if len(copies) > 0 {
		q.durable = copies[0].first
	}
	seal := newSeal(q.head)
	seal.durable, seal.acked = q.head, q.acked
	w.unsynced = slices.Concat(live, copies, []*Block{seal})
	q.gaps, w.poisoned = queueGaps{pending: live}, true
	for _, b := range copies {
		q.unsynced += int64(b.raw)
		r.Copied += b.count
	}
	if err := w.sync(time.Now()); err != nil {
		w.failed(err, time.Now())
	}
}
