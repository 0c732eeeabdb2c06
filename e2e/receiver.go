package e2e

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"iter"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Receiver is a wsreceive that can be taken away and brought back: its address
// and its store stay.
type Receiver struct {
	*Process
	Addr string // host:port
	s    *Sandbox
}

// NewReceiver picks a free port of the loopback interface. It starts nothing.
func (s *Sandbox) NewReceiver() (*Receiver, error) {
	addr, err := freeAddr()
	return &Receiver{Addr: addr, s: s}, err
}

var given sync.Map // by freeAddr

// freeAddr is where nobody listens, and which it has not given before: the
// kernel may name the same port twice.
func freeAddr() (string, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		if _, again := given.LoadOrStore(addr, true); !again {
			return addr, l.Close()
		}
		l.Close()
	}
}

// URL is where wsrelay finds the receiver.
func (r *Receiver) URL() string { return "ws://" + r.Addr + "/relay" }

// StorePath is the SQLite database.
func (r *Receiver) StorePath() string { return r.s.Path("store.db") }

// Program is the path of wsreceive.
func (r *Receiver) Program() string { return filepath.Join(r.s.bin, "wsreceive") }

// Start starts wsreceive and waits until it listens.
func (r *Receiver) Start(ctx context.Context) (err error) {
	r.Process, err = r.s.Start("wsreceive", r.Program(), "--listen", r.Addr, "--to", "sqlite:"+r.StorePath())
	if err != nil {
		return err
	}
	return r.waitReady(ctx, func() bool {
		c, err := net.Dial("tcp", r.Addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Stored is the number of documents in the store, 0 before there is one.
func (r *Receiver) Stored(ctx context.Context) (n int, err error) {
	err = r.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) },
		"SELECT coalesce(sum(documents), 0) FROM streams")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return n, err
}

// WaitStored waits until the store has n documents.
func (r *Receiver) WaitStored(ctx context.Context, n int) error {
	return poll(ctx, func() (bool, error) {
		stored, err := r.Stored(context.WithoutCancel(ctx))
		return stored >= n, err
	})
}

// Documents gives every document as it is in the store, in the order in which
// wsrelay numbered them. It asks SQLite, not wsreceive.
func (r *Receiver) Documents(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var document []byte
		errStop := errors.New("stop")
		err := r.query(ctx, func(rows *sql.Rows) error {
			if err := rows.Scan(&document); err != nil {
				return err
			}
			if !yield(document, nil) {
				return errStop
			}
			return nil
		}, "SELECT line FROM documents ORDER BY id")
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// query calls row for each row of the answer.
func (r *Receiver) query(ctx context.Context, row func(*sql.Rows) error, query string) error {
	if _, err := os.Stat(r.StorePath()); err != nil {
		return err
	}
	uri := url.URL{Scheme: "file", Path: r.StorePath(), RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
