package buffer

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// placed is a block in a segment's file.
type placed struct {
	header
	off, end int64 // end of what its checksums cover
}

// blocksIn are the valid blocks in a segment's bytes.
func blocksIn(w failer, name string, b []byte) (*segment, []placed) {
	w.Helper()
	id, _ := segmentID(name)
	seg, err := readSegment(strings.NewReader(string(b)), id)
	if err != nil {
		return nil, nil
	}
	var blocks []placed
	scan := newScanner(strings.NewReader(string(b)), seg, int64(len(b)))
	for h, err := range scan.blocks() {
		if err != nil {
			return seg, blocks
		}
		found, err := scan.sound(h)
		if err != nil {
			w.Fatalf("read %s: %v", name, err)
		}
		if found != nil {
			blocks = append(blocks, placed{h, scan.off, scan.off + headerLen + int64(h.stored)})
		}
	}
	return seg, blocks
}

// damage changes size bytes of a file and notes what that may cost: the blocks
// that it hits; a segment, if nothing is left of its header.
func (w *world) damage(name string, off, size int, change func([]byte)) {
	w.Helper()
	b := w.fs.bytes(name)
	to := min(off+size, len(b))
	after := slices.Clone(b)
	change(after[off:to])
	if bytes.Equal(b, after) {
		return
	}
	w.scarred = true
	switch id, isSegment := segmentID(name); {
	case name == cursorName:
		w.lostCursor()
	case name == identityName:
		w.moved = true
		if w.diverged { // it alone knew which stream the numbers belong to
			clear(w.where)
		}
		if w.beyond { // it alone knew how far the numbers went
			w.unsure = min(w.unsure, w.acked)
		}
	case isSegment && !isSegmentOf(after, id): // the last copy of its header
		w.lose(name)
	case isSegment && off >= pageLen:
		w.hit(name, int64(off), int64(to))
	}
	w.fs.damage(name, off, func(b []byte) { copy(b, after[off:to]) })
}

func isSegmentOf(b []byte, id uint64) bool {
	_, err := readSegment(bytes.NewReader(b), id)
	return err == nil
}

// lostCursor: what was acknowledged may come again; and if its segments are
// gone, nobody can tell that it was.
func (w *world) lostCursor() {
	w.hurtAll(Range{1, w.acked})
}

func (w *world) hurtAll(r Range) {
	for seq := r.First; seq < r.End; seq++ {
		w.hurt[seq] = true
		delete(w.where, w.lines[seq]) // the spool may still have it
	}
}

// hit notes that the blocks between two offsets are damaged.
func (w *world) hit(name string, from, to int64) {
	w.Helper()
	seg, blocks := blocksIn(w, name, w.fs.bytes(name))
	if seg == nil {
		return
	}
	recorded := seg.base
	for _, b := range blocks {
		if b.end <= from || b.off >= to {
			recorded = max(recorded, b.durable, b.acked)
		}
	}
	for _, b := range blocks {
		if b.end <= from || b.off >= to {
			continue
		}
		w.hurtAll(Range{b.first, b.next()})
		if b.kind == kindData && b.next() > recorded && w.newest(name) {
			w.unsure = min(w.unsure, b.first)
		}
	}
}

func (w *world) newest(name string) bool {
	names := w.fs.segments()
	return names[len(names)-1] == name
}

// lose notes that a whole segment is lost.
func (w *world) lose(name string) {
	w.Helper()
	seg, blocks := blocksIn(w, name, w.fs.bytes(name))
	if seg == nil {
		return // it was before
	}
	for _, b := range blocks {
		w.hurtAll(Range{b.first, b.next()})
	}
	if w.newest(name) {
		w.moved, w.beyond = true, true
		w.unsure = min(w.unsure, w.baseBelow(name), seg.base)
		w.hurtAll(Range{w.unsure, w.head})
	}
}

// baseBelow is the base of the segment before the newest one, where numbering
// continues at the earliest if others in between are lost as well.
func (w *world) baseBelow(newest string) uint64 {
	names := w.fs.segments()
	if len(names) < 2 || names[len(names)-1] != newest {
		return 1
	}
	seg, _ := blocksIn(w, names[len(names)-2], w.fs.bytes(names[len(names)-2]))
	if seg == nil {
		return 1
	}
	return seg.base
}

func (w *world) remove(name string) {
	w.Helper()
	w.scarred = true
	w.lose(name)
	w.fs.unlink(name)
}

// unlink is a removal by another process, and it is on disk.
func (s *strictFS) unlink(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alter(func(m map[string]*inode) { delete(m, name) })
	s.apply(len(s.log))
}

func (w *world) move() {
	w.fs.place += "'"
	w.moved = true
}

// backup is the directory as it is now, and what the oracle knows of it.
type backup struct {
	fs                *strictFS
	lines             map[uint64]string
	hurt, gone, named map[uint64]bool
	head              uint64
}

func (w *world) backup() backup {
	return backup{w.fs.backup(), maps.Clone(w.lines), maps.Clone(w.hurt), maps.Clone(w.gone), maps.Clone(w.named), w.head}
}

// restore puts a backup back. In the old place nothing can tell that numbers
// were used since: the receiver notices, by the checksums. Elsewhere what comes
// is another stream. The pipe is another one in any case.
func (w *world) restore(b backup, elsewhere bool) {
	w.fs.mu.Lock()
	w.fs.dead = true
	w.fs.mu.Unlock()
	w.fs, w.faulty = b.fs, false
	w.scarred, w.beyond = true, true
	w.hurt, w.gone, w.named = b.hurt, b.gone, b.named
	w.lines, w.head, w.proved, w.unsure = b.lines, b.head, b.head, b.head
	w.intake, w.stream, w.end, w.mark = w.intake+1, nil, 0, 0
	if elsewhere {
		w.move()
	} else {
		w.reused = min(w.reused, b.head)
	}
}

// refuse is what the receiver does with a block that has other lines under
// numbers that it knows, where a backup was put back in place: from the first of
// them on they get a new stream.
func (w *world) refuse(b *Block, lines []byte) bool {
	w.Helper()
	r := b.Range()
	seq := r.First
	for line := range bytes.Lines(lines) {
		if was := w.ever[uid(b, seq)]; seq >= w.reused && was != "" && was != string(line) {
			if err := w.q.Diverge(seq); err != nil && !w.faulty && !w.isDead() {
				w.Fatalf("diverge at %d: %v", seq, err)
			}
			if err := w.q.Rewind(r.First); err != nil {
				w.Fatalf("rewind to %d: %v", r.First, err)
			}
			for again := seq; again < w.head; again++ { // what came out of these comes once more
				delete(w.where, w.lines[again])
			}
			w.diverged = true
			return true
		}
		seq++
	}
	return false
}
