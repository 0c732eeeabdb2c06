package receiver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"wsrelay/handshake"
)

// File is a Store that appends lines, verbatim, to a file, once each.
//
//	PATH          the lines of all senders, each with its newline
//	PATH.gaps     a JSON line for each gap, at least once
//	PATH.cursor   where PATH ends, and the checksums of the newest lines
//	PATH.lock     held by the process that writes PATH
//
// A commit appends to PATH and syncs it, then appends to PATH.cursor and syncs
// that, and is final. At the next start PATH is cut back to what PATH.cursor
// says: what stands behind it has no receipt and will be sent again. So no
// crash loses or doubles a line. After an error in between, the next commit
// first does the same to a file that is open.
//
// A line that comes again is known by its number and checksum as long as it is
// among the newest 131,072 of its stream, more than a sender can have under way;
// what is older is written again. PATH may be renamed at any time: the next
// commit starts a new file.
type File struct {
	path string
	log  *slog.Logger
	lock *os.File

	mu      sync.Mutex // guards the fields below
	f       *os.File   // PATH
	inode   uint64
	end     int64 // bytes of f that are final
	journal journal
	streams map[string]*memory
	failed  bool // a commit did not get to its end: f and journal may hold a part of it
}

var _ Store = (*File)(nil)

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

// Commit implements Store.
func (s *File) Commit(ctx context.Context, batches []Batch) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.repair(); err != nil {
		return nil, err
	}
	c, err := s.plan(batches)
	if err != nil {
		return nil, err
	}
	if c.isEmpty() {
		return c.results, nil
	}
	s.failed = true // until the end below
	size, err := s.write(c)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := s.writeGaps(c.gaps); err != nil {
		return nil, fmt.Errorf("write %s.gaps: %w", s.path, err)
	}
	if err := s.journal.append(&entry{Inode: s.inode, End: s.end + size, Runs: c.runs}); err != nil {
		return nil, fmt.Errorf("write %s: %w", s.journal.path, err)
	}
	s.failed = false
	s.end += size
	s.remember(c.runs)
	return c.results, nil
}

// commit is what one Commit is going to write.
type commit struct {
	results []Result
	lines   [][]byte
	runs    []run // of lines
	gaps    []Batch
}

func (c *commit) isEmpty() bool { return len(c.lines) == 0 && len(c.gaps) == 0 }

// plan sorts out which lines are new.
func (s *File) plan(batches []Batch) (*commit, error) {
	c := &commit{results: make([]Result, len(batches))}
	for i, b := range batches {
		result := &c.results[i]
		if b.Gap != nil {
			c.gaps = append(c.gaps, b)
			result.New++
			continue
		}
		known := s.streams[b.SID]
		for k, line := range b.Lines {
			seq, sum := b.Seq+uint64(k), crc32.Checksum(line, castagnoli)
			if known != nil {
				if there, ok := known.lookUp(seq); ok {
					if there != sum {
						return nil, &DivergedError{SID: b.SID, Seq: seq}
					}
					result.Dup++
					continue
				}
			}
			result.New++
			c.add(b.SID, seq, sum, line)
		}
	}
	return c, nil
}

func (c *commit) add(sid string, seq uint64, sum uint32, line []byte) {
	c.lines = append(c.lines, line)
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].end() == seq {
		c.runs[last].CRCs = append(c.runs[last].CRCs, sum)
		return
	}
	c.runs = append(c.runs, run{SID: sid, Seq: seq, CRCs: crcs{sum}})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write appends the lines to PATH and syncs it.
func (s *File) write(c *commit) (size int64, err error) {
	if len(c.lines) == 0 {
		return 0, nil
	}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.f, s.end), 256<<10)
	for _, line := range c.lines {
		size += int64(len(line)) + 1
		_, _ = w.Write(line) // Flush says what went wrong
		_ = w.WriteByte('\n')
	}
	if err := w.Flush(); err != nil {
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
	f, err := os.OpenFile(s.path+".gaps", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
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
