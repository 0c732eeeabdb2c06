package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Reader reads a store, also while another process serves and writes it. Its
// methods may be called concurrently.
type Reader struct {
	db *sql.DB
}

// OpenReader opens the store at path for reading. The caller must Close it.
func OpenReader(path string) (*Reader, error) {
	r, err := openReader(path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return r, nil
}

func openReader(path string) (*Reader, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := open(path, "ro")
	if err != nil {
		return nil, err
	}
	if err := verify(context.Background(), db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Reader{db: db}, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.db.Close() }

// Stats is what a store holds.
type Stats struct {
	Documents int64 // lines, each with a UID of its own
	Gaps      int64 // gap records
	Missing   int64 // records that the gaps stand for
	Retired   int64 // documents deleted since the store was made: see Retain
	Unindexed int64 // documents that are not in the full-text index yet
	Bytes     int64 // of the database, without its write-ahead log
	Streams   []StreamStats
}

// StreamStats is what a store holds of one stream.
type StreamStats struct {
	SID       string
	Host      string // the last one that sent it
	Cursor    uint64 // one more than the highest seq stored or passed by a gap
	Documents int64
	Gaps      int64
	Missing   int64
	Retired   int64
	Newest    time.Time // of its documents, UTC; the zero time if there were none
}

// Stats gives the numbers of one moment, the streams in the order in which they
// first came.
func (r *Reader) Stats(ctx context.Context) (Stats, error) {
	st, err := r.stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("statistics: %w", err)
	}
	return st, nil
}

func (r *Reader) stats(ctx context.Context) (st Stats, err error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return Stats{}, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	err = tx.QueryRowContext(ctx, `SELECT
		(SELECT coalesce(sum(last - first + 1), 0) FROM unindexed),
		(SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)`).
		Scan(&st.Unindexed, &st.Bytes)
	if err != nil {
		return Stats{}, err
	}
	err = eachRow(func() (*sql.Rows, error) {
		return tx.QueryContext(ctx, `SELECT sid, s.host, cursor, documents, retired, s.newest, count(g.id), coalesce(sum(g.n), 0)
			FROM streams s LEFT JOIN gaps g ON g.stream = s.number GROUP BY s.number ORDER BY s.number`)
	}, func(scan func(...any) error) error {
		var s StreamStats
		var newest int64
		if err := scan(&s.SID, &s.Host, &s.Cursor, &s.Documents, &s.Retired, &newest, &s.Gaps, &s.Missing); err != nil {
			return err
		}
		if s.Documents+s.Retired > 0 {
			s.Newest = time.UnixMilli(newest).UTC()
		}
		st.Documents += s.Documents
		st.Gaps += s.Gaps
		st.Missing += s.Missing
		st.Retired += s.Retired
		st.Streams = append(st.Streams, s)
		return nil
	})
	return st, err
}
