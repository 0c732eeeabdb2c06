package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// The header of our files: PRAGMA application_id ("wsrc") and user_version.
const (
	applicationID = 0x77737263
	schemaVersion = 2
)

// AUTOINCREMENT keeps SQLite from giving the number of a deleted stream to a
// new one, whose lines would then meet the documents of the old.
const schema = `
CREATE TABLE streams (
	number    INTEGER PRIMARY KEY AUTOINCREMENT,
	sid       TEXT NOT NULL UNIQUE,
	host      TEXT NOT NULL,
	cursor    INTEGER NOT NULL DEFAULT 0,
	documents INTEGER NOT NULL DEFAULT 0,
	retired   INTEGER NOT NULL DEFAULT 0,
	newest    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE documents (
	id   INTEGER PRIMARY KEY,
	at   INTEGER NOT NULL,
	host TEXT NOT NULL,
	crc  INTEGER NOT NULL,
	line ANY NOT NULL
) STRICT;
CREATE TABLE gaps (
	id     TEXT PRIMARY KEY,
	stream INTEGER NOT NULL REFERENCES streams (number),
	seq    INTEGER NOT NULL,
	n      INTEGER NOT NULL,
	why    TEXT NOT NULL,
	maybe  INTEGER NOT NULL,
	at     INTEGER NOT NULL,
	oldest INTEGER NOT NULL,
	newest INTEGER NOT NULL,
	host   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
	first  INTEGER PRIMARY KEY,
	last   INTEGER NOT NULL,
	minute INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_minute ON runs (minute);
CREATE TABLE unindexed (
	first INTEGER PRIMARY KEY,
	last  INTEGER NOT NULL
) STRICT;
CREATE VIRTUAL TABLE words USING fts5 (text, content = '', columnsize = 0, tokenize = 'ascii');
`

// errEmpty says that a file is a database without anything in it.
var errEmpty = errors.New("the database is empty")

// open gives a pool of connections to the file, which mode ("rw" or "ro") says
// how to use. It does not touch the file yet.
func open(path, mode string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	uri := url.URL{Scheme: "file", Path: abs, RawQuery: url.Values{
		"mode": {mode},
		"_pragma": {
			"busy_timeout(5000)",
			"synchronous(FULL)",
			"journal_size_limit(67108864)",
		},
	}.Encode()}
	return sql.Open("sqlite", uri.String())
}

// create makes sure that the file exists, readable for its owner only, and that
// a power cut does not take a new one away again.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // not opened on purpose: see the package comment on locks
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(path)
}

// syncDir makes the entry of a new file durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// checkFile refuses what SQLite would not. It takes a file too short for its
// header for an empty database and would write over it.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() > 0 && info.Size() < 512:
		return errors.New("it is not a database")
	}
	return nil
}

// prepare gives a new file its tables, checks that any other is ours, and has it
// keep a write-ahead log, which a copy of a store does not bring along.
func prepare(ctx context.Context, db *sql.DB) error {
	empty := verify(ctx, db)
	if empty != nil && !errors.Is(empty, errEmpty) {
		return empty
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if empty != nil {
		// Pages that retention frees can be given back, a few at a time. SQLite
		// takes this in before there is a table.
		if _, err := conn.ExecContext(ctx, "PRAGMA auto_vacuum = INCREMENTAL"); err != nil {
			return err
		}
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system cannot hold a write-ahead log (journal mode %s)", mode)
	}
	if empty == nil {
		_, err = conn.ExecContext(ctx, ownersTable)
		return err
	}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	// Another process may have been faster.
	if err := verify(ctx, conn); !errors.Is(err, errEmpty) {
		_, rollback := conn.ExecContext(ctx, "ROLLBACK")
		return errors.Join(err, rollback)
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf("%s %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
		schema, ownersTable, applicationID, schemaVersion))
	return err
}

// verify says why the file is not a store this package can use, if so.
func verify(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
},
) error {
	var app, version, tables int
	err := db.QueryRowContext(ctx, `SELECT
		(SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`).Scan(&app, &version, &tables)
	switch {
	case err != nil:
		return err
	case app == 0 && tables == 0:
		return errEmpty
	case app != applicationID:
		return fmt.Errorf("it is the database of another program (application_id %#x)", app)
	case version > schemaVersion:
		return fmt.Errorf("its schema version %d is newer than this program's, %d", version, schemaVersion)
	case version < schemaVersion:
		return fmt.Errorf("its schema version %d is unknown", version)
	}
	return nil
}
