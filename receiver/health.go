package receiver

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// health logs when the store stops and when it starts to answer, once for all
// sessions.
type health struct {
	log  *slog.Logger
	down atomic.Bool

	failures atomic.Int64

	mu    sync.Mutex // guards since and err, and changes of down
	since time.Time
	err   error // the first since then
}

func (h *health) failed(err error) {
	h.failures.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down.Swap(true) {
		return
	}
	h.since, h.err = time.Now(), err
	h.log.Warn("store failed", "err", err,
		"effect", "no line is lost: the senders keep what has no receipt, and send it again",
		"hint", "the error says what the store lacks; trying goes on by itself")
}

func (h *health) works() {
	if !h.down.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down.Swap(false) {
		h.log.Info("store works again", "down", time.Since(h.since).Round(time.Millisecond))
	}
}

// state tells since when the store does not answer, and what it said; nil: it does.
func (h *health) state() (since time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down.Load() {
		return time.Time{}, nil
	}
	return h.since, h.err
}
