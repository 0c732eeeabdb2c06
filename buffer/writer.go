package buffer

import (
	"errors"
	"log/slog"
	"slices"
	"time"
)

const (
	syncGap     = 2 * time.Millisecond // between syncs when lines trickle
	trickle     = 64 << 10             // raw bytes: more than this does not wait for syncGap
	sealAfter   = time.Second          // without new lines
	cursorEvery = time.Second
	retryFirst  = 100 * time.Millisecond
	retryMax    = 5 * time.Second
	reserve     = 2*aheadLimit + 2*maxRaw // bytes beyond the limit, for what is in pipe and memory when the input ends
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
	kept       bool   // cur is on disk

	seg      *segment // nil until the first block after Open
	f        file
	off      int64
	start    int64    // off when seg was new
	poisoned bool     // a sync of f failed: nothing written to it is believed any more
	todo     []*Block // encoded, not in a file
	unsynced []*Block // in f, not synced
	used     used     // of take
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
	ending, stop, timer := q.ending, q.stop, time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.kick:
		case <-timer.C:
		case <-ending:
			ending = nil            // once
			w.retryAt = time.Time{} // there is room now
		case <-stop:
			stop = nil
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
	if w.cursorFile != nil {
		_ = w.cursorFile.Close()
	}
}

// step does what there is to do and says when it wants to be called again at
// the latest. With closing, nothing is put off.
func (w *writer) step(now time.Time, closing bool) (wake time.Time) {
	kept := w.trim() // an error that keeps old lines on disk, and no new ones from it
	if wait := w.retryAt; now.Before(wait) && !closing {
		return wait
	}
	if wait := w.lastSync.Add(syncGap); now.Before(wait) && w.trickling() && !closing {
		return wait
	}
	kept = errors.Join(kept, w.expire(now))
	w.take(now)
	err := w.writeAll()
	if closing || w.syncDue(now) { // what was written before an error, too
		err = errors.Join(err, w.sync(now))
	}
	if err == nil && (closing || now.Sub(w.lastData) >= sealAfter) {
		err = w.writeSeal(now)
	}
	if err == nil && (closing || now.Sub(w.lastCursor) >= cursorEvery) {
		err = w.saveCursor(now, closing)
	}
	if err = errors.Join(err, kept); err != nil {
		return w.failed(err, now)
	}
	w.recovered()
	return w.nextWake(now)
}

// trickling: so little waits that one more line is worth waiting for.
func (w *writer) trickling() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.urgent <= w.q.durable && len(w.q.queued) == 0 && (w.q.filling == nil || len(w.q.filling.buf) < trickle)
}

func (w *writer) nextWake(now time.Time) time.Time {
	wake := now.Add(time.Hour)
	if age := w.q.o.MaxAge; age > 0 {
		wake = now.Add(max(time.Second, age/16))
	}
	if len(w.unsynced) > 0 {
		wake = w.lastSync.Add(w.q.o.Sync)
	} else if w.sealWanted() {
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
		q.recycle(b.encode(codec, &w.used))
		w.lastData = now
		if b.kind == kindGap { // the consumer waits for it; lines may have to wait for room
			w.todo = slices.Insert(w.todo, 0, b)
		} else {
			w.todo = append(w.todo, b)
		}
	}
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

// failed notes what keeps the writer from writing, once, and when to try again.
func (w *writer) failed(err error, now time.Time) time.Time {
	w.retries++
	q := w.q
	q.mu.Lock()
	first := q.trouble == ""
	q.trouble, q.hint = err.Error(), hintFor(err)
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
	w.q.trouble, w.q.hint = "", ""
	w.q.mu.Unlock()
	if was != "" {
		w.q.o.Log.Info("writing to the queue again", slog.String("after", was))
	}
}
