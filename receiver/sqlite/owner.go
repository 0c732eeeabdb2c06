package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"wsrelay/receiver"
)

var _ receiver.Owners = (*Store)(nil)

const ownersTable = `CREATE TABLE IF NOT EXISTS owners (sid TEXT PRIMARY KEY, owner TEXT NOT NULL) STRICT, WITHOUT ROWID`

// setOwner is a SetOwner on its way to the writing goroutine.
type setOwner struct{ sid, from, to string }

// Owner implements receiver.Owners.
func (s *Store) Owner(ctx context.Context, sid string) (owner string, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT owner FROM owners WHERE sid = ?", sid).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return owner, err
}

// SetOwner implements receiver.Owners.
func (s *Store) SetOwner(ctx context.Context, sid, from, to string) (owner string, err error) {
	if err := s.do(ctx, &request{owner: &setOwner{sid, from, to}, done: make(chan struct{})}); err != nil {
		return "", fmt.Errorf("store %s: %w", s.path, err)
	}
	return s.Owner(ctx, sid)
}

// EachOwner implements receiver.Owners.
func (s *Store) EachOwner(ctx context.Context, f func(sid, owner string) bool) error {
	err := eachRow(func() (*sql.Rows, error) { return s.db.QueryContext(ctx, "SELECT sid, owner FROM owners ORDER BY sid") },
		func(scan func(...any) error) error {
			var sid, owner string
			if err := scan(&sid, &owner); err != nil {
				return err
			}
			if !f(sid, owner) {
				return errEnough
			}
			return nil
		})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (w *writer) setOwner(o *setOwner) error {
	if o.from == "" {
		return w.exec("INSERT INTO owners (sid, owner) VALUES (?, ?) ON CONFLICT DO NOTHING", o.sid, o.to)
	}
	return w.exec("UPDATE owners SET owner = ? WHERE sid = ? AND owner = ?", o.to, o.sid, o.from)
}
