package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"wsrelay/receiver"
)

// writer is the connection that writes. One goroutine uses it at a time.
type writer struct {
	db      *sql.DB
	conn    *sql.Conn            // nil: to be opened by the next transaction
	stmts   map[string]*sql.Stmt // prepared on conn
	streams map[string]int64     // numbers of the streams seen on conn
	args    []any                // scratch of insert
	next    int64                // the document index goes on with

	retention retention
}

func openWriter(path string) (*writer, error) {
	if err := create(path); err != nil {
		return nil, err
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := open(path, "rw")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := prepare(context.Background(), db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// Who opens a store does not know what of its index is dead: something, for all
	// it knows.
	return &writer{db: db, retention: retention{dead: 1}}, nil
}

func (w *writer) close() error {
	w.drop()
	return w.db.Close()
}

// commit stores the batches of the group in one transaction and finishes its
// requests; it makes the group its own. A request that is refused for what it brings does not harm the
// others: they go through without it.
func (w *writer) commit(group []*request) {
	for len(group) > 0 {
		at := 0
		err := w.transact(func() error {
			for i, r := range group {
				at = i
				var err error
				if r.owner != nil {
					err = w.setOwner(r.owner)
				} else {
					r.results, err = w.put(r.batches)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		var diverged *receiver.DivergedError
		var refused *receiver.RefusedError
		if errors.As(err, &diverged) || errors.As(err, &refused) {
			group[at].finish(err)
			group = slices.Delete(group, at, at+1)
			continue
		}
		for _, r := range group {
			r.finish(err)
		}
		return
	}
}

// transact runs f in a transaction. After an error nothing of it is stored, and
// the connection is given up: whatever state the error left it in, the next
// transaction begins with a fresh one.
func (w *writer) transact(f func() error) (err error) {
	if w.conn == nil {
		if w.conn, err = w.db.Conn(context.Background()); err != nil {
			return err
		}
		w.stmts, w.streams = map[string]*sql.Stmt{}, map[string]int64{}
	}
	defer func() {
		if err != nil {
			w.drop()
		}
	}()
	// IMMEDIATE: what f reads is still so when it writes.
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return w.exec("COMMIT")
}

// drop closes the connection, which rolls back what it has not committed.
func (w *writer) drop() {
	if w.conn == nil {
		return
	}
	for _, s := range w.stmts {
		_ = s.Close() // there is nothing that could be lost
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // closes instead of returning it to the pool
	w.conn = nil
}

// stmt gives the statement, prepared once for each connection.
func (w *writer) stmt(query string) (*sql.Stmt, error) {
	if s := w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = s
	return s, nil
}

func (w *writer) exec(query string, args ...any) error {
	_, err := w.execN(query, args...)
	return err
}

// execN is exec that tells how many rows it has changed.
func (w *writer) execN(query string, args ...any) (int64, error) {
	s, err := w.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// each calls f for each row of the answer; scan fills in the row's columns.
func (w *writer) each(query string, args []any, f func(scan func(...any) error) error) error {
	s, err := w.stmt(query)
	if err != nil {
		return err
	}
	return eachRow(func() (*sql.Rows, error) { return s.QueryContext(context.Background(), args...) }, f)
}

// eachRow calls f for each row of a query.
func eachRow(query func() (*sql.Rows, error), f func(scan func(...any) error) error) error {
	rows, err := query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

var errTooManyStreams = &receiver.RefusedError{
	Reason: fmt.Sprintf("the store has numbered %d streams and can take no new one", maxStream),
}
