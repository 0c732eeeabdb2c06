package receiver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// recover brings PATH and the journal to the state of the last commit that was
// final.
func (s *File) recover() error {
	entries, damaged, err := readJournal(s.journal.path)
	if err != nil {
		return err
	}
	if damaged > 0 {
		s.log.Error("cursor file damaged", "path", s.journal.path, "entries", damaged,
			"effect", "no line is lost; lines that were on their way when the receiver stopped may stand in the file twice",
			"hint", "check the disk")
	}
	for _, e := range entries {
		s.remember(e.Runs)
	}
	if err := s.openPath(); err != nil {
		return err
	}
	if len(entries) > 0 {
		last := entries[len(entries)-1]
		if err := s.resume(last); err != nil {
			return err
		}
	}
	return s.checkpoint()
}

// openPath opens PATH, or starts it, and takes all that it holds for final.
func (s *File) openPath() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", s.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path)) // its name must be as durable as its lines
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if s.f != nil {
		_ = s.f.Close() // synced with every commit
	}
	s.f, s.inode, s.end = f, inode(info), info.Size()
	return s.endLine()
}

// endLine ends a last line that somebody else left without its newline.
func (s *File) endLine() error {
	if whole, err := endsLine(s.f); whole || err != nil {
		return err
	}
	if _, err := s.f.WriteAt(newline, s.end); err != nil {
		return err
	}
	s.end++
	return s.f.Sync()
}

// endsLine reports whether a file has nothing behind its last newline.
func endsLine(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err == nil, err
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return last[0] == '\n', err
}

// resume goes on where the last commit ended. PATH is cut only if it is the
// file that was written then, and only what stands behind that end.
func (s *File) resume(last entry) error {
	switch {
	case s.inode != last.Inode:
		s.logMoved("another file is there now")
		return nil
	case s.end < last.End:
		s.logMoved(fmt.Sprintf("it has %d bytes and had %d", s.end, last.End))
		return nil
	}
	s.end = last.End
	return s.cut()
}

// cut takes away what stands in PATH behind the last commit.
func (s *File) cut() error {
	if err := s.f.Truncate(s.end); err != nil {
		return err
	}
	return s.f.Sync()
}

func (s *File) logMoved(what string) {
	s.log.Info("log file was rotated or replaced", "path", s.path, "found", what,
		"effect", "new lines go to the file that is there now; nothing in it is touched")
}

// repair prepares for a commit: it takes away the rest of one that failed,
// shortens a long journal, and follows a PATH that somebody else has renamed,
// cut or extended.
func (s *File) repair() error {
	if s.failed || s.journal.isLong() {
		if err := s.checkpoint(); err != nil {
			return err
		}
		if err := s.cut(); err != nil {
			return fmt.Errorf("truncate %s: %w", s.path, err)
		}
		s.failed = false
	}
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && inode(info) != s.inode:
		s.logMoved("the file that was written has another name now")
	case err != nil:
		return err
	case info.Size() != s.end:
		s.logMoved(fmt.Sprintf("it has %d bytes and had %d", info.Size(), s.end))
	default:
		return nil
	}
	if err := s.openPath(); err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	return s.checkpoint()
}

// checkpoint makes the journal say what is in memory, and no more. It stands
// before any cut: were the journal to name a line that is cut away, that line
// would be taken for stored when it comes again.
func (s *File) checkpoint() error {
	entries := []entry{{Inode: s.inode, End: s.end}}
	for sid, m := range s.streams {
		runs := make([]run, len(m.runs))
		for i, r := range m.runs {
			runs[i] = run{SID: sid, Seq: r.Seq, CRCs: r.CRCs}
		}
		entries = append(entries, entry{Inode: s.inode, End: s.end, Runs: runs})
	}
	if err := s.journal.replace(entries); err != nil {
		return fmt.Errorf("replace %s: %w", s.journal.path, err)
	}
	return nil
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
