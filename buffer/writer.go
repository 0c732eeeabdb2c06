package buffer

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"wsrelay/internal/codec"
)

const (
	syncGap      = 2 * time.Millisecond // between syncs when few lines come
	releaseAfter = time.Minute          // without lines and receipts: then the files' space is released
	idleSpace    = 1 << 20              // bytes that are too few to be released
	trickle      = 64 << 10             // raw bytes: more than this does not wait for syncGap
	sealAfter    = time.Second          // without new lines
	cursorEvery  = time.Second
	retryFirst   = 100 * time.Millisecond
	retryMax     = 5 * time.Second
	reserve      = 2*aheadLimit + 2*maxRaw // bytes beyond the limit, for what is in pipe and memory when the input ends
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
	q            *Queue
	cursorFile   file
	saved        cursor // what was last written to cursorFile
	cursorStale  bool   // cursorFile may hold something else
	cursorSynced bool   // saved is on disk

	seg           *segment // nil until the first block after Open
	f             file     // of the newest segment
	off           int64
	start         int64        // off when seg was new
	poisoned      bool         // a sync of f failed: nothing written to it is believed any more
	todo          []*Block     // encoded, not in a file
	unsynced      []*Block     // in f, not synced
	encodeMemory  encodeMemory // of encodeAppended
	syncedDurable uint64       // the highest durable that a synced header carries
	syncedOrigin  Origin       // the newest origin that a synced header carries

	spare         bool // a file spare may be there
	identityStale bool // IDENTITY is not what it must be before a segment is made
	dropping      bool // gaps of a segment that goes are written, and perhaps not durable

	lastData        time.Time
	lastInspected   time.Time
	cursorErr       error     // of the last time
	inspectErr      error     // of the last time
	recreated       bool      // the directory was; not logged yet
	gone            []string  // files that were removed or replaced; not logged yet
	lastActive      time.Time // when lines came, or the cursor moved
	cleanUpAt       time.Time
	cleanUpErr      error // of the last time
	cleanUpFailures int   // failures in a row
	lastSync        time.Time
	lastCursor      time.Time
	retryAt         time.Time
	retries         int

	choice       *codec.Choice // without Options.Codec
	rawTaken     int           // bytes that were encoded and are not synced, counted before encoding
	lastCodec    codec.Codec   // that encoded them
	waitingSince time.Time     // when the bytes before them became durable, if these waited then; else zero
}

func (w *writer) run() {
	q := w.q
	defer close(q.done)
	inputEnded, stop, timer := q.inputEnded, q.stop, time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.kick:
		case <-timer.C:
		case <-inputEnded:
			inputEnded = nil        // once
			w.retryAt = time.Time{} // there is space now
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

// step does what there is to do and returns when it is to be called again at the
// latest. With closing, nothing is put off.
func (w *writer) step(now time.Time, closing bool) (wake time.Time) {
	cleanUpErr := w.cleanUp(now) // an error that keeps old lines on disk, and no new ones from it
	if wait := w.retryAt; now.Before(wait) && !closing {
		return wait
	}
	if wait := w.lastSync.Add(syncGap); now.Before(wait) && w.trickling() && !closing {
		return wait
	}
	w.encodeAppended(now)
	inspectErr := w.inspectFiles(now, closing) // an error that keeps no line from the disk
	err := w.writeAll()
	if closing || w.syncDue(now) { // what was written before an error, too
		err = errors.Join(err, w.sync(now))
	}
	if err == nil && (closing || now.Sub(w.lastData) >= sealAfter) {
		err = w.writeSeal(now)
	}
	if err == nil && (closing || now.Sub(w.lastCursor) >= cursorEvery) {
		w.cursorErr = w.saveCursor(now, closing) // it keeps no line from the disk (F5)
		w.lastCursor = now
	}
	if closing {
		err = errors.Join(err, inspectErr, w.cursorErr)
	}
	switch {
	case err != nil:
		return w.failed(err, now)
	case w.cursorErr != nil:
		w.retries, w.retryAt = 0, time.Time{}
		w.troubled("cannot save how far the queue is delivered",
			"no line is lost, and none is kept waiting; after a restart lines may be sent again", w.cursorErr)
		return w.nextWake(now)
	case inspectErr != nil:
		w.retries, w.retryAt = 0, time.Time{}
		w.troubled("cannot inspect the files of the queue",
			"no line waits for it; files that are removed or replaced now are not written again", inspectErr)
		return earlier(w.nextWake(now), w.lastInspected.Add(inspectInterval))
	case cleanUpErr != nil:
		w.retries, w.retryAt = 0, time.Time{}
		w.troubled("cannot remove what is delivered from the queue",
			"no line is lost, and none is kept waiting; the files take space on the disk", cleanUpErr)
		return earlier(w.nextWake(now), w.cleanUpAt)
	}
	w.recovered()
	return w.nextWake(now)
}

// cleanUp removes what is acknowledged or too old. Where that fails, as with a file
// that may not be removed, it is tried again after a while: new lines do not wait
// for it.
func (w *writer) cleanUp(now time.Time) error {
	if now.Before(w.cleanUpAt) {
		return w.cleanUpErr
	}
	w.cleanUpErr = errors.Join(w.trim(), w.saveLosses())
	if wait := w.retryAt; !now.Before(wait) {
		w.cleanUpErr = errors.Join(w.cleanUpErr, w.expire(now), w.releaseSpace(now))
	}
	if w.cleanUpErr == nil {
		w.cleanUpFailures = 0
		return nil
	}
	w.cleanUpAt = now.Add(backoff(w.cleanUpFailures))
	w.cleanUpFailures++
	return w.cleanUpErr
}

// trickling reports whether so few bytes wait that it is worth waiting for more.
func (w *writer) trickling() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	queued := w.q.queued
	return w.q.urgent <= w.q.durable && (len(queued) == 0 ||
		len(queued) == 1 && queued[0].kind == kindData && len(queued[0].buf) < trickle)
}

func (w *writer) nextWake(now time.Time) time.Time {
	wake := now.Add(time.Hour)
	if age := w.q.o.MaxAge; age > 0 {
		wake = now.Add(max(time.Second, age/16))
	}
	if w.waiting() {
		wake = earlier(wake, w.lastInspected.Add(inspectInterval))
	}
	if len(w.unsynced) > 0 {
		wake = w.lastSync.Add(w.q.o.Sync)
	} else if w.sealWanted() {
		wake = earlier(wake, w.lastData.Add(sealAfter))
	}
	if w.idle() {
		wake = earlier(wake, w.lastActive.Add(releaseAfter))
	}
	if w.cursorWanted() {
		wake = earlier(wake, w.lastCursor.Add(cursorEvery))
	}
	return wake
}

// waiting reports whether lines are on disk that have no receipt.
func (w *writer) waiting() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.acked < w.q.durable
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// encodeAppended gets what was appended and encodes it.
func (w *writer) encodeAppended(now time.Time) {
	q := w.q
	q.mu.Lock()
	blocks := q.queued
	q.queued = nil
	n := 0
	for _, b := range blocks {
		n += len(b.buf) - headerLen
	}
	c := w.codecLocked(n)
	q.mu.Unlock()
	if w.rawTaken > 0 && w.lastCodec != c {
		w.waitingSince = time.Time{} // of two codecs: nothing shows which of them took how long
	}
	w.lastCodec = c
	w.rawTaken += n
	for _, b := range blocks {
		q.pool.put(b.encode(c, &w.encodeMemory))
		w.lastData, w.lastActive = now, now
		if b.kind == kindGap { // the consumer waits for it; lines may have to wait for space
			w.todo = slices.Insert(w.todo, 0, b)
		} else {
			w.todo = append(w.todo, b)
		}
	}
}

// codecLocked is what the next n bytes get: the densest while there is time, or where
// space on the disk is scarce, else what becomes durable fastest.
func (w *writer) codecLocked(n int) codec.Codec {
	q := w.q
	switch {
	case q.o.Codec != nil:
		return *q.o.Codec
	case q.unsynced < trickle || q.diskLocked() > q.limit()/2:
		return codec.Dense
	}
	return w.choice.Codec(n)
}

// failed notes what keeps the writer from writing, once, and when to try again.
func (w *writer) failed(err error, now time.Time) time.Time {
	w.retries++
	w.troubled("cannot write to the queue", "no line is lost: wsrelay stops reading, and syslog-ng keeps new lines, as its flow control is set", err)
	w.retryAt = now.Add(backoff(w.retries - 1))
	return w.retryAt
}

func backoff(failures int) time.Duration { return min(retryFirst<<min(failures, 10), retryMax) }

// troubled makes the trouble known, and logs it when it begins.
func (w *writer) troubled(what, effect string, err error) {
	q := w.q
	q.mu.Lock()
	first, was := q.trouble == nil, q.trouble.String()
	if q.trouble = (&Trouble{what + ": " + err.Error(), effect, Hint(err)}); q.trouble.What != was {
		q.broadcastLocked() // not each time: a waiting consumer wakes the writer, and they would spin
	}
	q.mu.Unlock()
	if first {
		q.o.Log.Error(what, "err", err, "effect", effect, "hint", Hint(err)) //nolint:sloglint // one of two constants
	}
}

func (w *writer) recovered() {
	w.retries, w.retryAt = 0, time.Time{}
	w.q.mu.Lock()
	was := w.q.trouble
	w.q.trouble = nil
	w.q.mu.Unlock()
	if was != nil {
		w.q.o.Log.Info("the queue works again", slog.String("after", was.What))
	}
}
