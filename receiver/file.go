package receiver

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"wsrelay/handshake"
)

// File is a Store that appends lines, verbatim, to a file, once each.
//
//	PATH          the lines of all senders, each with its newline
//	PATH.gaps     a JSON line for each gap, at least once
//	PATH.cursor   where PATH ends, and each stream, with the checksums of its newest lines
//	PATH.lock     held by the process that writes PATH
//
// A commit appends to PATH and syncs it, then appends to PATH.cursor and syncs
// that, and is final. At the next start PATH is cut back to what PATH.cursor
// says: what stands behind it has no receipt and will be sent again. So no
// crash loses or doubles a line. After an error in between, the next commit
// first does the same to a file that is open.
//
// A line that comes again is known by its number: each stream is committed in
// order, so what is below the number that it goes on with is in PATH. A sender
// whose queue was restored from an older copy uses numbers twice. It is found out
// when its session begins, if it has given fewer numbers than are committed, or
// else by the checksums of the stream's newest 16,384 lines. The limit: a queue
// that did not notice by itself that it was restored, and that has taken up more
// lines before its next session than there had been since the copy: of its new
// lines, those under numbers older than these 16,384 are taken for the ones that
// are there.
//
// PATH may be renamed at any time: the next commit starts a new file.
type File struct {
	path string
	log  *slog.Logger
	lock *os.File

	queueMu sync.Mutex // guards queue
	queue   []*request // Commits that wait for mu

	mu      sync.Mutex // guards the fields below
	f       *os.File   // PATH
	inode   uint64
	end     int64 // bytes of f that are final
	journal journal
	streams map[string]*memory
	w       *bufio.Writer // to f
	failed  bool          // a commit did not get to its end: f and journal may hold a part of it
}

var (
	_ Store    = (*File)(nil)
	_ beginner = (*File)(nil)
)

// FileOptions of a File; the zero value is the default.
type FileOptions struct {
	Log *slog.Logger // nil: no log
}

// OpenFile opens the store at path, and creates it if there is none; the
// directory must exist. A second process gets an error.
func OpenFile(path string, o FileOptions) (*File, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &File{
		path:    path,
		log:     o.Log,
		journal: journal{path: path + ".cursor"},
		streams: make(map[string]*memory),
		w:       bufio.NewWriterSize(nil, 64<<10),
	}
	var err error
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Describe implements Store.
func (s *File) Describe() (name, guarantee string) { return "file", handshake.ExactlyOnce }

// Close implements Store.
func (s *File) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.f != nil {
		err = s.f.Close()
	}
	return errors.Join(err, s.journal.close(), s.lock.Close())
}

// Begin is told of a session that begins to commit, and of the number from which
// on its sender has given none.
func (s *File) Begin(sid string, head uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.streams[sid]; m != nil {
		m.begin(head)
	}
}

// Commit implements Store. Commits that wait while another is under way become
// final together, so that many senders need no more syncs than one.
func (s *File) Commit(ctx context.Context, batches []Batch) ([]Result, error) {
	r := &request{ctx: ctx, batches: batches}
	s.queueMu.Lock()
	s.queue = append(s.queue, r)
	s.queueMu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.done { // by another Commit
		s.queueMu.Lock()
		group := s.queue
		s.queue = nil
		s.queueMu.Unlock()
		s.commit(group)
	}
	return r.results, r.err
}

// request is one Commit.
type request struct {
	ctx     context.Context
	batches []Batch

	done    bool // the fields below are set; guarded by File.mu
	results []Result
	err     error
}

// commit does what the group asks for. A request that is refused does not harm
// the others.
func (s *File) commit(group []*request) {
	var all addition
	err := s.repair()
	for _, r := range group {
		r.done, r.err = true, cmp.Or(r.ctx.Err(), err)
		if r.err == nil {
			var own addition
			own, r.results, r.err = s.plan(r.batches)
			all.join(own)
		}
	}
	if err = s.add(&all); err == nil {
		return
	}
	for _, r := range group {
		if r.err == nil {
			r.results, r.err = nil, err
		}
	}
}

// addition is what is to be written.
type addition struct {
	text [][]byte // lines, with their newlines
	runs []run    // of these lines
	gaps []Batch
}

func (a *addition) join(b addition) {
	a.text = append(a.text, b.text...)
	a.runs = append(a.runs, b.runs...)
	a.gaps = append(a.gaps, b.gaps...)
}

// plan sorts out which lines of a stream are new. With an error there is nothing
// to add.
func (s *File) plan(batches []Batch) (a addition, results []Result, err error) {
	results = make([]Result, len(batches))
	for i := range batches {
		b := &batches[i]
		if b.Gap != nil {
			a.gaps = append(a.gaps, *b)
			results[i].New++
			continue
		}
		known := s.streams[b.SID]
		for k, line := range b.Lines {
			seq := b.Seq + uint64(k)
			old, same := known.recall(seq, line)
			if !old { // nor is any behind it
				break
			}
			if !same {
				return addition{}, nil, &DivergedError{SID: b.SID, Seq: seq}
			}
			results[i].Dup++
		}
		a.addLines(b, results[i].Dup)
		results[i].New = len(b.Lines) - results[i].Dup
	}
	return a, results, nil
}

// addLines adds the lines of b from the one with the index from on.
func (a *addition) addLines(b *Batch, from int) {
	if from == len(b.Lines) {
		return
	}
	seq, last := b.Seq+uint64(from), len(a.runs)-1
	if last < 0 || a.runs[last].end() != seq {
		a.runs = append(a.runs, run{SID: b.SID, Seq: seq})
		last++
	}
	sums := slices.Grow(a.runs[last].CRCs, len(b.Lines)-from)
	for _, line := range b.Lines[from:] {
		sums = append(sums, crc32.Checksum(line, castagnoli))
	}
	a.runs[last].CRCs = sums
	a.text = append(a.text, b.textOf(from))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// add makes a final.
func (s *File) add(a *addition) error {
	if len(a.text) == 0 && len(a.gaps) == 0 {
		return nil
	}
	s.failed = true // until the end below
	size, err := s.write(a.text)
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := s.writeGaps(a.gaps); err != nil {
		return fmt.Errorf("write %s.gaps: %w", s.path, err)
	}
	if err := s.journal.append(&entry{Inode: s.inode, End: s.end + size, Runs: a.runs}); err != nil {
		return fmt.Errorf("write %s: %w", s.journal.path, err)
	}
	s.failed = false
	s.end += size
	s.remember(a.runs)
	return nil
}

// write appends text to PATH and syncs it.
func (s *File) write(text [][]byte) (size int64, err error) {
	if len(text) == 0 {
		return 0, nil
	}
	s.w.Reset(io.NewOffsetWriter(s.f, s.end))
	for _, t := range text {
		size += int64(len(t))
		_, _ = s.w.Write(t) // Flush says what went wrong
	}
	if err := s.w.Flush(); err != nil {
		return 0, err
	}
	return size, s.f.Sync()
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

func (s *File) writeGaps(gaps []Batch) error {
	if len(gaps) == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path+".gaps", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	whole, err := endsLine(f)
	if err == nil && !whole {
		_, err = f.Write(newline)
	}
	to := json.NewEncoder(f)
	for _, b := range gaps {
		g := b.Gap
		err = errors.Join(err, to.Encode(gapLine{
			ID: b.firstUID(), SID: b.SID, Host: b.Host, Seq: g.Seq, N: g.N, Why: g.Why, Maybe: g.Maybe,
			At: b.At.Format("2006-01-02T15:04:05.000Z07:00"),
		}))
	}
	return errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(s.path)))
}

func (s *File) remember(runs []run) {
	for _, r := range runs {
		m := s.streams[r.SID]
		if m == nil {
			m = new(memory)
			s.streams[r.SID] = m
		}
		m.add(r)
	}
}

// lockFile takes the lock that path stands for and writes our pid into it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("%w by pid %s", ErrLocked, strings.TrimSpace(string(pid)))
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ErrLocked says that another process writes the same file.
var ErrLocked = errors.New("locked")
