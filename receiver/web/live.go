package web

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/logs/logsql"
	"wsrelay/receiver/store/logs/row"
)

// Bounds of what a Live keeps, in bytes.
const (
	keepLines = 8 << 20
	keepLine  = 64 << 10 // of one line
	keepAbout = 64       // that each is taken to cost besides
)

// liveEvery is the shortest interval between updates of a live view.
const liveEvery = 100 * time.Millisecond

// Live makes any store one that can be watched: a receiver.Store that hands
// everything on to another and keeps the newest lines that it has stored, 8 MiB of
// them, in memory. Lines that were there already are not kept again, if all of
// their batch were.
type Live struct {
	receiver.Store
	coders sync.Pool // of *row.Coder

	mu      sync.Mutex    // guards the fields below
	text    []byte        // of the kept lines, each with a newline, behind what is not kept any more
	batches []kept        // in the order in which they were stored
	cost    int           // of batches
	end     int           // how many lines there were
	more    chan struct{} // closed when there are more
}

// kept is a batch whose newest lines are kept.
type kept struct {
	receiver.Batch     // without its lines; Seq is that of the first kept
	first          int // how many lines there were before it
	at             int // where its text begins
	cost           int // in bytes
	stored         time.Time
	long           map[int]int // sizes of lines that are not kept whole
}

type keptLine struct {
	*kept
	seq  uint64 // of this line
	text string
	size int // of the whole line
}

// NewLive makes store one that can be watched.
func NewLive(store receiver.Store) *Live {
	l := &Live{Store: store, more: make(chan struct{})}
	table, err := row.Open(&skeletons{}, row.Options{})
	if err != nil {
		panic(err) // there was nothing to read
	}
	l.coders.New = func() any { return table.Coder() }
	return l
}

// skeletons gives numbers, which nobody asks for again: kept lines have their text.
type skeletons struct{ n atomic.Uint32 }

const maxSkeletons = 10_000 // whose shapes the table of a Live keeps

func (s *skeletons) Number([]byte) (uint32, bool) {
	n := s.n.Add(1)
	return n, n < maxSkeletons
}

func (s *skeletons) Skeleton(uint32) ([]byte, error) { return nil, errors.ErrUnsupported }

func (s *skeletons) Len() int { return 0 }

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
	k := kept{
		Batch: receiver.Batch{SID: b.SID, Host: b.Host, At: b.At, Seq: b.Seq + uint64(from)}, first: l.end,
		at: len(l.text), cost: cost, stored: time.Now(),
	}
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

// rowOf gives the fields of a line as a store with a query API has them, so that the
// same queries find it. Their strings hold until the coder's next row.
func rowOf(c *row.Coder, k *keptLine) []logsql.Field {
	var r row.Row
	c.Row(&r, &row.Line{SID: k.SID, Host: k.Host, Seq: k.seq, At: k.At, Text: []byte(k.text)})
	return r.Queried()
}

// match gives the line for a list if the query finds it.
func (l *Live) match(q *query, k *keptLine) (found line, ok bool) {
	c := l.coders.Get().(*row.Coder)
	defer l.coders.Put(c)
	fields := rowOf(c, k)
	if !q.filter.MatchRow(fields) {
		return found, false
	}
	found = newLine(fields, func([]logsql.Field) ([]byte, error) { return []byte(k.text), nil }, q.columns...)
	return found, (q.from.IsZero() || !found.at.Before(q.from)) && (q.to.IsZero() || found.at.Before(q.to))
}

// search implements source over the kept lines.
func (l *Live) search(ctx context.Context, q *query, limit int) (*searchResult, error) {
	if q.pipes {
		return nil, errPipes
	}
	f := &searchResult{complete: true}
	lines, _, _ := l.since(0)
	if !q.oldest {
		slices.Reverse(lines)
	}
	for i := 0; i < len(lines) && len(f.lines) < max(limit+1, facetLines) && ctx.Err() == nil; i++ {
		if found, ok := l.match(q, &lines[i]); ok {
			f.lines = append(f.lines, found)
		}
	}
	slices.SortStableFunc(f.lines, q.order)
	f.about = f.lines
	return f, ctx.Err()
}

// line implements source; of a long line the beginning is kept.
func (l *Live) line(_ context.Context, uid string, _ time.Time) (*whole, error) {
	sid, seq, err := handshake.ParseUID(uid)
	if err != nil {
		return nil, err
	}
	lines, _, _ := l.since(0)
	i := slices.IndexFunc(lines, func(k keptLine) bool { return k.seq == seq && k.SID == sid })
	if i < 0 {
		return nil, nil
	}
	c := l.coders.Get().(*row.Coder) // not put back: the fields are its own
	return &whole{rowOf(c, &lines[i]), lines[i].text, lines[i].size}, nil
}

// overlap is how long ago the lines were stored that a watcher sees first: as
// long as it may take until a search finds them.
const overlap = 5 * time.Second

// watch begins to watch: of what is stored from then on, and shortly before,
// follow misses nothing.
func (l *Live) watch() *watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &watcher{l, l.end}
	for i := len(l.batches) - 1; i >= 0 && time.Since(l.batches[i].stored) < overlap; i-- {
		w.at = l.batches[i].first
	}
	return w
}

// watcher has seen the first at lines.
type watcher struct {
	live *Live
	at   int
}

// follow calls f with the lines that match, as they are stored, and how many it
// could not look at, until ctx ends or f returns an error.
func (w *watcher) follow(ctx context.Context, q *query, f func(lines []line, missed int) error) error {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		lines, missed, more := w.live.since(w.at)
		w.at += missed + len(lines)
		var found []line
		q.renew()
		for i := range lines {
			if l, ok := w.live.match(q, &lines[i]); ok {
				found = append(found, l)
			}
		}
		if len(found) > 0 || missed > 0 {
			if err := f(found, missed); err != nil {
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
