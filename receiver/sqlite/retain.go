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
	mergePages  = 128
	vacuumPages = 64
)

// spare is the part of the file, one in so many, that may be unused. What is
// deleted leaves room that new lines use; only what exceeds this is given back
// to the file system, as that moves pages about.
const (
	spare    = 8
	minSpare = 256 << 10 // bytes
)

// retention is what is under way to keep a store within its limits.
type retention struct {
	excess  int64 // documents to delete before the size is looked at again
	dead    int64 // documents that are deleted, while the index still has room for them
	merging bool
}

// portion is the part of a store that is too large, one in so many, that goes at
// once beyond what must. The index gives the room of deleted documents back only
// when it is merged as a whole, which is to be worth it.
const portion = 8

// retain takes one step to keep the store within its limits and says whether
// there may be more to do.
func (w *writer) retain(keep Retain, now time.Time) (more bool, err error) {
	state := w.retention
	err = w.transact(func() error {
		more, err = w.retainStep(&state, keep, now)
		return err
	})
	if err != nil {
		return false, err
	}
	w.retention = state
	return more, nil
}

func (w *writer) retainStep(s *retention, keep Retain, now time.Time) (more bool, err error) {
	oldest, err := w.oldest()
	if err != nil {
		return false, err
	}
	old := oldest != nil && keep.Age > 0 && (oldest.minute+1)*minute <= now.Add(-keep.Age).UnixMilli()
	if oldest != nil && (old || s.excess > 0) {
		n, err := w.retire(*oldest)
		s.excess, s.dead = max(0, s.excess-n), s.dead+n
		return true, err
	}
	if s.merging {
		s.merging, err = w.merge(+mergePages)
		return true, err
	}
	used, err := w.count("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size")
	if err != nil {
		return false, err
	}
	all, err := w.count("SELECT coalesce(sum(documents), 0) FROM streams")
	switch large := keep.Bytes > 0 && used > keep.Bytes; {
	case err != nil:
		return false, err
	case s.dead > all/4 || large && s.dead > 0:
		s.dead = 0
		s.merging, err = w.merge(-mergePages)
		return true, err
	case large && all > 0:
		s.excess = 1 + int64(float64(all)*float64(used-keep.Bytes)/float64(used)) + all/portion
		return true, nil
	}
	return w.vacuum(used)
}

func (w *writer) oldest() (oldest *run, err error) {
	err = w.each("SELECT first, last, minute FROM runs ORDER BY minute, first LIMIT 1", nil, func(scan func(...any) error) error {
		oldest = new(run)
		return scan(&oldest.first, &oldest.last, &oldest.minute)
	})
	return oldest, err
}

// count gives the only column of the only row of the answer.
func (w *writer) count(query string) (n int64, err error) {
	err = w.each(query, nil, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// merge goes on with making the index one again, which leaves out what is
// deleted; a negative number of pages begins it. It says whether there is more.
func (w *writer) merge(pages int) (more bool, err error) {
	const changes = "SELECT total_changes()"
	before, err := w.count(changes)
	if err != nil {
		return false, err
	}
	if err := w.exec("INSERT INTO words (words, rank) VALUES ('merge', ?)", pages); err != nil {
		return false, err
	}
	after, err := w.count(changes)
	return after-before >= 2, err // by FTS5's documentation: less is nothing
}

// vacuum gives some pages back to the file system if too many are unused.
func (w *writer) vacuum(used int64) (more bool, err error) {
	free, err := w.count("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")
	if err != nil || free <= max(used/spare, minSpare) {
		return false, err
	}
	// A row for each page: the statement works while it is read.
	return true, w.each(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages), nil, func(func(...any) error) error { return nil })
}

// retire deletes the beginning of a run, and all of it if it is short. It says
// how many documents that were.
func (w *writer) retire(r run) (n int64, err error) {
	waiting, err := w.waiting(r.span)
	if err != nil {
		return 0, err
	}
	budget, end := retireBytes, r.first
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
		return 0, err
	}
	return n, w.forget(r, end, n)
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
