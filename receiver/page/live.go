package page

import (
	"cmp"
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
	keepAbout = 64       // that each is taken to cost besides
)

// liveEvery is how often who watches is told of what is new, at most.
const liveEvery = 100 * time.Millisecond

// Live makes any store one that can be watched: a receiver.Store that hands
// everything on to another and keeps the newest lines that it has stored, 8 MiB of
// them, in memory. Lines that were there already are not kept again, if all of
// their batch were.
type Live struct {
	receiver.Store

	mu      sync.Mutex    // guards the fields below
	text    []byte        // of the kept lines, each with a newline, behind what is not kept any more
	batches []kept        // in the order in which they were stored
	cost    int           // of batches
	end     int           // how many lines there were
	more    chan struct{} // closed when there are more
}

// kept is a batch whose newest lines are kept.
type kept struct {
	receiver.Batch             // without its lines; Seq is that of the first kept
	first          int         // how many lines there were before it
	at             int         // where its text begins
	cost           int         // in bytes
	long           map[int]int // sizes of lines that are not kept whole
}

type keptLine struct {
	*kept
	seq  uint64 // of this line
	text string
	size int // of the whole line
}

func (k *keptLine) hit() sqlite.Hit {
	return sqlite.Hit{UID: handshake.UID(k.SID, k.seq), Time: k.At, Host: k.Host, Line: k.text, Size: k.size}
}

// NewLive makes store one that can be watched.
func NewLive(store receiver.Store) *Live { return &Live{Store: store, more: make(chan struct{})} }

// Unwrap gives the store to which everything is handed on.
func (l *Live) Unwrap() receiver.Store { return l.Store }

// Commit implements receiver.Store.
func (l *Live) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	results, err := l.Store.Commit(ctx, batches)
	if err != nil {
		return results, err
	}
	for i := range batches {
		if r := &results[i]; r.New > 0 || len(r.Rejected) > 0 {
			l.keep(&batches[i])
		}
	}
	return results, nil
}

// keep copies the newest lines of a batch, as many as may be kept, and lets the
// oldest go. The memory of the batch is its owner's, and ours is used again: it
// costs a copy of the text, whether anybody watches or not.
func (l *Live) keep(b *receiver.Batch) {
	from, cost := len(b.Lines), 0
	for from > 0 {
		c := min(len(b.Lines[from-1]), keepLine) + keepAbout
		if cost+c > keepLines {
			break
		}
		from, cost = from-1, cost+c
	}
	if cost == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := kept{Batch: receiver.Batch{SID: b.SID, Host: b.Host, At: b.At, Seq: b.Seq + uint64(from)}, first: l.end, at: len(l.text), cost: cost}
	for i, line := range b.Lines[from:] {
		if len(line) > keepLine {
			if k.long == nil {
				k.long = map[int]int{}
			}
			k.long[i] = len(line)
			line = line[:keepLine]
		}
		l.text = append(append(l.text, line...), '\n')
	}
	l.batches = append(l.batches, k)
	l.end += len(b.Lines) - from
	for l.cost += cost; l.cost > keepLines; l.batches = l.batches[1:] {
		l.cost -= l.batches[0].cost
	}
	if gone := l.batches[0].at; gone > keepLines {
		l.text = l.text[:copy(l.text, l.text[gone:])]
		for i := range l.batches {
			l.batches[i].at -= gone
		}
	}
	close(l.more)
	l.more = make(chan struct{})
}

// since gives what has come since the first at lines, how many of that are not
// kept any more, and when to ask again.
func (l *Live) since(at int) (lines []keptLine, missed int, more <-chan struct{}) {
	l.mu.Lock()
	i, found := slices.BinarySearchFunc(l.batches, at, func(k kept, at int) int { return cmp.Compare(k.first, at) })
	if !found && i > 0 {
		i-- // at may be within it
	}
	batches, end, text := slices.Clone(l.batches[i:]), l.end, ""
	if more = l.more; len(batches) > 0 {
		text = string(l.text[batches[0].at:])
	}
	l.mu.Unlock()

	for i := range batches {
		k, next := &batches[i], end
		if i+1 < len(batches) {
			next = batches[i+1].first
		}
		for j := range next - k.first {
			var line string
			line, text, _ = strings.Cut(text, "\n")
			size, long := k.long[j]
			if !long {
				size = len(line)
			}
			if k.first+j >= at {
				lines = append(lines, keptLine{k, k.Seq + uint64(j), line, size})
			}
		}
	}
	return lines, end - at - len(lines), more
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
