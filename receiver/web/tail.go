package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What a tail sends: so many lines a second at most, the rest it counts. Nobody
// reads faster, and a browser could not show it.
const (
	tailLines     = 1000
	tailKeepAlive = 15 * time.Second
)

var errPipes = errors.New("new lines can be shown only for a query without pipes (|)")

// tail sends the lines that match as they are stored: "ready" once, from where
// on nothing is missed, then "lines" with some of them, and "skipped" with how
// many were left out.
func (p *page) tail(w http.ResponseWriter, r *http.Request) {
	q := p.query(w, r)
	if q == nil {
		return
	}
	if q.pipes {
		reply(w, http.StatusBadRequest, map[string]any{"error": errPipes.Error()})
		return
	}
	release, ok := p.acquireTail(w, r)
	if !ok {
		return
	}
	defer release()
	watcher := p.live.watch()
	w.Header().Set("Content-Type", "text/event-stream")
	events := make(chan event)
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t := throttle{events: events, ctx: ctx}
		_ = watcher.follow(ctx, q, t.pass) // it ends with the request
		cancel()
	}()
	defer func() { cancel(); <-ended }()
	send(ctx, cancel, w, events)
}

// event is one of the events that a tail sends.
type event struct {
	name string
	data any
}

// send writes events until ctx ends or the client is gone.
func send(ctx context.Context, cancel func(), w http.ResponseWriter, events <-chan event) {
	out := http.NewResponseController(w)
	tick := time.NewTicker(tailKeepAlive)
	defer tick.Stop()
	for e := (event{"ready", nil}); ; {
		extend(w, tailKeepAlive)
		var err error
		if e.name == "" {
			_, err = fmt.Fprint(w, ": still here\n\n")
		} else {
			data, _ := json.Marshal(e.data) // of strings and numbers
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.name, data)
		}
		if err != nil || out.Flush() != nil {
			cancel()
			return
		}
		select {
		case e = <-events:
		case <-tick.C:
			e = event{}
		case <-ctx.Done():
			return
		}
	}
}

// throttle hands on tailLines a second, and the number of the others.
type throttle struct {
	ctx     context.Context
	events  chan<- event
	second  time.Time
	sent    int
	skipped int
}

func (t *throttle) pass(lines []line, missed int) error {
	if now := time.Now(); now.Sub(t.second) >= time.Second {
		t.second, t.sent = now, 0
	}
	left := max(0, tailLines-t.sent)
	skip := max(0, len(lines)-left) // the older ones
	t.sent += len(lines) - skip
	t.skipped += skip + missed
	if lines = lines[skip:]; len(lines) == 0 {
		return nil
	}
	if err := t.emit(event{"lines", map[string]any{"lines": lines, "skipped": t.skipped}}); err != nil {
		return err
	}
	t.skipped = 0
	return nil
}

func (t *throttle) emit(e event) error {
	select {
	case t.events <- e:
		return nil
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}
