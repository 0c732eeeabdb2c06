package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wsrelay/internal/fsutil"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The library can end the process over damaged data and not say which: by a message
// without a path, or by a panic of Go's in a goroutine of its own. The latter's
// trace goes to a file, which tells it apart from a kill. The next Open reads one
// day after the other, with a note of which, so that the one that ends the process
// again is known and quarantined: as many starts as there are such days, and one.
const (
	crashFile = "crash"   // in the folder damaged: the trace of a panic
	probeFile = "reading" // in the folder damaged: the day that is read
)

// libraryFrames stand in the trace of a panic in the library.
const libraryFrames = "github.com/VictoriaMetrics/"

// noDamage is how the trace begins of what a signal or a lack of memory ended.
var noDamage = regexp.MustCompile(`(?m)\ASIG|^fatal error: .*(?:out of memory|cannot allocate memory|stack overflow)`)

// findCrash looks whether a panic of the library ended the last process, and has
// the trace of the next one written. A trace is kept, once, for a report.
func (d *damage) findCrash() error {
	path := filepath.Join(d.dir, crashFile)
	trace, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !noDamage.Match(trace) && strings.Contains(string(trace), libraryFrames) {
		d.log.Error("the log database ended the last process", "trace", "damaged/"+crashFile+".last",
			"effect", "no acknowledged line is lost; each day is read now, and one that cannot be is moved into the folder damaged",
			"hint", "check the disk; report the trace")
		if err := os.Rename(path, path+".last"); err != nil {
			return err
		}
		if err := d.blame(); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(d.dir, probeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close())
}

// blame notes what ended the process: the day that was being read, else some day.
func (d *damage) blame() error {
	what := someDay
	if day, err := os.ReadFile(filepath.Join(d.dir, probeFile)); err == nil &&
		partitionPath.MatchString("partitions/"+string(day)) {
		what = string(day)
		if err := os.Remove(filepath.Join(d.dir, probeFile)); err != nil {
			return err
		}
	}
	return d.note(what)
}

// probe reads every day if one of them is damaged and it is not known which.
func (s *Store) probe() error {
	if !s.damage.dayUnknown {
		return nil
	}
	days, err := s.library.days()
	if err != nil {
		return err
	}
	s.log.Warn("every day of the log database is read", "days", len(days),
		"effect", "lines are taken when that is done", "hint", "wait: a day that cannot be read is quarantined by the next start")
	slices.Sort(days)
	for _, day := range days {
		if err := fsutil.ReplaceFile(filepath.Join(s.damage.dir, probeFile), []byte(day)); err != nil {
			return err
		}
		if err := s.readDay(day); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(s.damage.dir, probeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of no day
		return err
	}
	return errors.Join(
		os.Remove(filepath.Join(s.damage.dir, notePrefix+someDay)))
}

// readDay reads every value of a day.
func (s *Store) readDay(day string) error {
	from, err := time.Parse(dayFormat, day)
	if err != nil {
		return err
	}
	var bytes atomic.Int64 // so that nothing is left out
	read := func(b *logstorage.DataBlock) error {
		for _, c := range b.GetColumns(false) {
			for _, v := range c.Values {
				bytes.Add(int64(len(v)))
			}
		}
		return nil
	}
	day = "_time:" + from.Format("2006-01-02") + "Z"
	return errors.Join(s.library.query(context.Background(), day, read),
		s.library.query(context.Background(), day+" | delete _stream, _stream_id", read)) // or rows without an index are not read
}
