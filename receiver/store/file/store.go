// Package file is a [receiver.Store] that appends lines, verbatim, to a file,
// each once.
//
//	PATH          the lines of all senders, each with its newline
//	PATH.gaps     a JSON line for each gap, at least once
//	PATH.cursor   a journal: where PATH ends, which numbers of each stream are in
//	              it, and whose each stream is
//	PATH.lock     locked by the process that writes PATH
//	PATH.cut      what was cut off PATH when PATH.cursor was a copy
//
// # How a line is written once
//
//  1. A commit appends its lines to PATH and an entry to PATH.cursor, and syncs
//     both files at the same time. When both syncs are done, it is final.
//  2. The entry holds the checksum of what the commit appended. So the next start
//     knows whether the lines of the last entry are on the disk. If they are not,
//     nobody has a receipt for them, and the entry is dropped.
//  3. What stands in PATH after the last commit has no receipt and comes again.
//     It is cut off when a write fails, at Close, and at the next start. That
//     start finds the file by its content (or its inode), also if it has been
//     renamed within the directory, or copied to another disk together with
//     PATH.cursor.
//  4. A line that comes again is recognised by its number. Each stream has a list
//     of the numbers that were committed. Any other number is new.
//
// A sender whose queue was restored from an older copy uses numbers twice. The
// store notices this when a session begins with a smaller number than it has
// committed, or by the checksums of the newest 16,384 lines of the stream. The
// limit: if the queue did not notice the restore, and has since taken more lines
// than it had taken between the copy and the restore, then of its new lines those
// whose numbers are older than these 16,384 are taken for the old lines.
//
// PATH may be renamed at any time: the next commit starts a new file. A file that
// is moved out of the directory, or compressed, between a crash and the next
// start keeps what was written without a receipt; the same lines are then also in
// the new file. So does a file that was empty before the last commit, and that is
// copied and truncated, or renamed and copied, between the crash and the start.
package file

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"wsrelay/internal/fsutil"

	"golang.org/x/sys/unix"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Store is the store. Its methods may be called concurrently.
type Store struct {
	path string
	log  *slog.Logger

	queueMu sync.Mutex // guards queue
	queue   []*request // requests that wait for mu

	mu      sync.Mutex // guards the fields below
	lock    *os.File   // nil: the store is closed
	f       *os.File   // PATH
	last    proof      // of what is final in f
	journal journal
	streams map[string]*stream
	gaps    map[string]uint64 // where the last gap of each stream ends, by PATH.gaps
	w       *bufio.Writer     // to f
	copied  bool              // journal was a copy when the store was opened, and so is what stands beside it
	replace bool              // the journal could not be replaced: it must be before anything is appended
	failed  bool              // a commit failed: f and journal may hold a part of it
}

var (
	_ receiver.Store  = (*Store)(nil)
	_ receiver.Owners = (*Store)(nil)
)

// Options of a Store; the zero value is the default.
type Options struct {
	Log *slog.Logger // nil: no log
}

// Open opens the store at path, and creates it if there is none; the directory
// must exist. A second process gets an error.
func Open(path string, o Options) (*Store, error) {
	s := &Store{
		path:    path,
		log:     cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		journal: journal{path: path + ".cursor"},
		streams: make(map[string]*stream),
		gaps:    make(map[string]uint64),
		w:       bufio.NewWriterSize(nil, 64<<10),
	}
	var err error
	if s.lock, err = lockFile(path + ".lock"); err == nil {
		err = s.recover()
	}
	if err == nil {
		err = s.readGaps()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), s.close())
	}
	return s, nil
}

// Describe implements receiver.Store.
func (s *Store) Describe() (name, guarantee string) { return "file", handshake.ExactlyOnce }

// Ready implements receiver.Readier. It asks for the path alone: a commit that is
// under way may wait for the disk.
func (s *Store) Ready(context.Context) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.path, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: s.path, Err: err}
	}
	if fs.Blocks > 0 && fs.Bavail == 0 {
		return fmt.Errorf("the file system of %s is full", s.path)
	}
	if err := unix.Access(s.path, unix.W_OK); err != nil {
		return &os.PathError{Op: "write", Path: s.path, Err: err}
	}
	return nil
}

// Close implements receiver.Store. It leaves nothing in PATH that is not final.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil { // closed already
		return nil
	}
	return errors.Join(s.reset(closed), s.close())
}

func (s *Store) close() (err error) {
	for _, f := range []*os.File{s.f, s.journal.f, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	s.lock = nil
	return err
}

// Begin implements receiver.Store. If the sender has receipts for numbers that the store
// does not know of its stream, PATH and PATH.cursor were restored from an older copy.
func (s *Store) Begin(hello *handshake.Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[hello.SID]
	known := hello.Proof != nil && strings.HasPrefix(hello.Proof.UID, hello.SID) // a receipt
	switch {
	case st != nil:
		st.begin(hello.Head)
	case known:
		st = &stream{}
	default:
		return
	}
	if end := max(st.end(), s.gaps[hello.SID], 1); (known || st.end() > 0) && hello.Acked > end {
		receiver.LogLacks(s.log, hello, end)
		gap := receiver.LacksGap(hello.SID, hello.Host, end, hello.Acked)
		if err := s.writeGaps([]*receiver.Batch{&gap}); err != nil {
			s.log.Warn("missing lines not named", "sid", hello.SID, "err", err,
				"effect", s.path+".gaps does not have their numbers; the message before has",
				"hint", "see that the file can be written")
		}
	}
}

// Owner implements receiver.Owners.
func (s *Store) Owner(_ context.Context, sid string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner(sid), nil
}

func (s *Store) owner(sid string) string {
	if st := s.streams[sid]; st != nil {
		return st.owner
	}
	return ""
}

// SetOwner implements receiver.Owners.
func (s *Store) SetOwner(ctx context.Context, sid, from, to string) (string, error) {
	if err := s.do(&request{ctx: ctx, sid: sid, from: from, to: to}); err != nil {
		return "", err
	}
	return s.Owner(ctx, sid)
}

// Commit implements receiver.Store. Commits that wait while another is under way
// become final together, so that many senders need no more syncs than one.
func (s *Store) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	r := &request{ctx: ctx, batches: batches}
	err := s.do(r)
	return r.results, err
}

// request is one Commit, or one SetOwner.
type request struct {
	ctx           context.Context
	batches       []receiver.Batch
	sid, from, to string

	done    bool // the fields below are set; guarded by Store.mu
	results []receiver.Result
	err     error
}

// do has r done, together with all requests that wait.
func (s *Store) do(r *request) error {
	s.queueMu.Lock()
	s.queue = append(s.queue, r)
	s.queueMu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.done { // by another call
		s.queueMu.Lock()
		group := s.queue
		s.queue = nil
		s.queueMu.Unlock()
		s.commit(group)
	}
	return r.err
}

// commit does what the group asks for. A request that is refused does not harm
// the others.
func (s *Store) commit(group []*request) {
	var all pendingWrite
	err := s.repair()
	for _, r := range group {
		r.done, r.err = true, cmp.Or(r.ctx.Err(), err)
		if r.err == nil {
			r.err = all.add(s, r)
		}
	}
	if err = s.write(&all); err == nil {
		return
	}
	for _, r := range group {
		if r.err == nil {
			r.results, r.err = nil, err
		}
	}
}

// pendingWrite is what is to be written.
type pendingWrite struct {
	text   [][]byte // lines, with their newlines
	runs   []run    // of these lines
	gaps   []*receiver.Batch
	owners map[string]string // by sid
}

// add adds what r brings that is new. After an error there is nothing of it.
func (a *pendingWrite) add(s *Store, r *request) error {
	if r.sid != "" && s.owner(r.sid) == r.from && a.owners[r.sid] == "" {
		if a.owners == nil {
			a.owners = map[string]string{}
		}
		a.owners[r.sid] = r.to
	}
	before := *a
	r.results = make([]receiver.Result, len(r.batches))
	for i := range r.batches {
		b := &r.batches[i]
		if b.Gap != nil {
			a.gaps = append(a.gaps, b)
			r.results[i].New++
			continue
		}
		added, err := s.streams[b.SID].sort(b, a.lines)
		if err != nil {
			*a, r.results = before, nil
			return err
		}
		r.results[i] = receiver.Result{New: added, Dup: len(b.Lines) - added}
	}
	return nil
}

// lines adds the lines of b from one index up to another.
func (a *pendingWrite) lines(b *receiver.Batch, from, to int) {
	r := run{SID: b.SID, Seq: b.Seq + uint64(from), N: uint64(to - from), Sums: make(sums, 0, 4*(to-from))}
	for _, line := range b.Lines[from:to] {
		r.Sums = r.Sums.append(crc32.Checksum(line, castagnoli))
	}
	a.runs = append(a.runs, r)
	a.text = append(a.text, b.Text(from, to))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write makes a final.
func (s *Store) write(a *pendingWrite) error {
	err := s.writeGaps(a.gaps)
	if err != nil {
		return fmt.Errorf("write %s.gaps: %w", s.path, err)
	}
	if len(a.text) == 0 && len(a.owners) == 0 {
		return nil
	}
	e := entry{proof: s.last, Runs: a.runs, Owners: a.owners}
	if len(a.text) > 0 {
		e.proof, err = s.append(a.text)
	}
	synced := make(chan error, 1)
	go func() { synced <- s.f.Sync() }()
	if err == nil {
		err = s.journal.append(&e)
	}
	if err = errors.Join(err, <-synced); err != nil {
		s.failed = true
		if again := s.reset(open); again != nil { // the next commit tries again
			s.log.Debug("failed commit not undone yet", "path", s.path, "err", again)
		}
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.last = e.proof
	s.remember(&e)
	return nil
}

// append writes text to the end of PATH.
func (s *Store) append(text [][]byte) (proof, error) {
	p := s.last
	s.w.Reset(io.NewOffsetWriter(s.f, p.End))
	if p.End-p.Start > identifyWritten {
		p.Start, p.Sum = p.End, 0
	}
	for _, t := range text {
		p.End += int64(len(t))
		p.Sum = crc32.Update(p.Sum, castagnoli, t)
		_, _ = s.w.Write(t) // Flush reports the error
	}
	return p, s.w.Flush()
}

// gapLine is a line of PATH.gaps.
type gapLine struct {
	ID    string `json:"id"`
	SID   string `json:"sid"`
	Host  string `json:"host"`
	Seq   uint64 `json:"seq"`
	N     uint64 `json:"n"`
	Why   string `json:"why"`
	Maybe bool   `json:"maybe,omitempty"`
	At    string `json:"at"`
}

func (s *Store) writeGaps(gaps []*receiver.Batch) error {
	if len(gaps) == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path+".gaps", os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	to := json.NewEncoder(&text)
	for _, b := range gaps {
		g := b.Gap
		_ = to.Encode(gapLine{ // of strings and numbers, to memory
			ID: handshake.GapID(b.SID, g.Seq, g.N), SID: b.SID, Host: b.Host, Seq: g.Seq, N: g.N, Why: g.Why,
			Maybe: g.Maybe,
			At:    b.At.Format("2006-01-02T15:04:05.000Z07:00"),
		})
	}
	end, err := endLine(f)
	if err == nil {
		_, err = f.WriteAt(text.Bytes(), end)
	}
	if err = errors.Join(err, f.Sync(), f.Close(), fsutil.SyncDir(filepath.Dir(s.path))); err != nil {
		return err
	}
	for _, b := range gaps {
		s.gaps[b.SID] = max(s.gaps[b.SID], b.End())
	}
	return nil
}

// readGaps notes where the gaps end that PATH.gaps names; what is no gap is skipped.
func (s *Store) readGaps() error {
	text, err := os.ReadFile(s.path + ".gaps")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for line := range bytes.Lines(text) {
		var g gapLine
		if json.Unmarshal(line, &g) == nil {
			s.gaps[g.SID] = max(s.gaps[g.SID], g.Seq+g.N)
		}
	}
	return err
}

// remember notes what an entry says of streams.
func (s *Store) remember(e *entry) {
	for _, r := range e.Runs {
		s.stream(r.SID).add(r)
	}
	for sid, owner := range e.Owners {
		s.stream(sid).owner = owner
	}
}

func (s *Store) stream(sid string) *stream {
	st := s.streams[sid]
	if st == nil {
		st = &stream{fork: noFork}
		s.streams[sid] = st
	}
	return st
}

// EachOwner implements receiver.Owners.
func (s *Store) EachOwner(_ context.Context, f func(sid, owner string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sid := range slices.Sorted(maps.Keys(s.streams)) {
		if owner := s.owner(sid); owner != "" && !f(sid, owner) {
			break
		}
	}
	return nil
}

// EachOwner calls f with each stream of the store at path that has an owner. It
// takes no lock.
func EachOwner(path string, f func(sid, owner string) bool) error {
	entries, _, err := readJournal(path + ".cursor")
	s := &Store{streams: make(map[string]*stream)}
	for i := range entries {
		s.remember(&entry{Owners: entries[i].Owners})
	}
	return errors.Join(err, s.EachOwner(context.Background(), f))
}
