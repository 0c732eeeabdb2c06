package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"wsrelay/internal/fsutil"

	"golang.org/x/sys/unix"
)

// recover brings PATH and the journal to the state of the last commit that was
// final.
func (s *Store) recover() error {
	entries, damaged, err := readJournal(s.journal.path)
	if err != nil {
		return err
	}
	if damaged {
		s.log.Error("cursor file damaged", "path", s.journal.path,
			"effect", "no line is lost; lines that were under way when the receiver stopped may be in the file twice",
			"hint", "check the disk")
	}
	if len(entries) > 0 {
		info, err := os.Stat(s.journal.path)
		if err != nil {
			return err
		}
		s.copied = inode(info) != entries[0].Self
	}
	if entries, err = s.recoverTail(entries); err != nil {
		return err
	}
	for i := range entries {
		s.remember(&entries[i])
	}
	if err := s.openPath(); err != nil {
		return err
	}
	return s.checkpoint(open)
}

// recoverTail gives the entries up to the last one whose lines are in PATH, whatever
// its name is by now, and cuts PATH behind them.
func (s *Store) recoverTail(entries []entry) ([]entry, error) {
	n := len(entries)
	if n == 0 || entries[n-1].State == closed {
		return entries, nil
	}
	for ; n > 0 && len(entries)-n < 2; n-- {
		if found, err := s.cut(&entries[n-1].proof); found || err != nil {
			return entries[:n], err
		}
		if entries[n-1].State != appended { // its lines are on the disk, and not here
			break
		}
	}
	s.log.Warn("log file not found", "path", s.path,
		"effect", "no line is lost; lines that were under way when the receiver stopped may be both in the file that was moved and in the new one",
		"hint", "after a crash, leave the log file in its directory until the receiver has started again")
	return entries[:max(n, len(entries)-1)], nil
}

// cut finds the file of p: PATH, or one of its directory that has its inode, or
// whose name begins like it. It takes away what stands behind the lines of p.
func (s *Store) cut(p *proof) (found bool, err error) {
	if found, err = s.cutFile(s.path, p, s.copied); found || err != nil {
		return found, err
	}
	dir := filepath.Dir(s.path)
	all, err := os.ReadDir(dir)
	var others []os.FileInfo
	for _, o := range all {
		info, gone := o.Info()
		if gone == nil && info.Mode().IsRegular() && (strings.HasPrefix(o.Name(), filepath.Base(s.path)) ||
			inode(info) == p.Inode) {
			others = append(others, info)
		}
	}
	// Older files may begin with the same lines.
	slices.SortFunc(others, func(a, b os.FileInfo) int {
		if (inode(a) == p.Inode) != (inode(b) == p.Inode) {
			if inode(a) == p.Inode {
				return -1
			}
			return +1
		}
		return b.ModTime().Compare(a.ModTime())
	})
	for _, o := range others {
		if found, err = s.cutFile(filepath.Join(dir, o.Name()), p, false); found || err != nil {
			break
		}
	}
	return found, err
}

// cutFile does for one file what cut does. The file must have the content that p proves.
// If that is empty, it must be the same file, or a copy with the same name.
func (s *Store) cutFile(name string, p *proof, copied bool) (found bool, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, nil // it is gone, or none of ours
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || info.Size() < p.End || p.Start == p.End && !copied &&
		(inode(info) != p.Inode || born(f) != p.Born) {
		return false, err
	}
	if sum, err := sumOf(f, p.Start, p.End); err != nil || sum != p.Sum {
		return false, err
	}
	if copied && info.Size() > p.End {
		if err := s.keepTail(io.NewSectionReader(f, p.End, info.Size()-p.End)); err != nil {
			return false, err
		}
	}
	return true, errors.Join(f.Truncate(p.End), f.Sync())
}

// keepTail keeps what is cut off PATH by a cursor file that is a copy: an older one may
// have been restored alone, and then these lines have receipts.
func (s *Store) keepTail(tail *io.SectionReader) error {
	name := s.path + ".cut"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, tail)
	if err = errors.Join(err, f.Sync(), f.Close(), fsutil.SyncDir(filepath.Dir(name))); err != nil {
		return fmt.Errorf("keep the end of %s: %w", s.path, err)
	}
	s.log.Warn("lines behind the cursor moved", "path", s.path, "to", name, "bytes", tail.Size(),
		"effect", "lines without a receipt come again from their senders; if an older cursor file was restored alone, lines that do not come again are in "+name+" only",
		"hint", "restore the log file and its .cursor together; append what is missing while the receiver is stopped")
	return nil
}

// openPath opens PATH, or starts it, and takes all that it holds for final.
func (s *Store) openPath() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	p, err := readProof(f)
	if err == nil {
		err = fsutil.SyncDir(filepath.Dir(s.path)) // its name must be as durable as its lines
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if s.f != nil {
		_ = s.f.Close() // synced with every commit
	}
	s.f, s.last = f, p
	return nil
}

// How much of a file serves to recognise it: from where on when it is opened, and
// how much is written before that starts again. The more it is, the surer that no
// other file is cut.
const (
	identifyOpened  = 64 << 10
	identifyWritten = 64 << 20
)

// readProof gives the proof of a file, all of which is final.
func readProof(f *os.File) (p proof, err error) {
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	p.Inode, p.Born = inode(info), born(f)
	if p.End, err = endLine(f); err != nil {
		return p, err
	}
	p.Start = max(0, p.End-identifyOpened)
	p.Sum, err = sumOf(f, p.Start, p.End)
	return p, err
}

// endLine gives the size of a file, after it has ended a last line that another program
// left without its newline.
func endLine(f *os.File) (end int64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	end = info.Size()
	var last [1]byte
	if _, err = f.ReadAt(last[:], end-1); err != nil || last[0] == '\n' {
		return end, err
	}
	if _, err = f.WriteAt(newline, end); err != nil {
		return end, err
	}
	return end + 1, f.Sync()
}

// reset takes away what a commit that failed has left, in PATH and in the journal.
// Which of both goes first does not matter: an entry whose lines are cut off
// proves nothing.
func (s *Store) reset(as state) error {
	if s.failed {
		info, err := s.f.Stat()
		if err == nil && info.Size() > s.last.End { // else another program has cut it meanwhile
			err = errors.Join(s.f.Truncate(s.last.End), s.f.Sync())
		}
		if err != nil {
			return err
		}
	}
	err := s.checkpoint(as)
	s.failed = s.failed && err != nil
	return err
}

// repair prepares for a commit: it takes away the rest of one that failed,
// shortens a long journal, and follows a PATH, or a lock, that another program has
// renamed or removed.
func (s *Store) repair() error {
	if err := s.holdLock(); err != nil {
		return err
	}
	if s.failed || s.replace || s.journal.isLong() {
		if err := s.reset(open); err != nil {
			return err
		}
	}
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && inode(info) != s.last.Inode:
		s.logMoved("the file that was written has another name now")
	case err != nil:
		return err
	case info.Size() != s.last.End:
		s.logMoved(fmt.Sprintf("it has %d bytes and had %d", info.Size(), s.last.End))
	default:
		return nil
	}
	if err := s.openPath(); err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	return s.checkpoint(open)
}

func (s *Store) logMoved(what string) {
	s.log.Info("log file was rotated or replaced", "path", s.path, "found", what,
		"effect", "new lines go to the file that is there now; nothing in it is touched")
}

// checkpoint makes the journal say what is in memory, and no more.
func (s *Store) checkpoint(as state) error {
	entries := []entry{{proof: s.last, State: as}}
	for sid, st := range s.streams {
		e := entry{proof: s.last, State: as, Runs: st.runs}
		for i := range st.runs {
			st.runs[i].SID = sid
		}
		if st.owner != "" {
			e.Owners = map[string]string{sid: st.owner}
		}
		entries = append(entries, e)
	}
	if err := s.journal.replace(entries); err != nil {
		s.replace = true // it may have its name already: nothing may be appended to the one that it replaced
		return fmt.Errorf("replace %s: %w", s.journal.path, err)
	}
	s.replace = false
	return nil
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// born tells when an inode was made: its number is used again when it is free.
func born(f *os.File) int64 {
	var at unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &at); err != nil {
		return 0
	}
	return at.Btime.Sec*1e9 + int64(at.Btime.Nsec)
}
