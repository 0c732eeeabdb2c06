package page

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/sqlite"
)

// Bounds of what a Live keeps, in bytes.
const (
	keepLines = 8 << 20
	keepLine  = 64 << 10 // of one line
	keepAbout = 64       // that each takes besides
)

// liveEvery is how often who watches is told of what is new, at most.
const liveEvery = 100 * time.Millisecond

// Live makes any store one that can be watched: a receiver.Store that hands
// everything on to another and keeps the newest lines that it has stored, 8 MiB of
// them, in memory. Lines that were there already are not kept again, if all of
// their batch were.
type Live struct {
	receiver.Store

	mu    sync.Mutex // guards the fields below
	lines []keptLine // in the order in which they were stored
	bytes int
	end   int           // how many there were
	more  chan struct{} // closed when there are more
}

type keptLine struct {
	*receiver.Batch        // without its lines
	seq             uint64 // of this line
	text            string
	size            int // of the whole line
}

func (k *keptLine) hit() sqlite.Hit {
	return sqlite.Hit{UID: handshake.UID(k.SID, k.seq), Time: k.At, Host: k.Host, Line: k.text, Size: k.size}
}

// NewLive makes store one that can be watched.
func NewLive(store receiver.Store) *Live { return &Live{Store: store, more: make(chan struct{})} }

// Begin tells the store of a session, if it wants to know.
func (l *Live) Begin(sid string) {
	if s, ok := l.Store.(interface{ Begin(sid string) }); ok {
		s.Begin(sid)
	}
}

// Commit implements receiver.Store.
func (l *Live) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	results, err := l.Store.Commit(ctx, batches)
	if err != nil {
		return results, err
	}
	for i := range batches {
		if r := &results[i]; r.New > 0 || len(r.Rejected) > 0 {
			l.keep(copyLines(&batches[i]))
		}
	}
	return results, nil
}

// copyLines gives the newest lines of a batch, as many as may be kept; the memory
// of the batch is its owner's.
func copyLines(b *receiver.Batch) []keptLine {
	from, size := len(b.Lines), 0
	for from > 0 && size <= keepLines {
		from--
		size += min(len(b.Lines[from]), keepLine) + keepAbout
	}
	var text strings.Builder // one piece of memory for all
	text.Grow(size - keepAbout*(len(b.Lines)-from))
	for _, line := range b.Lines[from:] {
		text.Write(line[:min(len(line), keepLine)])
	}
	rest, kept := text.String(), make([]keptLine, 0, len(b.Lines)-from)
	about := &receiver.Batch{SID: b.SID, Host: b.Host, At: b.At}
	for i, line := range b.Lines[from:] {
		n := min(len(line), keepLine)
		kept = append(kept, keptLine{about, b.Seq + uint64(from+i), rest[:n], len(line)})
		rest = rest[n:]
	}
	return kept
}

// keep adds lines, and lets the oldest go.
func (l *Live) keep(lines []keptLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, lines...)
	l.end += len(lines)
	for i := range lines {
		l.bytes += len(lines[i].text) + keepAbout
	}
	gone := 0
	for ; l.bytes > keepLines; gone++ {
		l.bytes -= len(l.lines[gone].text) + keepAbout
	}
	clear(l.lines[:gone])
	l.lines = l.lines[gone:]
	close(l.more)
	l.more = make(chan struct{})
}

// since gives what has come since the first at lines, how many of that are not
// kept any more, and when to ask again.
func (l *Live) since(at int) (lines []keptLine, missed int, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.end - len(l.lines)
	missed = max(0, first-at)
	return slices.Clone(l.lines[max(at, first)-first:]), missed, l.more
}

// Search gives the kept lines that match, the newest first.
func (l *Live) Search(ctx context.Context, req sqlite.Request) (sqlite.Result, error) {
	lines, _, _ := l.since(0)
	res := sqlite.Result{Complete: true}
	for i := len(lines) - 1; i >= 0 && len(res.Hits) < req.Limit && ctx.Err() == nil; i-- {
		if h := lines[i].hit(); req.Query.Matches(h) {
			res.Hits = append(res.Hits, h)
		}
	}
	slices.SortStableFunc(res.Hits, func(a, b sqlite.Hit) int { return b.Time.Compare(a.Time) })
	return res, ctx.Err()
}

// Line gives a line that is kept; of a long one its beginning.
func (l *Live) Line(_ context.Context, uid string) (h sqlite.Hit, ok bool, err error) {
	sid, seq, err := handshake.ParseUID(uid)
	if err != nil {
		return h, false, err
	}
	lines, _, _ := l.since(0)
	i := slices.IndexFunc(lines, func(k keptLine) bool { return k.seq == seq && k.SID == sid })
	if i < 0 {
		return h, false, nil
	}
	return lines[i].hit(), true, nil
}

func (l *Live) watch(context.Context) (follow, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (&watcher{l, l.end}).follow, nil
}

// watcher is who watches, and has seen the first at lines.
type watcher struct {
	live *Live
	at   int
}

func (w *watcher) follow(ctx context.Context, q *sqlite.Query, f func([]sqlite.Hit, int) error) error {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		lines, missed, more := w.live.since(w.at)
		w.at += missed + len(lines)
		var hits []sqlite.Hit
		for i := range lines {
			if h := lines[i].hit(); q.Matches(h) {
				hits = append(hits, h)
			}
		}
		if len(hits) > 0 || missed > 0 {
			if err := f(hits, missed); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		select { // together with what comes at once
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
