package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"wsrelay/handshake"
)

// Hit is a line that was found.
type Hit struct {
	UID  string
	Time time.Time // when it entered its sender's queue, UTC
	Host string    // of the sender
	Line string    // its bytes, which need not be UTF-8
}

// Search gives the newest limit lines that match the query, the newest first;
// within one stream the newest are those with the highest sequence numbers. Words
// must all be there, in upper or lower case: error timeout; those in quotes, and
// the parts of 10.0.0.7 or /wp-login.php, one after the other; time* is a word
// that begins so. No text is an error, and one without a word gives the newest
// lines. Of each line its first 64 KiB are searched.
//
// Every line whose Commit has returned is found. Lines that the full-text index
// does not hold yet are read one by one, some hundred thousand a second; end ctx
// to stop that.
func (r *Reader) Search(ctx context.Context, text string, limit int) ([]Hit, error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	s := search{ctx: ctx, tx: tx, query: parseQuery(text), limit: limit}
	hits, err := s.run()
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	return hits, nil
}

// search is one Search: it sees one snapshot of the store.
type search struct {
	ctx   context.Context
	tx    *sql.Tx
	query query
	limit int
}

// stream is a stream to be searched.
type stream struct {
	number int64
	sid    string
	newest int64 // time of its newest document
}

func (s *search) run() ([]Hit, error) {
	if s.limit < 1 {
		return nil, nil
	}
	streams, err := s.streams()
	if err != nil {
		return nil, err
	}
	var hits []Hit
	for _, st := range streams {
		if len(hits) == s.limit && hits[s.limit-1].Time.UnixMilli() > st.newest {
			break // nor has any stream that follows a newer line
		}
		more, err := s.stream(st)
		if err != nil {
			return nil, err
		}
		hits = append(hits, more...)
		slices.SortStableFunc(hits, func(a, b Hit) int { return b.Time.Compare(a.Time) })
		hits = hits[:min(len(hits), s.limit)]
	}
	return hits, nil
}

// streams gives all streams, those with the newest lines first.
func (s *search) streams() (streams []stream, err error) {
	err = s.each("SELECT number, sid, newest FROM streams ORDER BY newest DESC", nil,
		func(scan func(...any) error) error {
			var st stream
			if err := scan(&st.number, &st.sid, &st.newest); err != nil {
				return err
			}
			streams = append(streams, st)
			return nil
		})
	return streams, err
}

// found is a hit and its document's id.
type found struct {
	id int64
	Hit
}

// stream gives the newest hits of one stream, the newest first: what the index
// has, joined with what matches of the rest.
func (s *search) stream(st stream) ([]Hit, error) {
	all := span{documentID(st.number, 0), documentID(st.number, maxSeq)}
	var newest []found
	rest := []span{all}
	if len(s.query) > 0 {
		var err error
		if newest, err = s.indexed(all); err != nil {
			return nil, err
		}
		if rest, err = s.unindexed(all); err != nil {
			return nil, err
		}
	}
	left := s.limit
	for _, sp := range rest {
		more, err := s.scan(sp, left)
		if err != nil {
			return nil, err
		}
		newest = append(newest, more...)
		left -= len(more)
	}
	slices.SortFunc(newest, func(a, b found) int { return cmp.Compare(b.id, a.id) })
	hits := make([]Hit, min(len(newest), s.limit))
	for i := range hits {
		hits[i] = newest[i].Hit
		hits[i].UID = handshake.UID(st.sid, uint64(newest[i].id-all.first))
	}
	return hits, nil
}

// indexed asks the full-text index.
func (s *search) indexed(all span) (hits []found, err error) {
	err = s.each(`SELECT d.id, d.at, d.host, d.line FROM words JOIN documents d ON d.id = words.rowid
		WHERE words MATCH ? AND words.rowid BETWEEN ? AND ? ORDER BY words.rowid DESC LIMIT ?`,
		[]any{s.query.expression(), all.first, all.last, s.limit},
		func(scan func(...any) error) error {
			f, err := scanFound(scan)
			hits = append(hits, f)
			return err
		})
	return hits, err
}

// unindexed gives what of a stream is not indexed, the newest first.
func (s *search) unindexed(all span) (spans []span, err error) {
	err = s.each("SELECT first, last FROM unindexed WHERE first BETWEEN ? AND ? ORDER BY first DESC",
		[]any{all.first, all.last},
		func(scan func(...any) error) error {
			var sp span
			if err := scan(&sp.first, &sp.last); err != nil {
				return err
			}
			spans = append(spans, sp)
			return nil
		})
	return spans, err
}

// scan reads the documents of a span, from the newest, until n match.
func (s *search) scan(sp span, n int) (hits []found, err error) {
	err = s.each("SELECT id, at, host, line FROM documents WHERE id BETWEEN ? AND ? ORDER BY id DESC",
		[]any{sp.first, sp.last},
		func(scan func(...any) error) error {
			if len(hits) == n {
				return errEnough
			}
			f, err := scanFound(scan)
			if err == nil && s.query.matches(fold([]byte(f.Line))) {
				hits = append(hits, f)
			}
			return err
		})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return hits, err
}

func scanFound(scan func(...any) error) (f found, err error) {
	var at int64
	err = scan(&f.id, &at, &f.Host, &f.Line)
	f.Time = time.UnixMilli(at).UTC()
	return f, err
}

func (s *search) each(query string, args []any, f func(scan func(...any) error) error) error {
	return eachRow(func() (*sql.Rows, error) { return s.tx.QueryContext(s.ctx, query, args...) }, f)
}
