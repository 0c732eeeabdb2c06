package buffer

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	lostName = "LOST"
	maxLost  = 1000 // entries
)

// KeepLosses is how long a loss is remembered after it was reported to the receiver. A
// running queue remembers all since Open: a counter must not go back.
const KeepLosses = 7 * 24 * time.Hour

// Lost is records that will never come.
type Lost struct {
	Range
	Why          string // as in Gap
	Acknowledged bool   // the receiver has acknowledged the gap
	At           time.Time
}

// losses are all that the queue remembers, the oldest first. They are kept in
// the file LOST, a line each: when, why, first number, number after the last.
// Nothing but reports depends on it.
type losses struct {
	all   []Lost
	stale bool // LOST does not have them all
}

// add notes a loss, unless it is known; next to one for the same reason it
// becomes a part of that.
func (l *losses) add(x Lost) {
	for k := range l.all {
		old := &l.all[k]
		switch {
		case old.First <= x.First && x.End <= old.End:
			return
		case old.Why == x.Why && old.End == x.First:
			old.End, old.At = x.End, x.At
			l.stale = true
			return
		}
	}
	l.all = append(l.all, x)
	l.all = l.all[max(0, len(l.all)-64*maxLost):] // memory has a bound, too
	l.stale = true
}

// addGap notes what a gap stands for.
func (l *losses) addGap(g *Block) {
	l.add(Lost{Range: g.Range(), Why: g.gap.Why, At: time.Now()})
}

func (l *losses) text() (b []byte) {
	for _, x := range l.all[max(0, len(l.all)-maxLost):] {
		b = fmt.Appendf(b, "%d %s %d %d\n", x.At.Unix(), x.Why, x.First, x.End)
	}
	return b
}

// readLosses gives what is not too old. A time that cannot be is now: the clock
// was wrong.
func readLosses(fsys fileSystem, now time.Time) (l losses) {
	f, err := fsys.open(lostName)
	if err != nil {
		return losses{}
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
	l.stale = false
	return l
}

// saveLosses writes LOST. It is not synced: should the machine stop now, the
// gaps that are not acknowledged bring it again.
func (w *writer) saveLosses() error {
	q := w.q
	q.mu.Lock()
	stale, text := q.losses.stale, q.losses.text()
	q.losses.stale = false
	q.mu.Unlock()
	if !stale {
		return nil
	}
	err := replaceFile(q.fsys, lostName, text, false)
	if err != nil {
		q.mu.Lock()
		q.losses.stale = true
		q.mu.Unlock()
	}
	return err
}

// report lists the losses whose gap the receiver has not acknowledged, and then those
// whose gap it has.
func (l *losses) report(g gaps) (all []Lost) {
	for _, b := range g {
		all = append(all, Lost{Range: b.Range(), Why: b.gap.Why, At: b.At()})
	}
	for _, x := range l.all {
		for _, r := range g.without(x.Range) {
			all = append(all, Lost{Range: r, Why: x.Why, Acknowledged: true, At: x.At})
		}
	}
	return all
}
