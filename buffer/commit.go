package buffer

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	syncGap     = 2 * time.Millisecond // between syncs when lines trickle
	trickle     = 64 << 10             // raw bytes: more than this does not wait for syncGap
	sealAfter   = time.Second          // without new lines
	cursorEvery = time.Second
	retryFirst  = 100 * time.Millisecond
	retryMax    = 5 * time.Second
	reserve     = 2*aheadLimit + 2*maxRaw // bytes beyond the limit, for what is in memory when the queue is closed
)

// What keeps the queue from growing.
var (
	errFull  = errors.New("the queue has reached its limit")
	errSpace = errors.New("the file system is nearly full")
)

// writer owns the files that change: it alone writes, syncs, creates and
// removes them. step does all that can be done now; the goroutine around it
// only waits. What is not durable stays in memory, so that a failed sync is
// survivable (F1).
type writer struct {
	q          *Queue
	cursorFile file
	cur        cursor // as in cursorFile
	stale      bool   // or perhaps not

	seg      *segment // nil until the first block after Open
	f        file
	off      int64
	start    int64    // off when seg was new
	poisoned bool     // a sync of f failed: nothing written to it is believed any more
	todo     []*Block // encoded, not in a file
	unsynced []*Block // in f, not synced
	recorded uint64   // the highest durable that a synced header carries
	noted    Origin   // the newest origin that a synced header carries

	lastData   time.Time
	lastSync   time.Time
	lastCursor time.Time
	retryAt    time.Time
	retries    int
}

func (w *writer) run() {
	q := w.q
	defer close(q.done)
	stop, timer := q.stop, time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.kick:
		case <-timer.C:
		case <-stop:
			stop = nil // once
		case <-q.abort:
			w.closeFiles()
			return
		}
		wake := w.step(time.Now(), stop == nil)
		if stop == nil && w.retries == 0 {
			w.closeFiles()
			return
		}
		timer.Reset(time.Until(wake))
	}
}

func (w *writer) closeFiles() {
	if w.f != nil {
		_ = w.f.Close() // what counts was synced
	}
	_ = w.cursorFile.Close()
}

// step does what there is to do and says when it wants to be called again at
// the latest. With closing, nothing is put off.
func (w *writer) step(now time.Time, closing bool) (wake time.Time) {
	err := errors.Join(w.trim(), w.expire(now))
	if wait := w.retryAt; now.Before(wait) && !closing {
		return wait
	}
	if wait := w.lastSync.Add(syncGap); now.Before(wait) && w.trickling() && !closing {
		return wait
	}
	w.take(now)
	if err == nil {
		err = w.writeAll()
	}
	if err == nil && (closing || w.syncDue(now)) {
		err = w.sync(now)
	}
	if err == nil && (closing || now.Sub(w.lastData) >= sealAfter) {
		err = w.writeSeal(now)
	}
	if err == nil && (closing || now.Sub(w.lastCursor) >= cursorEvery) {
		err = w.saveCursor(now, closing)
	}
	if err != nil {
		return w.failed(err, now)
	}
	w.recovered()
	return w.nextWake(now)
}

// trickling: so little waits that one more line is worth waiting for.
func (w *writer) trickling() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return len(w.q.queued) == 0 && (w.q.filling == nil || len(w.q.filling.buf) < trickle)
}

func (w *writer) nextWake(now time.Time) time.Time {
	wake := now.Add(time.Hour)
	if age := w.q.o.MaxAge; age > 0 {
		wake = now.Add(max(time.Second, age/16))
	}
	if len(w.unsynced) > 0 {
		wake = w.lastSync.Add(w.q.o.Sync)
	}
	if w.sealWanted() {
		wake = earlier(wake, w.lastData.Add(sealAfter))
	}
	if w.cursorWanted() {
		wake = earlier(wake, w.lastCursor.Add(cursorEvery))
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// take gets what was appended and encodes it.
func (w *writer) take(now time.Time) {
	q := w.q
	q.mu.Lock()
	blocks := q.queued
	if q.filling != nil {
		blocks = append(blocks, q.filling)
	}
	q.queued, q.filling = nil, nil
	codec := q.codec()
	q.mu.Unlock()
	for _, b := range blocks {
		b.encode(codec)
		w.lastData = now
	}
	w.todo = append(w.todo, blocks...)
}

// codec is chosen by load: how much waits to become durable; mu is held.
func (q *Queue) codec() Codec {
	switch q.o.Compress {
	case CompressZstd:
		return Zstd
	case CompressS2:
		return S2
	case CompressNone:
		return Raw
	}
	switch {
	case q.ahead < aheadLimit/8:
		return Zstd
	case q.ahead < aheadLimit*7/8:
		return S2
	}
	return Raw
}

func (w *writer) writeAll() error {
	for len(w.todo) > 0 {
		b := w.todo[0]
		if err := w.makeRoom(b); err != nil {
			return err
		}
		if err := w.write(b); err != nil {
			return err
		}
		w.todo = w.todo[1:]
	}
	w.todo = nil
	return nil
}

// write puts b into a segment that it may go to. A segment ends durable before
// the next one begins.
func (w *writer) write(b *Block) error {
	for !w.fits(b) {
		if len(w.unsynced) > 0 {
			if err := w.sync(time.Now()); err != nil {
				return err
			}
		} else if err := w.rotate(nil); err != nil {
			return err
		}
	}
	if err := w.put(b); err != nil {
		return err
	}
	w.unsynced = append(w.unsynced, b)
	return nil
}

func (w *writer) fits(b *Block) bool {
	return w.seg != nil && !w.poisoned && (b.kind != kindData || w.seg.sid == b.sid) &&
		(w.off+b.span() <= w.q.segmentSize() || w.off == w.start)
}

// put writes b to the segment. A block half written is a torn tail like any
// other and is written over; but after an error other than a full disk the
// file is not believed.
func (w *writer) put(b *Block) error {
	q := w.q
	q.mu.Lock()
	b.durable, b.acked = q.durable, q.acked
	q.mu.Unlock()
	err := w.seg.write(w.f, &w.off, b)
	if err != nil && !noSpace(err) {
		w.poisoned = true
	}
	q.mu.Lock()
	w.seg.size = max(w.seg.size, w.off)
	q.mu.Unlock()
	return err
}

func noSpace(err error) bool {
	return errors.Is(err, errSpace) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// makeRoom makes sure that b does not pass the limit, as the policy says.
func (w *writer) makeRoom(b *Block) error {
	for {
		err := w.room(b)
		if err == nil || b.kind != kindData || !w.q.o.DropOldest {
			return err
		}
		if dropped, failed := w.dropOldest(); failed != nil || !dropped {
			return cmp.Or(failed, err)
		}
	}
}

// room refuses a block that would pass the limit. What is kept when the queue
// is closed may pass it a little: it is in memory, and that is about to end.
func (w *writer) room(b *Block) error {
	free, err := w.q.fsys.free()
	if err != nil {
		return err
	}
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	held := w.q.diskLocked()
	if w.seg != nil {
		held += w.off - w.seg.size // the rest of a recycled file is ours already
	}
	limit := w.q.limit()
	if w.q.isClosed() {
		limit += reserve
	}
	switch {
	case held+b.span() > limit:
		return fmt.Errorf("%w of %d MiB", errFull, limit>>20)
	case held+b.span() > (held+free)/2:
		return fmt.Errorf("%w: %d MiB are free, and the queue leaves half of the space to others", errSpace, free>>20)
	}
	return nil
}

func (q *Queue) limit() int64 {
	if q.o.Limit > 0 {
		return q.o.Limit
	}
	return defaultLimit
}

func (q *Queue) segmentSize() int64 { return min(segmentSize, q.limit()/8) }

// rotate begins a segment at the first number that is not durable, with all
// live gaps and the blocks, and makes it the one that is written.
func (w *writer) rotate(blocks []*Block) error {
	q := w.q
	q.mu.Lock()
	s := &segment{id: 1, base: q.durable, nonce: nonce(), created: time.Now().UnixMilli(), intakes: q.table}
	if n := len(q.segs); n > 0 {
		s.id = q.segs[n-1].id + 1
	}
	s.sid = q.ident.sid(s.base)
	listed := append(slices.Clone(q.gaps), blocks...)
	q.mu.Unlock()
	f, off, err := createSegment(q.fsys, s, func(write func(*Block) error) error {
		for _, b := range listed {
			if err := write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.use(s, f, off)
	return nil
}

// use makes s the segment that is written; what it took over is its own now.
func (w *writer) use(s *segment, f file, off int64) {
	if w.f != nil {
		_ = w.f.Close() // synced, or not believed
	}
	w.seg, w.f, w.off, w.start, w.poisoned = s, f, off, off, false
	w.q.mu.Lock()
	if n := len(w.q.segs); n > 0 {
		w.q.segs[n-1].next = s.base
	}
	w.q.segs = append(w.q.segs, s)
	w.q.mu.Unlock()
}

func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return binary.LittleEndian.Uint64(b[:])
}

// syncDue: a sync is always due, unless --sync lets lines wait; and then too
// when somebody waits for them or they fill the memory.
func (w *writer) syncDue(now time.Time) bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.o.Sync == 0 || w.q.wanted || w.q.ahead >= aheadLimit/2 || now.Sub(w.lastSync) >= w.q.o.Sync
}

// sync makes what was written durable: by fdatasync, or, where that ever
// failed, by writing it again to a new segment (F1). Linux marks the pages of
// a failed sync clean, so a second sync of that file would lie.
func (w *writer) sync(now time.Time) error {
	if len(w.unsynced) == 0 {
		return nil
	}
	if !w.poisoned {
		if err := w.f.sync(); err != nil {
			w.poisoned = true
			w.q.o.Log.Error("sync failed: writing the lines to a new file", "segment", segmentName(w.seg.id), "err", err,
				"effect", "no line is lost: what the file should hold is still in memory", "hint", "check the disk's health")
		}
	}
	if w.poisoned {
		if err := w.rotate(w.unsynced); err != nil {
			return err
		}
	}
	w.lastSync = now
	w.settle()
	return nil
}

// settle makes known that all that was written is durable.
func (w *writer) settle() {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range w.unsynced {
		w.recorded = max(w.recorded, b.durable)
		q.table.set(intake{b.intake, b.end, b.flags&flagUnfinished != 0})
		if b.intake == w.q.origin.Intake {
			w.noted = Origin{b.intake, b.end, b.flags&flagUnfinished != 0}
		}
		switch b.kind {
		case kindData:
			q.durable = b.next()
			q.ahead -= int64(b.raw)
			q.ring = append(q.ring, b)
			q.ringSize += int64(len(b.buf))
		case kindGap:
			q.moved++ // what is being read there is void
			q.gaps = append(q.gaps, b)
			slices.SortFunc(q.gaps, func(a, b *Block) int { return int(int64(a.first - b.first)) })
		case kindSeal:
		}
	}
	for q.ringSize > ringLimit {
		q.popRing()
	}
	w.unsynced = nil
	w.seg.written = w.off
	q.wanted, q.held = false, false
	q.broadcast()
}

// sealWanted: something is true on disk that no synced header says yet.
func (w *writer) sealWanted() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.recorded < w.q.durable || w.q.origin != w.noted && w.q.origin.Intake != 0
}

// writeSeal records that all is durable, once lines have stopped coming: from
// then on recovery can tell damage from what was never promised (R6).
func (w *writer) writeSeal(now time.Time) error {
	if len(w.unsynced) > 0 || !w.sealWanted() {
		return nil
	}
	w.q.mu.Lock()
	b := newSeal(w.q.head)
	b.sid = w.q.ident.sid(w.q.head)
	o := w.q.origin
	b.intake, b.end = o.Intake, o.End
	if o.Unfinished {
		b.flags = flagUnfinished
	}
	idle := w.q.filling == nil && len(w.q.queued) == 0
	w.q.mu.Unlock()
	if !idle {
		return nil
	}
	b.encode(Raw)
	w.todo = append(w.todo, b)
	if err := w.writeAll(); err != nil {
		return err
	}
	return w.sync(now)
}

func (w *writer) cursorWanted() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.stale || w.cur.acked != w.q.acked || w.cur.receipt != w.q.receipt || w.seg != nil && w.cur.segment != w.seg.id
}

// saveCursor writes CURSOR, and syncs it only where something is about to
// depend on it.
func (w *writer) saveCursor(now time.Time, sync bool) error {
	if w.cursorWanted() {
		next := cursor{generation: w.cur.generation + 1, segment: w.cur.segment}
		if w.seg != nil {
			next.segment = w.seg.id
		}
		w.q.mu.Lock()
		next.acked, next.receipt, next.intakes = w.q.acked, w.q.receipt, w.q.table
		w.q.mu.Unlock()
		if err := next.write(w.cursorFile); err != nil {
			return err
		}
		w.cur = next
	}
	w.lastCursor = now
	if !sync {
		return nil
	}
	err := w.cursorFile.sync()
	w.stale = err != nil // what a failed sync held may be lost: write it again
	return err
}

// trim removes the segments whose records are all acknowledged, after the
// cursor that says so is durable. The newest segment always stays. One acked
// segment is kept to be written again: blocks that exist need no journal.
func (w *writer) trim() error {
	q := w.q
	q.mu.Lock()
	n := 0
	for n < len(q.segs)-1 && q.segs[n].next <= q.acked {
		n++
	}
	old := slices.Clone(q.segs[:n])
	q.mu.Unlock()
	if n == 0 {
		return nil
	}
	if err := w.saveCursor(time.Now(), true); err != nil {
		return err
	}
	for _, s := range old {
		if err := w.retire(s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		q.mu.Lock()
		q.segs = q.segs[1:]
		q.mu.Unlock()
	}
	w.retryAt = time.Time{} // there may be room again
	q.mu.Lock()
	q.broadcast()
	q.mu.Unlock()
	return nil
}

// retire makes the file of s the spare one, or removes it.
func (w *writer) retire(s *segment) error {
	if s.size <= w.q.segmentSize() && s.size > w.q.segmentSize()/2 {
		return w.q.fsys.rename(segmentName(s.id), spareName)
	}
	return w.q.fsys.remove(segmentName(s.id))
}

// failed notes what keeps the writer from writing, once, and when to try again.
func (w *writer) failed(err error, now time.Time) time.Time {
	w.retries++
	q := w.q
	q.mu.Lock()
	first := q.trouble == ""
	q.trouble = err.Error()
	q.broadcast()
	q.mu.Unlock()
	if first {
		q.o.Log.Error("cannot write to the queue", "err", err,
			"effect", "no line is lost: wsrelay stops reading, and syslog-ng holds what comes, as its flow control is set",
			"hint", hintFor(err))
	}
	w.retryAt = now.Add(min(retryFirst<<min(w.retries-1, 10), retryMax))
	return w.retryAt
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, errFull):
		return "bring the receiver back, or raise --queue-limit"
	case noSpace(err):
		return "make space on the file system of the queue directory; wsrelay goes on by itself"
	}
	return "check the disk and the rights of the queue directory; wsrelay tries again by itself"
}

func (w *writer) recovered() {
	w.retries, w.retryAt = 0, time.Time{}
	w.q.mu.Lock()
	was := w.q.trouble
	w.q.trouble = ""
	w.q.mu.Unlock()
	if was != "" {
		w.q.o.Log.Info("writing to the queue again", slog.String("after", was))
	}
}
