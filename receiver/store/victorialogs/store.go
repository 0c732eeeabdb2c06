package victorialogs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/row"
)

// Options of a store.
type Options struct {
	Log *slog.Logger
}

// Store is a journal in front of a server.
type Store struct {
	*journal.Journal
	db        *database
	dir       *os.File
	skeletons *logs.Skeletons
}

// journalLimit is larger than that of a store on one host: what was sent stays in
// the journal for a minute.
const journalLimit = 4 << 30

// Open opens the journal in a directory, which is made if it is missing, for the
// server at an address, http(s)://[USER:PASSWORD@]HOST:PORT.
func Open(dir, address string, o Options) (_ *Store, err error) {
	c, err := newClient(address)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Store{}
	if s.dir, err = journal.LockDir(dir); err != nil {
		return nil, fmt.Errorf("open the journal %s: %w", dir, err)
	}
	if err := s.open(dir, c, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(dir string, c *client, o Options) (err error) {
	folder := filepath.Join(dir, "long")
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if s.skeletons, err = logs.OpenSkeletons(filepath.Join(dir, "skeletons")); err != nil {
		return fmt.Errorf("skeletons: %w", err)
	}
	table, err := row.Open(s.skeletons, row.Options{Raw: true})
	if err != nil {
		return fmt.Errorf("skeletons: %w", err)
	}
	s.db = &database{
		client: c, Rows: logs.Rows{Dir: dir, Query: c.query}, coder: table.Coder(), long: logs.NewBlobs(folder),
		segments: map[string]*seen{},
	}
	s.Journal, err = journal.Open(s.dir, dir, s.db, journal.Options{Limit: journalLimit, Log: o.Log})
	return err
}

// Describe implements receiver.Store.
func (s *Store) Describe() (name, guarantee string) { return "victorialogs", handshake.ExactlyOnce }

// Close implements receiver.Store. What the server does not have for sure stays in
// the journal.
func (s *Store) Close() error {
	var err error
	if s.Journal != nil {
		err = s.Journal.Close()
	}
	if s.db != nil {
		s.db.CloseIdleConnections()
		err = errors.Join(err, s.db.long.Sync())
	}
	if s.skeletons != nil {
		err = errors.Join(err, s.skeletons.Close())
	}
	return errors.Join(err, s.dir.Close())
}

// Metrics writes what there is to know for Prometheus.
func (s *Store) Metrics(t *metrics.Text) {
	j := s.Stats()
	s.db.mu.Lock()
	added := s.db.added
	s.db.mu.Unlock()
	t.Counter("wsreceive_store_rows_added_total", "Rows that were sent to the server; those that were sent again included.", float64(added))
	t.Flag("wsreceive_store_failing", "1: the server does not take what waits in the journal.", j.Err != nil)
	t.Gauge("wsreceive_store_journal_bytes", "What the journal takes on disk.", float64(j.Held))
	t.Gauge("wsreceive_store_waiting_bytes", "Lines in the journal that the server does not have yet.",
		float64(j.Waiting))
	t.Gauge("wsreceive_store_lag_seconds", "How long the oldest of these lines has waited.", j.Lag.Seconds())
}
