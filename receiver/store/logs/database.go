package logs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"wsrelay/receiver"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// ErrFull is returned by Add and Barrier while the disk has less than the reserve.
var ErrFull = errors.New("the disk of the store is full")

const (
	dayFormat = "20060102"
	oneDay    = 24 * time.Hour
	maxDays   = 2000 // that rows may be spread over
	newDays   = 400  // of these, that may come between two barriers, so that they are short
)

// database is the rows. Its methods may be called concurrently.
type database struct {
	*Store
	Rows

	seeing sync.Mutex   // held while rows are made visible
	adding sync.RWMutex // held for reading while rows are added, for writing while none may be

	mu      sync.Mutex      // guards the fields below
	days    map[string]bool // attached; false: on its way out, for no more rows
	touched map[string]bool // days with rows that are behind no barrier yet
	fresh   int             // days that came since the last barrier
	newDays int
	unseen  bool // rows were added that a query may not see yet
}

// Add makes rows of the lines of a segment. After an error any part of them may be in.
func (d *database) Add(ctx context.Context, segment string, records []receiver.Batch) error {
	d.adding.RLock()
	defer d.adding.RUnlock()
	if err := d.writable(); err != nil {
		d.wakeRetention()
		return err
	}
	a := &pendingWrite{
		database: d, segment: segment, coder: d.coders.Get().(coder),
		rows: logstorage.GetLogRows(nil, nil, nil, nil, ""), days: map[string]bool{}, now: time.Now(),
	}
	defer d.coders.Put(a.coder)
	defer logstorage.PutLogRows(a.rows)
	for i := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.add(&records[i]); err != nil {
			return err
		}
	}
	return a.flush()
}

// pendingWrite is one call of Add.
type pendingWrite struct {
	*database
	segment string
	coder   coder
	row     row.Row
	rows    *logstorage.LogRows
	days    map[string]bool // of rows
	now     time.Time
}

func (a *pendingWrite) add(b *receiver.Batch) error {
	if b.Gap != nil {
		a.coder.Gap(&a.row, &row.Line{SID: b.SID, Host: b.Host, Segment: a.segment, Seq: b.Gap.Seq, At: b.At}, b.Gap)
		return a.put(b, nil)
	}
	for i, text := range b.Lines {
		a.coder.Row(&a.row, &row.Line{
			SID: b.SID, Host: b.Host, Segment: a.segment, Seq: b.Seq + uint64(i), At: b.At,
			Text: text,
		})
		if err := a.put(b, text); err != nil {
			return err
		}
	}
	return nil
}

// put adds the row, and what it cannot hold to the day's blobs.
func (a *pendingWrite) put(b *receiver.Batch, text []byte) error {
	at := a.place(a.row.Time, b.At, a.now)
	day := at.Format(dayFormat)
	if !a.days[day] {
		if err := a.open(day); err != nil {
			return err
		}
		a.days[day] = true
	}
	fields := a.row.Fields
	if a.row.Whole {
		where, err := a.blobs.Append(day, text)
		if err != nil {
			return fmt.Errorf("write a blob: %w", err)
		}
		fields = append(fields, logstorage.Field{Name: fieldBlob, Value: where})
	}
	if !a.addRow(at, fields, a.row.Stream) {
		var err error
		if fields, err = a.bare(fields, day, text); err != nil {
			return err
		}
		if !a.addRow(at, fields, 0) {
			return fmt.Errorf("the log database refuses a row of stream %s near seq %d", b.SID, b.Seq)
		}
	}
	if a.rows.NeedFlush() {
		return a.flush()
	}
	return nil
}

// addRow tells whether the library took the row.
func (a *pendingWrite) addRow(at time.Time, fields []logstorage.Field, stream int) bool {
	n := a.rows.RowsCount()
	a.rows.MustAdd(logstorage.TenantID{}, at.UnixNano(), fields, stream)
	return a.rows.RowsCount() == n+1
}

// bare gives a row of nothing but our own fields, and a blob of the line. It is for
// rows that are outside of the library's limits against expectation: one such line
// must not hold up the others.
func (a *pendingWrite) bare(fields []logstorage.Field, day string, text []byte) ([]logstorage.Field, error) {
	a.refused.Add(1)
	a.log.Warn("the log database refused a row", "effect", "the line is kept whole, but only its number can be searched for",
		"hint", "please report this: rows are brought within the database's limits before they are added")
	own := []logstorage.Field{{Name: "_msg", Value: "a line that the log database does not take"}}
	for _, f := range fields {
		if strings.HasPrefix(f.Name, "wsrelay.") && f.Name != row.FieldLine && len(f.Value) < 1000 {
			own = append(own, f)
		}
	}
	if text == nil || a.row.Whole {
		return own, nil
	}
	where, err := a.blobs.Append(day, text)
	return append(own, logstorage.Field{Name: fieldBlob, Value: where}), err
}

// flush gives the rows to the library, once the blobs that they need are on disk.
func (a *pendingWrite) flush() error {
	if a.rows.RowsCount() == 0 {
		return nil
	}
	if err := a.blobs.Sync(); err != nil {
		return fmt.Errorf("write a blob: %w", err)
	}
	a.library.MustAddRows(a.rows)
	a.added.Add(int64(a.rows.RowsCount()))
	a.rows.ResetKeepSettings()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unseen = true
	maps.Copy(a.touched, a.days)
	clear(a.days)
	return nil
}

// place gives the time that a row is stored under: the line's, else that of its
// arrival, else now. A row must be in no day that retention has taken or is about
// to take, nor in the far future, and a sender must not spread its lines over so
// many days that they are a burden.
func (d *database) place(line, arrival, now time.Time) time.Time {
	oldest := time.Unix(0, 0)
	if d.opts.Retain > 0 {
		oldest = now.Add(-d.opts.Retain)
	}
	for _, t := range []time.Time{line, arrival} {
		if t = t.UTC(); t.After(oldest) && t.Before(now.Add(oneDay)) && d.acceptsDay(t.Format(dayFormat)) {
			return t
		}
	}
	return now.UTC()
}

func (d *database) acceptsDay(day string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if takes, ok := d.days[day]; ok {
		return takes
	}
	return d.fresh < d.newDays && len(d.days) < maxDays
}

// open makes sure that the library takes rows of a day. It drops them silently if
// the day's folder is there but was not attached, as when a user copied it there.
func (d *database) open(day string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if takes, known := d.days[day]; takes {
		return nil
	} else if known {
		return fmt.Errorf("the day %s is being deleted", day)
	}
	if _, err := os.Lstat(filepath.Join(d.library.path, "partitions", day)); err == nil {
		if err := d.library.attach(day); err != nil {
			return fmt.Errorf("attach the folder of %s: %w", day, err)
		}
		d.log.Warn("a folder of a day was attached", "day", day,
			"effect", "its lines can be searched", "hint", "stop wsreceive before you change its directory")
	}
	d.days[day] = true
	d.fresh++
	return nil
}

// writable looks at the free space of the disk; the library does so at most every
// two seconds.
func (s *Store) writable() error {
	if s.library.CanWriteData() == nil {
		return nil
	}
	return fmt.Errorf("%w: less than %d bytes are free", ErrFull, s.opts.libraryReserve())
}

// Barrier returns when everything that was added before is on disk.
func (d *database) Barrier(ctx context.Context) error {
	d.adding.Lock()
	defer d.adding.Unlock()
	began := time.Now()
	if len(d.touchedDays()) == 0 {
		return nil
	}
	if err := d.writable(); err != nil { // a snapshot that cannot be written ends the process
		d.wakeRetention()
		return err
	}
	if err := d.flush(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	clear(d.touched)
	d.fresh, d.unseen = 0, false
	d.mu.Unlock()
	d.barriers.Observe(time.Since(began).Seconds())
	d.wakeRetention()
	return nil
}

func (d *database) touchedDays() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.touched))
}

// flush takes snapshots until the library holds nothing in memory only. One usually
// suffices; it lacks the parts that the library was merging in memory meanwhile. The
// caller lets nobody add rows.
func (d *database) flush(ctx context.Context) error {
	days := d.touchedDays()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if err := d.library.flush(); err != nil {
			return err
		}
		for _, day := range days {
			paths, err := d.library.snapshot(day)
			for _, path := range paths {
				err = errors.Join(err, d.library.dropSnapshot(path))
			}
			if err != nil {
				return fmt.Errorf("write %s to disk: %w", day, err)
			}
		}
		done, err := d.library.settled()
		if err != nil {
			return err
		}
		if done {
			return d.attached(days)
		}
		d.repeated.Add(1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// attached makes sure that the library had each day when rows were added to it: it
// drops the rows of others. Days that retention has taken meanwhile are final.
func (d *database) attached(days []string) error {
	list, err := d.library.days()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, day := range days {
		if d.days[day] && !slices.Contains(list, day) {
			delete(d.days, day)
			if _, err := os.Lstat(filepath.Join(d.library.path, "partitions", day)); err == nil {
				if err := d.library.attach(day); err != nil { // or what is in it is not seen when rows are counted
					return fmt.Errorf("attach the folder of %s: %w", day, err)
				}
				d.days[day] = true
			}
			return fmt.Errorf("the log database has no day %s: rows that were added to it are missing", day)
		}
	}
	return nil
}

// SetMark implements journal.Database.
func (d *database) SetMark(mark string) error {
	d.adding.RLock() // a backup must not see it change
	defer d.adding.RUnlock()
	return d.Rows.SetMark(mark)
}
