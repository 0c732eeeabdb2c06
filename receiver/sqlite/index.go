package sqlite

import (
	"errors"
)

// Bounds of one index transaction, which a Commit may have to wait for: a few
// tens of milliseconds.
const (
	indexBytes  = 128 << 10 // of lines; one more line may be begun
	indexRanges = 64        // of unindexed
)

var errEnough = errors.New("enough for one transaction")

// span is the documents first to last of one stream.
type span struct{ first, last int64 }

// index moves some documents from unindexed to words and says whether there may
// be more to do. It goes through the ids in ascending order, as FTS5 likes it,
// and starts over at the end, so that no stream waits for ever.
func (w *writer) index() (more bool, err error) {
	next, budget := w.next, indexBytes
	err = w.transact(func() error {
		spans, err := w.unindexed(next)
		if err != nil {
			return err
		}
		more = next > 0 || len(spans) > 0
		next = 0
		for _, s := range spans {
			if budget <= 0 {
				break
			}
			if next, err = w.indexSpan(s, &budget); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.next = next
	}
	return more, err
}

func (w *writer) unindexed(from int64) (spans []span, err error) {
	err = w.each("SELECT first, last FROM unindexed WHERE first >= ? ORDER BY first LIMIT ?", []any{from, indexRanges},
		func(scan func(...any) error) error {
			var s span
			if err := scan(&s.first, &s.last); err != nil {
				return err
			}
			spans = append(spans, s)
			return nil
		})
	return spans, err
}

// indexSpan indexes the documents of s until the budget is used up, takes them
// off the list and gives the id that follows them.
func (w *writer) indexSpan(s span, budget *int) (next int64, err error) {
	w.args = w.args[:0]
	flush := func() error {
		if len(w.args) == 0 {
			return nil
		}
		defer func() { w.args = w.args[:0] }()
		return w.exec(indexQueries[len(w.args)/2](), w.args...)
	}
	next = s.first
	err = w.each("SELECT id, host, line FROM documents WHERE id BETWEEN ? AND ? ORDER BY id", []any{s.first, s.last},
		func(scan func(...any) error) error {
			if *budget <= 0 {
				return errEnough
			}
			var id int64
			var host string
			var line []byte
			if err := scan(&id, &host, &line); err != nil {
				return err
			}
			*budget -= min(len(line), maxSearched)
			next = id + 1
			w.args = append(w.args, id, text(host, line))
			if len(w.args) == 2*insertRows {
				return flush()
			}
			return nil
		})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, err
	}
	if err := flush(); err != nil {
		return 0, err
	}
	if err == nil { // to the end, whatever rows there were
		return s.last + 1, w.exec("DELETE FROM unindexed WHERE first = ?", s.first)
	}
	return next, w.exec("UPDATE unindexed SET first = ? WHERE first = ?", next, s.first)
}

var indexQueries = rows("INSERT INTO words (rowid, text) VALUES ", "(?,?)", "")
