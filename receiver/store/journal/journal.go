package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

var (
	// ErrFull is the error of a Commit for which the journal has no space.
	ErrFull = errors.New("the journal is full")
	// ErrClosed is the error of a Commit after Close.
	ErrClosed = errors.New("the journal is closed")
	// ErrForgot is the error of a AsyncDatabase that lacks rows which were added.
	ErrForgot = errors.New("the database has lost rows that were added")
)

// ID is what a row holds: a line, or a gap, which covers Gap numbers from Seq on.
type ID struct {
	SID      string
	Seq, Gap uint64 // Gap is 0 for a line
}

// Database holds rows made of lines. It may forget any part of what was added if
// the process or the machine dies before the next Barrier has returned. One
// goroutine calls Add, Barrier, Count, Each and SetMark; Sums may be called
// concurrently.
type Database interface {
	// Add makes rows of lines and gaps, in this order. Their memory is the
	// caller's once it returns. After an error any part of them may be in. A row
	// that retention would remove at once may be left out.
	Add(ctx context.Context, segment string, records []receiver.Batch) error

	// Barrier returns when everything that was added before is on disk, and is
	// seen by Count, Each and Sums.
	Barrier(ctx context.Context) error

	// Count is how many rows with this segment's name there are.
	Count(ctx context.Context, segment string) (uint64, error)

	// Each calls f with each row of this segment; of all, if it is "".
	Each(ctx context.Context, segment string, f func(ID)) error

	// Sums calls f with each line of the stream from seq up to end that is there,
	// and the CRC-32C of its bytes.
	Sums(ctx context.Context, sid string, seq, end uint64, f func(seq uint64, crc uint32)) error

	// Mark is the last one set, or "". It lies beside the rows, so that who
	// restores one restores both. SetMark is durable when it returns.
	Mark() (string, error)
	SetMark(mark string) error
}

// AsyncDatabase is a Database whose Barrier cannot bring rows to disk: it does so itself,
// some time after they were added. Segments wait for that, and later ones are
// added meanwhile.
type AsyncDatabase interface {
	// Final tells how long it takes until all rows of a segment, which was added as
	// a whole, are on disk, or 0 if they are. With ErrForgot the rows of every
	// segment are counted again. One goroutine calls it and the methods of Database.
	Final(ctx context.Context, segment string, rows uint64) (wait time.Duration, err error)
}

// Options of a Journal; the zero value is the default.
type Options struct {
	Limit   int64        // bytes that the journal may hold; 0: 1 GiB
	Reserve int64        // bytes that it leaves free on its file system; 0: 64 MiB
	Log     *slog.Logger // nil: nothing is logged

	// For tests.
	segment, step int64                       // bytes of a segment, and of its growth
	age           time.Duration               // of a segment, until it is sealed
	retry         time.Duration               // the longest pause after a failure
	recent        int                         // checksums in memory
	wrap          func(fileSystem) fileSystem // injects faults
}

func (o *Options) setDefaults() {
	o.Limit = cmp.Or(o.Limit, 1<<30)
	o.Reserve = cmp.Or(o.Reserve, 64<<20)
	o.segment = cmp.Or(o.segment, min(64<<20, o.Limit/4))
	o.step = cmp.Or(o.step, min(4<<20, o.segment))
	o.age = cmp.Or(o.age, time.Minute)
	o.retry = cmp.Or(o.retry, 5*time.Second)
	o.recent = cmp.Or(o.recent, recentLines)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.wrap == nil {
		o.wrap = func(f fileSystem) fileSystem { return f }
	}
}

// Journal is a receiver.Store in front of a database. Its methods may be called
// concurrently.
type Journal struct {
	path   string
	db     Database
	o      Options
	log    *slog.Logger
	dir    *osDir
	fs     fileSystem
	epoch  uint64
	recent recent

	queueing sync.Mutex // guards queue
	queue    []*request // requests that wait for writing

	writing sync.Mutex // held by the request that writes; guards the fields below, and comes before mu
	current *segment   // nil: the next group makes one
	last    segmentID  // the newest that has durable records,
	lastEnd int64      // where they end
	number  uint64     // the highest that a segment has had; read under mu, too
	closed  bool

	mu         sync.Mutex // guards the fields below, and those of segments and streams that say so
	segs       []*segment // those in use, in order
	streams    map[string]*stream
	lastStream uint32
	wasEmpty   bool   // by this process: there was no stream
	wanted     uint64 // segments up to this number are sealed and retired now
	emptying   bool   // so are all, for the journal is full
	failed     error  // of the applier; nil: it gets on
	closing    bool
	changed    chan struct{} // closed and replaced when a segment is retired, or the applier fails
	appliedAt  time.Time     // no record that waits was committed before
	stats      Stats
	restored   present // rows of a database that CHECKPOINT did not belong to; changed by the applier alone

	// Used by the applier alone once it runs.
	id, nextID string // of CHECKPOINT, and of the next one once the mark may have it
	gone       []goneSegment
	mark       mark // that the database has
	lastGone   string
	reserve    int64
	text       []byte // memory of lines that are added,
	window     []byte // and of what is read for them

	woken chan struct{} // the applier has something to do
	stop  context.CancelFunc
	done  chan struct{} // the applier has returned
}

var (
	_ receiver.Store  = (*Journal)(nil)
	_ receiver.Owners = (*Journal)(nil)
)

// Open opens the journal of a store, or creates it. dir is the store's directory,
// which the caller has locked and keeps open until Close has returned; path is
// where it is.
func Open(dir *os.File, path string, db Database, o Options) (*Journal, error) {
	o.setDefaults()
	d, err := openDir(dir, path)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	j := &Journal{
		path: path, db: db, o: o, log: o.Log, dir: d, fs: o.wrap(d), epoch: rand.Uint64(),
		recent:  recent{sums: make([]recentSum, o.recent)},
		streams: map[string]*stream{}, reserve: reserveSize,
		changed: make(chan struct{}), woken: make(chan struct{}, 1), done: make(chan struct{}),
	}
	var ctx context.Context
	ctx, j.stop = context.WithCancel(context.Background())
	if err := j.recover(ctx); err != nil {
		j.stop()
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), j.closeFiles())
	}
	j.wasEmpty = len(j.streams) == 0
	go j.run(ctx)
	j.nameLacks(ctx)
	return j, nil
}

// Describe implements receiver.Store.
func (j *Journal) Describe() (name, guarantee string) { return "logs", handshake.ExactlyOnce }

// closeTime is how long Close tries to bring what waits into the database.
const closeTime = 10 * time.Second

// Close implements receiver.Store. What the database does not take in a short
// time stays in the journal.
func (j *Journal) Close() error {
	j.writing.Lock()
	closed := j.closed
	j.closed = true
	j.writing.Unlock()
	if closed {
		return nil
	}
	j.mu.Lock()
	j.closing = true
	failed := j.failed != nil
	j.mu.Unlock()
	if _, async := j.db.(AsyncDatabase); !failed && !async { // that would take longer than anyone waits
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		_ = j.Wait(ctx) // what is left is no loss: the next Open continues with it
		cancel()
	}
	j.stop()
	<-j.done
	return j.closeFiles()
}

func (j *Journal) closeFiles() error {
	for _, s := range j.segs {
		_ = s.f.Close() // everything in it that counts is synced
	}
	return j.dir.Close()
}

// Wait returns when everything that was committed before is in the database and
// behind a barrier. It fails when the applier does.
func (j *Journal) Wait(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segs) == 0 {
		return nil
	}
	target := j.segs[len(j.segs)-1].id.number
	j.wanted = max(j.wanted, target)
	j.wake()
	for len(j.segs) > 0 && j.segs[0].id.number <= target {
		if j.failed != nil {
			return fmt.Errorf("journal %s: %w", j.path, j.failed)
		}
		changed := j.changed
		j.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-j.done:
			err = ErrClosed
		case <-ctx.Done():
			err = ctx.Err()
		}
		j.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready says why a Commit would fail now, as far as this can be known without a
// write; nil: nothing is known.
func (j *Journal) Ready() error {
	if err := j.fs.same(); err != nil {
		return err
	}
	free, err := j.fs.freeBytes()
	if err != nil {
		return err
	}
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	held := j.held()
	switch {
	case free < j.o.Reserve:
		return fmt.Errorf("%w: its file system has %d bytes left, of which %d are reserved", ErrFull, free, j.o.Reserve)
	case failed != nil && held > 0 && held+j.o.step > j.o.Limit: // else commits wait
		return j.reason(fmt.Errorf("%w: %d bytes wait for the database, and the limit is %d", ErrFull, held, j.o.Limit))
	}
	return nil
}

// wake has the applier look for work.
func (j *Journal) wake() {
	select {
	case j.woken <- struct{}{}:
	default:
	}
}

// requestEmptying has the applier empty the journal, for it is full.
func (j *Journal) requestEmptying() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.emptying = true
	j.wake()
}

// sealCurrent ends the segment that is written to. The caller holds writing.
func (j *Journal) sealCurrent() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current.sealed = true
	j.current = nil
	j.wake()
}

func (j *Journal) seal(s *segment) {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.current == s {
		j.sealCurrent()
	}
}

// held is how many bytes the segments take.
func (j *Journal) held() (n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segs {
		n += s.size
	}
	return n
}

// Stats are figures of the journal.
type Stats struct {
	Held       int64         // bytes that the segments take
	Waiting    int64         // bytes of records that the database does not have yet
	Lag        time.Duration // how long the oldest of these records has waited, or a little more
	Streams    int
	Checkpoint time.Time // the last one of this process
	Err        error     // why the applier does not get on; nil: it does
	Restored   int       // 1 if Open found that database and journal do not belong together
	Lacking    uint64    // lines that the database lost since they were committed
	Free       int64     // bytes that its file system has for us, the reserve included; -1: unknown
	Damaged    int64     // bytes of segments that could not be read
}

// Stats gives the figures of now.
func (j *Journal) Stats() Stats {
	free, err := j.fs.freeBytes()
	if err != nil {
		free = -1
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Free = free
	s.Streams, s.Err = len(j.streams), j.failed
	for _, seg := range j.segs {
		s.Held += seg.size
	}
	if s.Waiting = j.waitingLocked(); s.Waiting > 0 {
		s.Lag = time.Since(j.appliedAt)
	}
	for _, st := range j.streams {
		s.Lacking += st.Lacks.Count()
	}
	return s
}

func (j *Journal) waitingLocked() (n int64) {
	for _, s := range j.segs {
		n += s.end - s.applied
	}
	return n
}

// Durable gives the path of each segment in the store's directory, and up to where it is
// durable: what is below never changes.
func (j *Journal) Durable() map[string]int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	ends := map[string]int64{}
	for _, s := range j.segs {
		ends[s.path()] = s.end
	}
	return ends
}

// Streams gives what is known of each stream, in the order of their names.
func (j *Journal) Streams() []Stream {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.streamsLocked()
}

func (j *Journal) streamsLocked() []Stream {
	all := make([]Stream, 0, len(j.streams))
	for _, st := range j.streams {
		if s := st.Stream; !s.empty() {
			s.Lines, s.Gaps, s.Lacks = slices.Clone(s.Lines), slices.Clone(s.Gaps), slices.Clone(s.Lacks)
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Stream) int { return strings.Compare(a.SID, b.SID) })
	return all
}
