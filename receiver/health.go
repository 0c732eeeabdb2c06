package receiver

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	blockedAfter  = 10 * time.Second // a stream that fails for so long, while the store works for others, is blocked
	forgetFailure = 10 * time.Minute // a stream that has not tried for so long is forgotten
)

// health knows whether the store answers, and which streams get nothing into it
// while it does: their failures must not hide behind the success of others. It
// logs changes, not each failure.
type health struct {
	log          *slog.Logger
	blockedAfter time.Duration

	down           atomic.Bool // since the store last failed, it has answered nobody
	failures       atomic.Int64
	failingStreams atomic.Int64
	worked         atomic.Int64 // Unix ns: when the store last answered

	mu      sync.Mutex // guards the fields below, and changes of down and failingStreams
	since   time.Time
	err     error     // the first since then
	last    time.Time // of all failures
	streams map[string]*failure
}

// failure is one of a stream whose lines the store does not take.
type failure struct {
	since, last time.Time
	err         error // the newest
	blocked     bool  // the store works for others; said once
}

func (h *health) failed(sid, host string, err error) {
	h.failures.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	f := h.streams[sid]
	if f == nil {
		f = &failure{since: now}
		h.forgetLocked(now)
		h.streams[sid] = f
		h.failingStreams.Store(int64(len(h.streams)))
	}
	f.last, f.err, h.last = now, err, now
	switch {
	case f.blocked, h.down.Load():
	case h.worked.Load() <= f.since.UnixNano(): // for nobody since this stream began to fail
		h.down.Store(true)
		h.since, h.err = now, err
		h.log.Warn("store failed", "err", err,
			"effect", "no line is lost: the senders keep what has no receipt, and send it again",
			"hint", "the error says what the store lacks; it is tried again automatically")
	case now.Sub(f.since) >= h.blockedAfter:
		f.blocked = true
		h.log.Warn("stream blocked", "host", host, "sid", sid, "document", documentOf(err),
			"since", f.since.Format(time.RFC3339), "err", err,
			"effect", "the store works for other senders; this one keeps its lines, and sends them again",
			"hint", "the error says why the store refuses this document; it is tried again automatically")
	}
}

// forgetLocked drops the streams whose senders have gone.
func (h *health) forgetLocked(now time.Time) {
	if h.streams == nil {
		h.streams = make(map[string]*failure)
	}
	for sid, f := range h.streams {
		if now.Sub(f.last) > forgetFailure {
			delete(h.streams, sid)
		}
	}
}

func (h *health) works(sid string) {
	h.worked.Store(time.Now().UnixNano())
	if h.failingStreams.Load() == 0 && !h.down.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.streams[sid]; f != nil {
		delete(h.streams, sid)
		h.failingStreams.Store(int64(len(h.streams)))
		if f.blocked {
			h.log.Info("stream continues", "sid", sid, "blocked", time.Since(f.since).Round(time.Millisecond))
		}
	}
	if h.down.Swap(false) {
		h.log.Info("store works again", "down", time.Since(h.since).Round(time.Millisecond))
	}
}

// state tells since when the store does not answer, when it last failed, and what it said
// first; nil: it does answer.
func (h *health) state() (since, last time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down.Load() {
		since, err = h.since, h.err
	}
	return since, h.last, err
}

// blocked tells since when a stream is, and what the store said; nil: it is not.
func (h *health) blocked(sid string) (since time.Time, err error) {
	if h.failingStreams.Load() == 0 {
		return time.Time{}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.streams[sid]; f != nil && f.blocked {
		return f.since, f.err
	}
	return time.Time{}, nil
}

// documentOf is the document that an error is about, or "".
func documentOf(err error) string {
	if e := (*DocumentError)(nil); errors.As(err, &e) {
		return e.ID
	}
	return ""
}
