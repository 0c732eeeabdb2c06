package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wsrelay/internal/fsutil"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/mergeset"
)

// damage quarantines what the library would not survive.
type damage struct {
	dir  string // damaged
	days string // database/partitions
	log  *slog.Logger

	dayUnknown bool // data of some day cannot be read
}

const (
	notePrefix = "note-"
	someIndex  = "indexdb" // of which day is unknown
	someDay    = "day"     // which one is unknown
)

// note says durably that a day, its index or one of its parts is damaged. It is
// called when the process is about to end.
func (d *damage) note(what string) error {
	return fsutil.ReplaceFile(filepath.Join(d.dir, notePrefix+strings.ReplaceAll(what, "/", "-")), []byte(what))
}

// repair prepares the partitions for the library. It quarantines what a note names
// or what is plainly damaged, and lets the library's list of parts name only parts
// that are there.
func (d *damage) repair() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), notePrefix) {
			continue
		}
		what, err := os.ReadFile(filepath.Join(d.dir, e.Name()))
		if err != nil {
			return err
		}
		switch {
		case string(what) == someIndex:
			err = d.probeIndexes()
		case string(what) == someDay: // the note stays until all days have been read
			d.dayUnknown = true
			continue
		case partitionPath.FindString("partitions/"+string(what)) == "partitions/"+string(what):
			err = d.quarantine(string(what), "the database could not read it")
		}
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(d.dir, e.Name())); err != nil {
			return err
		}
	}
	entries, err = os.ReadDir(d.days)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.check(e); err != nil {
			return fmt.Errorf("check %s: %w", e.Name(), err)
		}
	}
	return errors.Join(fsutil.SyncDir(d.days), fsutil.SyncDir(d.dir))
}

// check looks at one entry of the partitions, and at each part that its list names.
func (d *damage) check(e fs.DirEntry) error {
	day := e.Name()
	if strings.HasPrefix(day, ".") {
		return nil
	}
	if t, err := time.Parse(dayFormat, day); err != nil || !e.IsDir() || t.Format(dayFormat) != day {
		return d.quarantine(day, "it is not a day")
	}
	// A kill may have interrupted a barrier, and left its snapshots.
	if err := os.RemoveAll(filepath.Join(d.days, day, "snapshots")); err != nil {
		return err
	}
	data := filepath.Join(d.days, day, "datadb")
	parts, err := readParts(data)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a day that was being made, or it has lost its list
		if dirs, _ := filepath.Glob(filepath.Join(data, "*", "metadata.json")); len(dirs) > 0 {
			return d.quarantine(day, "its list of parts is missing")
		}
	case err != nil:
		return d.quarantine(day, "its list of parts is damaged")
	}
	good := make([]string, 0, len(parts))
	for _, part := range parts {
		reason := checkPart(filepath.Join(data, part))
		if reason == "" {
			good = append(good, part)
			continue
		}
		if err := d.quarantine(day+"/datadb/"+part, reason); err != nil {
			return err
		}
	}
	if len(good) < len(parts) {
		list, _ := json.Marshal(good)
		if err := fsutil.ReplaceFile(filepath.Join(data, "parts.json"), list); err != nil {
			return err
		}
	}
	return d.checkIndex(day)
}

// checkIndex makes an empty index in place of a damaged one: of the lines of the
// day only their streams are lost then.
func (d *damage) checkIndex(day string) error {
	index := filepath.Join(d.days, day, "indexdb")
	parts, err := readParts(index)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if dirs, _ := filepath.Glob(filepath.Join(index, "*", "metadata.json")); len(dirs) > 0 {
			err = d.quarantine(day+"/indexdb", "its list of parts is missing")
		} else {
			err = nil
		}
	case err != nil:
		err = d.quarantine(day+"/indexdb", "its list of parts is damaged")
	}
	for _, part := range parts {
		for _, name := range []string{"metadata.json", "metaindex.bin", "index.bin", "items.bin", "lens.bin"} {
			if info, statErr := os.Stat(filepath.Join(index, part, name)); err == nil &&
				(statErr != nil || info.Size() == 0 && name != "lens.bin" && name != "items.bin") {
				err = d.quarantine(day+"/indexdb", name+" of a part is missing or empty")
			}
		}
		if _, statErr := os.Stat(index); statErr != nil {
			break
		}
	}
	if err == nil {
		err = os.MkdirAll(index, 0o700)
	}
	return err
}

// probeIndexes reads the index of each day: the library has complained about one and
// did not say which.
func (d *damage) probeIndexes() error {
	entries, err := os.ReadDir(d.days)
	for _, e := range entries {
		path := filepath.Join(d.days, e.Name(), "indexdb")
		if _, statErr := os.Stat(filepath.Join(path, "parts.json")); statErr == nil && readIndex(path) != nil {
			err = errors.Join(err, d.quarantine(e.Name()+"/indexdb", "the database could not read it"))
		}
	}
	return err
}

func readIndex(path string) error {
	var still atomic.Bool
	still.Store(true) // nothing is merged
	table := mergeset.MustOpenTable(path, time.Hour, nil, 0, nil, &still)
	defer table.MustClose()
	var items mergeset.TableSearch
	items.Init(table, false)
	defer items.MustClose()
	for items.Seek(nil); items.NextItem(); {
		continue
	}
	if err := items.Error(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// checkPart gives the reason why the library could not work with a part; empty:
// none is seen. It compares sizes, which finds files that were cut or are missing.
func checkPart(path string) string {
	head, err := readHead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "it is missing"
	}
	if err != nil {
		return "its description is damaged"
	}
	files, err := os.ReadDir(path)
	if err != nil {
		return "it cannot be listed"
	}
	size := uint64(0)
	for _, f := range files {
		if info, err := f.Info(); err == nil && f.Name() != "metadata.json" {
			size += uint64(info.Size())
		}
	}
	if size != head.CompressedSizeBytes {
		return fmt.Sprintf("its files have %d bytes instead of %d", size, head.CompressedSizeBytes)
	}
	return ""
}

// partHead is what we read of the library's description of a part.
type partHead struct{ CompressedSizeBytes, RowsCount uint64 }

func readHead(part string) (h partHead, err error) {
	b, err := os.ReadFile(filepath.Join(part, "metadata.json"))
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	return h, err
}

func readParts(dir string) (parts []string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "parts.json"))
	if err == nil {
		err = json.Unmarshal(b, &parts)
	}
	return parts, err
}

// quarantine moves a day, an index or a part into the folder damaged, and says so.
func (d *damage) quarantine(what, reason string) error {
	from := filepath.Join(d.days, filepath.FromSlash(what))
	to := filepath.Join(d.dir, strings.ReplaceAll(what, "/", "-"))
	for i := 2; ; i++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = filepath.Join(d.dir, strings.ReplaceAll(what, "/", "-")+"."+strconv.Itoa(i))
	}
	day, _, _ := strings.Cut(what, "/")
	lines := any("unknown")
	if head, err := readHead(from); err == nil {
		lines = head.RowsCount
	}
	err := os.Rename(from, to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("quarantine damaged %s: %w", what, err)
	}
	effect := "these lines are missing from searches; those that are still in the journal come back"
	if strings.HasSuffix(what, "/indexdb") {
		effect = "the lines of this day are there, but a search by _stream does not find them"
	}
	d.log.Error("damaged data was quarantined", "day", day, "what", what, "reason", reason, "lines", lines,
		"to", "damaged/"+filepath.Base(to),
		"effect", effect, "hint", "check the disk; restore the day from a backup if you have one")
	return nil
}

// list names what lies in the folder damaged.
func (d *damage) list() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), notePrefix) && !strings.HasPrefix(e.Name(), crashFile) &&
			e.Name() != probeFile {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}
