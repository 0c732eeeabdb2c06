package logs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// followers get lines as they are stored.
type followers struct {
	mu  sync.Mutex
	all map[*follower]bool
}

// follower has not yet looked at what lies in next.
type follower struct {
	next   chan []receiver.Batch
	missed int // lines, for next was full; guarded by followers.mu
}

// maxBehind is how many commits a follower may be behind before it misses some.
const maxBehind = 64

// follow calls f with each line that matches a LogsQL filter as it is stored, until
// ctx ends or f returns an error. A line may come again if its sender has sent it
// again. A follower that is too slow gets a line that says how many it has missed.
func (s *Store) follow(ctx context.Context, me *follower, filter string, f func(*Found) error) error {
	var match *logstorage.Filter
	var parsed time.Time
	c := s.coders.Get().(coder)
	defer s.coders.Put(c)
	var made row.Row
	for {
		var batches []receiver.Batch
		select {
		case batches = <-me.next:
		case <-ctx.Done():
			return ctx.Err()
		}
		if n := s.followers.missed(me); n > 0 {
			if err := f(Skipped(n)); err != nil {
				return err
			}
		}
		if time.Since(parsed) > time.Minute { // _time:5m is from now on
			var err error
			if match, err = logstorage.ParseFilter(filter); err != nil {
				return err
			}
			parsed = time.Now()
		}
		for i := range batches {
			for k, text := range batches[i].Lines {
				b, seq := &batches[i], batches[i].Seq+uint64(k)
				c.Row(&made, &row.Line{SID: b.SID, Host: b.Host, Seq: seq, At: b.At, Text: text})
				if !match.MatchRow(made.Queried()) {
					continue
				}
				if err := f(&Found{
					UID: handshake.UID(b.SID, seq), Time: made.Time, Host: row.Value(made.Fields, "host"),
					Text: text,
				}); err != nil {
					return err
				}
			}
		}
	}
}

// Skipped stands for lines that came too fast to be shown.
func Skipped(n int) *Found {
	return &Found{Time: time.Now(), Text: fmt.Appendf(nil, "(%d lines came too fast to be shown)", n)}
}

func (f *followers) subscribe() *follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[*follower]bool{}
	}
	one := &follower{next: make(chan []receiver.Batch, maxBehind)}
	f.all[one] = true
	return one
}

func (f *followers) unsubscribe(one *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, one)
}

func (f *followers) missed(one *follower) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, one.missed = one.missed, 0
	return n
}

// publish hands on what was stored. A follower that is too slow misses it.
func (f *followers) publish(batches []receiver.Batch, results []receiver.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) == 0 {
		return
	}
	var news []receiver.Batch
	lines := 0
	for i := range batches {
		if b := batches[i]; results[i].New > 0 && b.Gap == nil {
			lines += len(b.Lines)
			kept := receiver.Batch{SID: b.SID, Host: b.Host, Seq: b.Seq, At: b.At}
			for _, line := range b.Lines {
				kept.Lines = append(kept.Lines, slices.Clone(line)) // their memory is the caller's
			}
			news = append(news, kept)
		}
	}
	for one := range f.all {
		select {
		case one.next <- news:
		default:
			one.missed += lines
		}
	}
}
