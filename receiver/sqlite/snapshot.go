package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// snapshot is one moment of the store, and what is asked of it.
type snapshot struct {
	ctx    context.Context // ends with the budget
	tx     *sql.Tx
	query  *Query
	fts    string // of the query; "": the index is of no help
	caller context.Context
}

// snapshot calls f with the present moment.
func (r *Reader) snapshot(ctx context.Context, q *Query, budget time.Duration, f func(*snapshot) error) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	s := &snapshot{ctx: ctx, tx: tx, query: q, caller: ctx}
	s.fts, _ = q.expression()
	if budget > 0 {
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeout(ctx, budget)
		defer cancel()
	}
	return f(s)
}

// inTime takes the budget's end for what it is: no error.
func (s *snapshot) inTime(err error) (complete bool, _ error) {
	if err != nil && s.ctx.Err() != nil && s.caller.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

func (s *snapshot) each(query string, args []any, f func(scan func(...any) error) error) error {
	return eachRow(func() (*sql.Rows, error) { return s.tx.QueryContext(s.ctx, query, args...) }, f)
}

// stream is a stream to be searched.
type stream struct {
	number int64
	sid    string
	cursor int64
	newest int64 // time of its newest document
}

// streams gives the streams in which the query may find something, those with
// the newest lines first.
func (s *snapshot) streams() (streams []stream, err error) {
	sid, _ := s.query.only()
	err = s.each("SELECT number, sid, cursor, newest FROM streams WHERE ? IN ('', sid) ORDER BY newest DESC", []any{sid},
		func(scan func(...any) error) error {
			var st stream
			if err := scan(&st.number, &st.sid, &st.cursor, &st.newest); err != nil {
				return err
			}
			streams = append(streams, st)
			return nil
		})
	return streams, err
}

// within gives the documents of a stream that may be of the query's time, or
// the only one that it asks for.
func (s *snapshot) within(st stream) (sp span, err error) {
	all := span{documentID(st.number, 0), documentID(st.number, maxSeq)}
	if _, seq := s.query.only(); seq > 0 {
		id := documentID(st.number, min(seq, maxSeq)) // matches sees to what is larger
		return span{id, id}, nil
	}
	from, to := s.query.minutes()
	if s.query.From.IsZero() && s.query.To.IsZero() {
		return all, nil
	}
	err = s.tx.QueryRowContext(s.ctx, `SELECT coalesce(min(first), 0), coalesce(max(last), -1) FROM runs
		WHERE first BETWEEN ? AND ? AND minute BETWEEN ? AND ?`, all.first, all.last, from, to).Scan(&sp.first, &sp.last)
	return sp, err
}

// minutes gives the first and the last minute of the query's time.
func (q *Query) minutes() (from, to int64) {
	to = 1<<63 - 1
	if !q.From.IsZero() {
		from = q.From.UnixMilli() / minute
	}
	if !q.To.IsZero() {
		to = (q.To.UnixMilli() - 1) / minute
	}
	return from, to
}

// visit calls f for every document of the span that the query may mean: those
// in the index, then those not yet in it, both from the newest on. f returns
// errEnough to end the part that it is in.
func (s *snapshot) visit(st stream, sp span, f func(*document) error) error {
	if s.fts == "" {
		return s.scan(st, sp, f)
	}
	err := s.documents(st, f, `SELECT d.id, d.at, d.host, d.line FROM words JOIN documents d ON d.id = words.rowid
		WHERE words MATCH ? AND words.rowid BETWEEN ? AND ? ORDER BY words.rowid DESC`, s.fts, sp.first, sp.last)
	if err != nil {
		return err
	}
	rest, err := s.unindexed(sp)
	if err != nil {
		return err
	}
	for _, r := range rest {
		if err := s.scan(st, r, f); err != nil {
			return err
		}
	}
	return nil
}

// unindexed gives what of a span is not indexed, the newest first.
func (s *snapshot) unindexed(sp span) (spans []span, err error) {
	lowest := sp.first &^ maxSeq // a run of them may begin before sp, but not in another stream
	err = s.each(`SELECT max(first, ?1), min(last, ?2) FROM unindexed
		WHERE first BETWEEN ?3 AND ?2 AND last >= ?1 ORDER BY first DESC`,
		[]any{sp.first, sp.last, lowest},
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

// scan visits all documents of a span.
func (s *snapshot) scan(st stream, sp span, f func(*document) error) error {
	return s.documents(st, f, "SELECT id, at, host, line FROM documents WHERE id BETWEEN ? AND ? ORDER BY id DESC", sp.first, sp.last)
}

func (s *snapshot) documents(st stream, f func(*document) error, query string, args ...any) error {
	err := s.each(query, args, func(scan func(...any) error) error {
		d := document{sid: st.sid}
		if err := scan(&d.id, &d.at, &d.host, &d.line); err != nil {
			return err
		}
		return f(&d)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
