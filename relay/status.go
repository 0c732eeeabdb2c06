package relay

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"wsrelay/handshake"
)

// State is what a relay is doing.
type State string

// States of a relay.
const (
	StateIdle       State = "idle"       // not connected: nothing waits
	StateConnecting State = "connecting" // from the dial to the receiver's welcome
	StateConnected  State = "connected"
	StateWaiting    State = "waiting"   // to try again
	StateListening  State = "listening" // for a receiver that dials
)

// Status is a picture of a relay. Counters run since New.
type Status struct {
	State     State
	URL       string    // of the last attempt
	Since     time.Time // in this state
	Attempts  int       // that failed since the last receipt
	NextAt    time.Time // of the next attempt, in StateWaiting
	LastError string
	Effect    string // what LastError means for the logs
	Hint      string // what to do about it

	ReceiptAt time.Time // of the newest receipt of this run

	Sessions       uint64 // that came to a welcome
	Failures       uint64 // attempts and sessions that ended with an error
	SentLines      uint64
	SentBytes      uint64 // of data messages, without WebSocket and TLS
	SentAgain      uint64 // lines that went on the wire more than once
	ReceiptedLines uint64
	Rejected       uint64 // of those: in the dead-letter index
}

// Status is what the relay is doing.
func (r *Relay) Status() Status {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.now
}

// recorder keeps the status.
type recorder struct {
	mu   sync.Mutex
	now  Status
	high uint64 // every number below was sent once
}

func (c *recorder) set(s State, url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.State != s {
		c.now.State, c.now.Since, c.now.NextAt = s, time.Now(), time.Time{}
		if s == StateConnected {
			c.now.Sessions++
		}
	}
	if url != "" {
		c.now.URL = url
	}
}

// failed notes a fault after which the relay is in state s, for delay if it waits.
func (c *recorder) failed(s State, f *Fault, delay time.Duration) {
	c.set(s, "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == StateWaiting {
		c.now.Attempts++
		c.now.NextAt = time.Now().Add(delay)
	}
	c.now.Failures++
	c.now.LastError, c.now.Effect, c.now.Hint = f.Error(), f.Effect, f.Hint
}

// stalled notes why a receiver that is connected gives no receipt.
func (c *recorder) stalled(what, hint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.LastError, c.now.Effect, c.now.Hint = what, effectWait, hint
}

func (c *recorder) sent(b *batch, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.gap == nil {
		c.now.SentLines += b.end - b.seq
		c.now.SentAgain += min(b.end, max(c.high, b.seq)) - b.seq
	}
	c.now.SentBytes += uint64(bytes)
	c.high = max(c.high, b.end)
}

func (c *recorder) receipt(lines uint64, rejected int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.ReceiptAt = time.Now()
	c.now.ReceiptedLines += lines
	c.now.Rejected += uint64(rejected)
	c.now.Attempts, c.now.LastError, c.now.Effect, c.now.Hint = 0, "", "", ""
}

// reporter logs that the receiver is unavailable and that it is back, not each
// attempt in between. The receiver counts as back when it has given a
// receipt. Run's goroutine alone uses it.
type reporter struct {
	log   *slog.Logger
	every time.Duration

	since    time.Time // the receiver is unavailable; zero: it is not
	attempts int
	again    throttle
	known    bool // it has been there before
}

func (p *reporter) down() bool { return !p.since.IsZero() }

func (p *reporter) lost(f *Fault, u *url.URL, delay time.Duration) {
	again := p.down()
	if !again {
		p.since, p.attempts, p.again = time.Now(), 0, throttle{every: p.every}
	}
	p.attempts++
	suppressed, ok := p.again.allow(time.Now())
	if !ok {
		return
	}
	level := slog.LevelWarn
	if f.permanent {
		level = slog.LevelError
	}
	log := p.log.With("url", logURL(u), "err", f.Error(), "attempts", p.attempts, "suppressed", suppressed)
	if delay > 0 {
		log = log.With("next_try", delay.Round(time.Millisecond))
	}
	log = log.With("effect", f.Effect, "hint", f.Hint)
	if again {
		log.Log(context.Background(), level, "still disconnected")
	} else {
		log.Log(context.Background(), level, "disconnected")
	}
}

func (p *reporter) welcomed(u *url.URL, w *handshake.Welcome) {
	if p.down() {
		return // until it has given a receipt
	}
	p.known = true
	p.log.Info("connected", "url", logURL(u), "session", clean(w.Session),
		"store", clean(w.Store), "guarantee", clean(w.Guarantee))
}

func (p *reporter) acknowledged(u *url.URL, backlog uint64) {
	if !p.down() {
		return
	}
	log := p.log.With("url", logURL(u), "attempts", p.attempts,
		"down", time.Since(p.since).Round(time.Second), "backlog", backlog)
	if p.known {
		log.Info("reconnected")
	} else {
		log.Info("connected")
	}
	p.since, p.known = time.Time{}, true
}

// throttle lets one log line through in a while and counts the others.
type throttle struct {
	every      time.Duration
	last       time.Time
	suppressed int
}

func (t *throttle) allow(now time.Time) (suppressed int, ok bool) {
	if !t.last.IsZero() && now.Sub(t.last) < t.every {
		t.suppressed++
		return 0, false
	}
	suppressed, t.suppressed, t.last = t.suppressed, 0, now
	return suppressed, true
}
