package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Retain says how long lines are kept; what is zero is no limit. When a limit is
// reached, the oldest lines are deleted. Gap records are kept.
type Retain struct {
	Age   time.Duration // since the line entered its sender's queue
	Bytes int64         // of the file that are in use, index included
}

// UnmarshalText reads "30d", "50GiB", or both with a comma between them.
func (r *Retain) UnmarshalText(text []byte) error {
	var parsed Retain
	for part := range strings.SplitSeq(string(text), ",") {
		if age, err := ParseSpan(part); err == nil && parsed.Age == 0 {
			parsed.Age = age
			continue
		}
		size, err := humanize.ParseBytes(part)
		if err != nil || size < minRetain || size > 1<<62 || parsed.Bytes != 0 || !strings.ContainsAny(part, "bB") {
			return fmt.Errorf("%q is not how long to keep lines: use an age such as 30d, a size such as 50GiB (1MiB at least), or both: 30d,50GiB", text)
		}
		parsed.Bytes = int64(size)
	}
	*r = parsed
	return nil
}

// minRetain is the smallest limit in bytes: an empty store is not much smaller.
const minRetain = 1 << 20

// Bounds of one retention transaction, which a Commit may have to wait for: a
// few tens of milliseconds.
const (
	retireBytes = 128 << 10 // of lines; one more line may be begun
	vacuumPages = 64
)

// spare is the part of the file, one in so many, that may be unused. What is
// deleted leaves room that new lines use; only what exceeds this is given back
// to the file system, as that moves pages about.
const spare = 8

// retain deletes some lines that need not be kept any more, or gives some unused
// space back, and says whether there may be more to do.
func (w *writer) retain(keep Retain, now time.Time) (more bool, err error) {
	err = w.transact(func() error {
		due, err := w.due(keep, now)
		if err != nil {
			return err
		}
		if due != nil {
			more = true
			return w.retire(*due)
		}
		more, err = w.vacuum()
		return err
	})
	return more && err == nil, err
}

// due gives the oldest run if it is not to be kept.
func (w *writer) due(keep Retain, now time.Time) (*run, error) {
	var oldest *run
	err := w.each("SELECT first, last, minute FROM runs ORDER BY minute, first LIMIT 1", nil, func(scan func(...any) error) error {
		oldest = new(run)
		return scan(&oldest.first, &oldest.last, &oldest.minute)
	})
	if err != nil || oldest == nil {
		return nil, err
	}
	if keep.Age > 0 && (oldest.minute+1)*minute <= now.Add(-keep.Age).UnixMilli() {
		return oldest, nil
	}
	used, _, err := w.size()
	if err == nil && keep.Bytes > 0 && used > keep.Bytes {
		return oldest, nil
	}
	return nil, err
}

// size gives the bytes of the file that are used and that are not.
func (w *writer) size() (used, free int64, err error) {
	err = w.each(`SELECT (page_count - freelist_count) * page_size, freelist_count * page_size
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size`, nil,
		func(scan func(...any) error) error { return scan(&used, &free) })
	return used, free, err
}

// vacuum gives some pages back to the file system if too many are unused.
func (w *writer) vacuum() (more bool, err error) {
	used, free, err := w.size()
	if err != nil || free <= max(used/spare, minRetain) {
		return false, err
	}
	// A row for each page: the statement works while it is read.
	return true, w.each(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages), nil, func(func(...any) error) error { return nil })
}

// retire deletes the beginning of a run, and all of it if it is short.
func (w *writer) retire(r run) error {
	waiting, err := w.waiting(r.span)
	if err != nil {
		return err
	}
	budget, end, n := retireBytes, r.first, int64(0)
	err = w.each("SELECT id, host, line FROM documents WHERE id BETWEEN ? AND ? ORDER BY id", []any{r.first, r.last},
		func(scan func(...any) error) error {
			if budget <= 0 {
				return errEnough
			}
			var id int64
			var host string
			var line []byte
			if err := scan(&id, &host, &line); err != nil {
				return err
			}
			budget -= min(len(line), maxSearched) + 64
			end, n = id+1, n+1
			for len(waiting) > 0 && waiting[0].last < id {
				waiting = waiting[1:]
			}
			if len(waiting) > 0 && waiting[0].first <= id {
				return nil // was never indexed
			}
			// The index is told the very words that it was given: it keeps no text.
			return w.exec("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", id, text(host, line))
		})
	if err == nil {
		end = r.last + 1
	} else if !errors.Is(err, errEnough) {
		return err
	}
	return w.forget(r, end, n)
}

// waiting gives the documents of a run that are not indexed.
func (w *writer) waiting(sp span) (spans []span, err error) {
	err = w.each("SELECT first, last FROM unindexed WHERE first BETWEEN ? AND ? ORDER BY first", []any{sp.first, sp.last},
		func(scan func(...any) error) error {
			var sp span
			err := scan(&sp.first, &sp.last)
			spans = append(spans, sp)
			return err
		})
	return spans, err
}

// forget deletes the n documents of a run before end wherever they are listed.
func (w *writer) forget(r run, end, n int64) error {
	for _, list := range []string{"runs", "unindexed"} {
		err := errors.Join(
			w.exec("DELETE FROM "+list+" WHERE first BETWEEN ? AND ? AND last < ?", r.first, r.last, end),
			w.exec("UPDATE "+list+" SET first = ? WHERE first BETWEEN ? AND ?", end, r.first, end-1),
		)
		if err != nil {
			return err
		}
	}
	return errors.Join(
		w.exec("DELETE FROM documents WHERE id BETWEEN ? AND ?", r.first, end-1),
		w.exec("UPDATE streams SET documents = documents - ?, retired = retired + ? WHERE number = ?", n, n, r.first>>seqBits),
	)
}
