package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Options of a store. The zero value keeps everything and has the usual limits.
type Options struct {
	Retain      time.Duration // age of a line beyond which its day goes; 0: none
	RetainBytes int64         // size beyond which the oldest days go; 0: none
	Memory      int64         // bytes for the caches and the queries of the library; 0: 96 MiB
	Reserve     int64         // bytes of the disk that stay free; 0: 64 MiB
	QueryTime   time.Duration // 0: 30 s
	Private     bool          // only this process asks the store, by Store.Dial
	Log         *slog.Logger

	coder func(row.Skeletons) (func() coder, error) // for tests; nil: package row's
	block func(*logstorage.DataBlock)               // for tests: sees each block that a query reads
}

// coder makes rows of lines, and lines of rows. One goroutine at a time uses it.
type coder interface {
	Row(dst *row.Row, l *row.Line)
	Gap(dst *row.Row, l *row.Line, g *handshake.Gap)
	Text(fields []logstorage.Field, blob func() ([]byte, error)) ([]byte, error)
}

// Store is an open directory: a journal, in which lines become final, in front of a
// database, in which they are found.
type Store struct {
	*journal.Journal

	opts      Options
	log       *slog.Logger
	path      string
	dir       *os.File // locked
	claimed   bool     // the library is ours
	library   *library
	db        *database
	blobs     *Blobs
	skeletons *Skeletons
	damage    *damage
	retention *retention
	coders    sync.Pool
	followers followers
	tails     chan struct{}
	queries   chan struct{} // for lines of users of the network, which the library does not count
	closed    context.CancelFunc
	tasks     sync.WaitGroup
	ctx       context.Context // ends when Close begins
	using     sync.RWMutex    // held for reading by each request
	requests  sync.Map        // of *request, that run

	added, repeated, dropped, refused atomic.Int64
	barriers                          *metrics.Histogram
}

// Open opens the store in a directory, which is made if it is missing; it returns
// receiver.ErrInUse if another process has it open. If the
// library cannot open what is there, it ends the process; the next Open quarantines
// what was wrong.
func Open(path string, o Options) (_ *Store, err error) {
	o.defaults()
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, log: o.Log, path: path, tails: make(chan struct{}, maxTails), queries: make(chan struct{}, 4),
		barriers: metrics.NewHistogram(.05, .1, .25, .5, 1, 2.5, 5, 10, 30),
	}
	if s.dir, err = journal.LockDir(path); err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	if err = s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) start() (err error) {
	if _, err := os.Lstat(s.under(incomplete)); err == nil {
		return errors.New("it is a backup that was interrupted, and lacks lines")
	}
	for _, name := range []string{"database", "database/partitions", "blobs", "damaged", "trash"} {
		if err := os.Mkdir(s.under(name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := s.emptyTrash(); err != nil {
		return err
	}
	s.blobs = NewBlobs(s.under("blobs"))
	s.damage = &damage{dir: s.under("damaged"), days: s.under("database/partitions"), log: s.log}
	if s.skeletons, err = OpenSkeletons(s.under("skeletons")); err != nil {
		return fmt.Errorf("skeletons: %w", err)
	}
	if err := errors.Join(s.dir.Sync(), claimLibrary(s)); err != nil {
		return err
	}
	if err := errors.Join(s.damage.findCrash(), s.damage.repair()); err != nil {
		return err
	}
	made, err := s.opts.coder(s.skeletons)
	if err != nil {
		return fmt.Errorf("skeletons: %w", err)
	}
	s.coders.New = func() any { return made() }
	s.library = startLibrary(s)
	if err := s.probe(); err != nil {
		return fmt.Errorf("read every day: %w", err)
	}
	s.db = &database{Store: s, days: map[string]bool{}, touched: map[string]bool{}, newDays: newDays}
	s.db.Rows = Rows{Dir: s.library.path, Query: s.db.query}
	s.retention = &retention{database: s.db, wake: make(chan struct{}, 1), now: time.Now, patience: queryPatience}
	days, err := s.library.days()
	if err != nil {
		return err
	}
	for _, day := range days {
		s.db.days[day] = true
	}
	if s.Journal, err = journal.Open(s.dir, s.path, s.db, journal.Options{
		Reserve: s.opts.Reserve,
		Log:     s.log,
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.closed, s.ctx = cancel, ctx
	if s.opts.Retain > 0 || s.opts.RetainBytes > 0 {
		s.tasks.Go(func() { s.retention.run(ctx) })
	}
	return s.serve(ctx)
}

// Commit implements receiver.Store.
func (s *Store) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	results, err := s.Journal.Commit(ctx, batches)
	if err == nil {
		s.followers.publish(batches, results)
	}
	return results, err
}

func (s *Store) emptyTrash() error {
	left, err := os.ReadDir(s.under("trash"))
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.under("blobs"), e.Name())),
			os.RemoveAll(filepath.Join(s.under("trash"), e.Name())))
	}
	return err
}

// under gives a path below the directory that holds wherever the directory is moved.
func (s *Store) under(name string) string {
	return filepath.Join(fmt.Sprintf("/proc/self/fd/%d", s.dir.Fd()), name)
}

const closeTime = 10 * time.Second

// Close writes what is in memory to disk. Requests to the handler must have ended.
func (s *Store) Close() error {
	if s.closed != nil {
		s.closed()
	}
	s.tasks.Wait()
	s.using.Lock() // requests end: the library cannot close while a query runs
	defer s.using.Unlock()
	var err error
	if s.Journal != nil {
		err = s.Journal.Close()
	}
	if s.db != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		_ = s.db.Barrier(ctx) // what it does not write is in the journal
		cancel()
	}
	if s.library != nil {
		s.library.stop()
	}
	if s.claimed {
		releaseLibrary()
	}
	if s.skeletons != nil {
		err = errors.Join(err, s.skeletons.Close())
	}
	return errors.Join(err, s.dir.Close())
}

// Ready implements receiver.Readier.
func (s *Store) Ready(context.Context) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.Journal.Ready()
}

// Text gives a line byte for byte, of the fields of its row.
func (s *Store) Text(fields []logstorage.Field) ([]byte, error) {
	c := s.coders.Get().(coder)
	defer s.coders.Put(c)
	return c.Text(fields, func() ([]byte, error) {
		for _, f := range fields {
			if f.Name == fieldBlob {
				return s.blobs.read(f.Value)
			}
		}
		return nil, errors.New("the row names no blob")
	})
}

// Metrics writes what there is to know for Prometheus.
func (s *Store) Metrics(t *metrics.Text) {
	f := s.library.counters()
	damaged, _ := s.damage.list()
	t.Counter("wsreceive_store_rows_added_total", "Rows that were given to the log database; those of a recovery included.", float64(s.added.Load()))
	t.Counter("wsreceive_store_rows_refused_total", "Rows that the log database refused; it should be 0. Their lines are kept whole, and only their numbers can be searched for.", float64(s.refused.Load()))
	t.Gauge("wsreceive_store_rows", "Rows of the log database.", f[`vl_storage_rows{type="storage/inmemory"}`]+f[`vl_storage_rows{type="storage/small"}`]+f[`vl_storage_rows{type="storage/big"}`])
	t.Gauge("wsreceive_store_bytes", "What the log database takes, without blobs.",
		f[`vl_data_size_bytes{type="storage"}`]+f[`vl_data_size_bytes{type="indexdb"}`])
	t.Gauge("wsreceive_store_days", "Days that have rows.", f["vl_partitions"])
	t.Counter("wsreceive_store_days_deleted_total", "Days that retention deleted.", float64(s.dropped.Load()))
	t.Gauge("wsreceive_store_damaged", "Days and parts in the folder damaged.", float64(len(damaged)))
	j := s.Stats()
	t.Flag("wsreceive_store_full", "1: the disk has less free than the reserve, and lines wait at their senders.",
		j.Free >= 0 && j.Free < s.opts.Reserve || s.writable() != nil)
	if j.Free >= 0 {
		t.Gauge("wsreceive_store_free_bytes", "What the store's file system has free for us, the reserve that stays free included.", float64(j.Free))
	}
	t.Time("wsreceive_store_oldest_day_timestamp_seconds", "When the oldest day begins that has lines, by their own time; it is not there while there is none.", s.oldestDay())
	t.Gauge("wsreceive_store_journal_bytes", "What the journal takes on disk.", float64(j.Held))
	t.Gauge("wsreceive_store_waiting_bytes", "Lines in the journal that the log database does not have yet.",
		float64(j.Waiting))
	t.Gauge("wsreceive_store_lag_seconds", "How long the oldest of these lines has waited.", j.Lag.Seconds())
	t.Gauge("wsreceive_store_lacking_lines", "Lines that the store has acknowledged and lacks: it was restored, emptied or exchanged.", float64(j.Lacking))
	t.Histogram("wsreceive_store_barrier_seconds", "How long it took until all that was added was on disk.", s.barriers)
}

// oldestDay is the zero time if there is no day.
func (s *Store) oldestDay() (first time.Time) {
	days, err := s.library.days()
	if err != nil || len(days) == 0 {
		return first
	}
	first, _ = time.Parse(dayFormat, slices.Min(days)) // the zero time for what is no day
	return first
}

// The sockets of a store, in its directory. A store that is Private answers on one of its own:
// who asks on querySocket expects that the store stays open until the answer is complete.
const (
	querySocket   = "query.sock"
	privateSocket = "command.sock"
)

func (s *Store) socket() string {
	if s.opts.Private {
		return s.under(privateSocket)
	}
	return s.under(querySocket)
}

// serve answers on the socket. A socket's path may have about 100 bytes; below the
// descriptor it is short.
func (s *Store) serve(ctx context.Context) error {
	path := s.socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", filepath.Base(path), err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	s.serveOn(ctx, l)
	return nil
}

// Dial connects to the query API of the process that has the store at path open, unless it
// has opened it for itself.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // only read
	return dialSocket(ctx, fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), querySocket))
}

// Dial connects to the query API of this store.
func (s *Store) Dial(ctx context.Context) (net.Conn, error) { return dialSocket(ctx, s.socket()) }

func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

func (o *Options) defaults() {
	o.Memory = cmp.Or(o.Memory, 96<<20)
	o.Reserve = cmp.Or(o.Reserve, 64<<20)
	o.QueryTime = cmp.Or(o.QueryTime, 30*time.Second)
	if o.coder == nil {
		o.coder = func(s row.Skeletons) (func() coder, error) {
			table, err := row.Open(s, row.Options{MaxAge: o.Retain})
			return func() coder { return table.Coder() }, err
		}
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
}
