package sqlite

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Mark is a place in every stream: what is committed later lies behind it. The
// zero value lies before everything.
type Mark struct {
	cursors map[int64]int64 // the next id by stream number
}

// How often Follow looks for something new, and the bytes of lines that it reads
// at once; one more line may be begun.
const (
	followEvery = 100 * time.Millisecond
	followBytes = 1 << 20
)

// Mark gives the present end of every stream.
func (r *Reader) Mark(ctx context.Context) (m Mark, err error) {
	err = r.snapshot(ctx, &Query{}, 0, func(s *snapshot) error {
		m, err = s.mark()
		return err
	})
	if err != nil {
		return Mark{}, fmt.Errorf("mark: %w", err)
	}
	return m, nil
}

func (s *snapshot) mark() (Mark, error) {
	m := Mark{map[int64]int64{}}
	err := s.each("SELECT number, cursor FROM streams", nil, func(scan func(...any) error) error {
		var number, cursor int64
		err := scan(&number, &cursor)
		m.cursors[number] = documentID(number, uint64(max(1, cursor)))
		return err
	})
	return m, err
}

// Follow calls f with the lines that match and lie behind the mark, within a
// tenth of a second of their Commit, be it in this process or another. The lines
// of a stream come in their order, those of one call from the oldest on. A line
// that is sent again after its successors were stored is passed over. Follow
// returns what f returns, if not nil, or ctx's error.
func (r *Reader) Follow(ctx context.Context, q *Query, from Mark, f func([]Hit) error) error {
	conn, err := r.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	defer conn.Close()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	at := Mark{maps.Clone(from.cursors)}
	if at.cursors == nil {
		at.cursors = map[int64]int64{}
	}
	seen := int64(-1)
	for {
		// The version is another one after each commit of another connection.
		var version int64
		if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
			return followError(ctx, err)
		}
		for more := version != seen; more; {
			var hits []Hit
			if hits, more, err = r.advance(ctx, q, at); err != nil {
				return followError(ctx, err)
			}
			if len(hits) > 0 {
				if err := f(hits); err != nil {
					return err
				}
			}
		}
		seen = version
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func followError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // and not what the interruption looked like
	}
	return fmt.Errorf("follow: %w", err)
}

// advance reads on from the mark, which it moves. It holds no snapshot when it
// returns, so a slow reader does not keep the write-ahead log from being reused.
func (r *Reader) advance(ctx context.Context, q *Query, at Mark) (hits []Hit, more bool, err error) {
	err = r.snapshot(ctx, q, 0, func(s *snapshot) error {
		streams, err := s.streams()
		if err != nil {
			return err
		}
		budget := followBytes
		for _, st := range streams {
			from := max(at.cursors[st.number], documentID(st.number, 1))
			end := documentID(st.number, uint64(st.cursor))
			if from >= end {
				continue
			}
			full := false
			err := s.documents(st, func(d *document) error {
				if full = budget <= 0; full {
					return errEnough
				}
				budget -= len(d.line) + 64
				if q.matches(d) {
					hits = append(hits, d.hit(0))
				}
				from = d.id + 1
				return nil
			}, "SELECT id, at, host, line FROM documents WHERE id BETWEEN ? AND ? ORDER BY id", from, end-1)
			if err != nil {
				return err
			}
			if !full {
				from = end
			}
			at.cursors[st.number] = from
			more = more || full
		}
		return nil
	})
	slices.SortStableFunc(hits, func(a, b Hit) int { return a.Time.Compare(b.Time) })
	return hits, more, err
}
