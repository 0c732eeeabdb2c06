package buffer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	lostName = "LOST"
	lostTmp  = "LOST.tmp"
	maxLost  = 1000 // entries
)

// KeepLosses is how long a loss is remembered after it was reported to the receiver. A
// running queue remembers all since Open: a counter must not go back.
const KeepLosses = 7 * 24 * time.Hour

// Lost is records that will never come.
type Lost struct {
	Range
	Why  string // as in Gap
	Told bool   // the receiver has acknowledged the gap
	At   time.Time
}

// losses are all that the queue remembers, the oldest first. They are kept in
// the file LOST, a line each: when, why, first number, number behind the last.
// Nothing but reports depends on it.
type losses []Lost

// add notes a loss, unless it is known; next to one for the same reason it
// becomes a part of that.
func (l *losses) add(x Lost) (news bool) {
	for k := range *l {
		old := &(*l)[k]
		switch {
		case old.First <= x.First && x.End <= old.End:
			return false
		case old.Why == x.Why && old.End == x.First:
			old.End, old.At = x.End, x.At
			return true
		}
	}
	*l = append(*l, x)
	*l = (*l)[max(0, len(*l)-maxLost):]
	return true
}

func (l losses) text() []byte {
	var b strings.Builder
	for _, x := range l {
		fmt.Fprintf(&b, "%d %s %d %d\n", x.At.Unix(), x.Why, x.First, x.End)
	}
	return []byte(b.String())
}

// readLosses gives what is not too old. A time that cannot be is now: the clock
// was wrong.
func readLosses(fsys fileSystem, now time.Time) (l losses) {
	f, err := fsys.open(lostName)
	if err != nil {
		return nil
	}
	defer f.Close()                                                 //nolint:errcheck // only read
	b, _ := io.ReadAll(io.NewSectionReader(withRetry(f), 0, 1<<20)) // a part is better than nothing
	for line := range strings.Lines(string(b)) {
		var x Lost
		var at int64
		if n, _ := fmt.Sscanf(line, "%d %s %d %d\n", &at, &x.Why, &x.First, &x.End); n < 4 || x.First >= x.End {
			continue
		}
		if x.At = time.Unix(at, 0).UTC(); x.At.Before(firstRelease) || x.At.After(now) {
			x.At = now
		}
		if now.Sub(x.At) < KeepLosses {
			l.add(x)
		}
	}
	return l
}

// addGap notes what a gap stands for; mu is held.
func (q *Queue) addGap(g *Block) {
	q.noteLoss(Lost{Range: g.Range(), Why: g.gap.Why, At: time.Now()})
}

func (q *Queue) noteLoss(x Lost) {
	if q.losses.add(x) {
		q.lossesStale = true
	}
}

// saveLosses writes LOST. It is not synced: should the machine stop now, the
// gaps that are not acknowledged bring it again.
func (w *writer) saveLosses() error {
	q := w.q
	q.mu.Lock()
	stale, text := q.lossesStale, q.losses.text()
	q.lossesStale = false
	q.mu.Unlock()
	if !stale {
		return nil
	}
	f, err := createAnew(q.fsys, lostTmp)
	if err == nil {
		err = errors.Join(f.writeAt(text, 0), f.Close())
	}
	if err == nil {
		err = renameOver(q.fsys, lostTmp, lostName)
	}
	if err != nil {
		q.mu.Lock()
		q.lossesStale = true
		q.mu.Unlock()
		return fmt.Errorf("write %s: %w", lostName, err)
	}
	return nil
}

// allLost is the losses of which the receiver has not acknowledged the gap, and
// then those of which it has.
func allLost(gaps []*Block, known losses) (all []Lost) {
	for _, g := range gaps {
		all = append(all, Lost{Range: g.Range(), Why: g.gap.Why, At: g.At()})
	}
	gaps = slices.SortedFunc(slices.Values(gaps), func(a, b *Block) int { return int(int64(a.first - b.first)) })
	for _, x := range known {
		for _, r := range without(x.Range, x.First, gaps) {
			all = append(all, Lost{Range: r, Why: x.Why, Told: true, At: x.At})
		}
	}
	return all
}
