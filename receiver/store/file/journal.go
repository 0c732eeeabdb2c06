package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"wsrelay/internal/fsutil"

	"wsrelay/handshake"
)

// entry is a line of PATH.cursor: the state of PATH after one commit, and what
// that commit added. On disk it is the CRC-32C of its JSON, a blank, the JSON.
//
// A commit appends one entry. When the journal has grown, it is replaced, by
// rename, with a header and an entry for each stream that say the same.
type entry struct {
	proof
	State  state             `json:"state,omitempty"`
	Self   uint64            `json:"self,omitempty"` // inode of the journal that begins with this entry
	Runs   []run             `json:"runs,omitempty"`
	Owners map[string]string `json:"owners,omitempty"`
}

// proof shows which file is PATH, and that the lines of a commit are in it.
type proof struct {
	Inode uint64 `json:"inode"` // of PATH
	Born  int64  `json:"born"`  // when that inode was made, Unix ns; 0: the file system does not say
	Start int64  `json:"start"` // from where on
	End   int64  `json:"end"`   // up to where PATH, all of it final,
	Sum   uint32 `json:"sum"`   // has this CRC-32C
}

// state tells what an entry proves.
type state string

const (
	appended state = ""       // by a commit: its lines may not have reached the disk
	open     state = "open"   // of a journal that replaced another: its lines are on disk
	closed   state = "closed" // the same, and nothing was written after it
)

func (e *entry) encode() []byte {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of numbers, bytes and strings
	}
	return slices.Concat([]byte(handshake.CRC(body)+" "), body, newline)
}

func decodeEntry(line []byte) (e entry, ok bool) {
	sum, body, _ := bytes.Cut(line, []byte{' '})
	if string(sum) != handshake.CRC(body) || json.Unmarshal(body, &e) != nil || e.Start < 0 || e.End < e.Start {
		return entry{}, false
	}
	for _, r := range e.Runs {
		if len(r.Sums)%4 != 0 || r.Sums.len() > r.N || r.N == 0 || r.end() < r.Seq {
			return entry{}, false
		}
	}
	return e, true
}

// readJournal gives the entries of the journal at path, none if there is no
// such file. A line that is not whole is skipped. At the end it is a commit that
// a crash cut short, for which nobody has a receipt. Elsewhere it is damage:
// later entries still say where PATH ends, and only the numbers of that commit
// are forgotten.
func readJournal(path string) (entries []entry, damaged bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	torn := false
	for line := range bytes.Lines(data) {
		damaged = damaged || torn
		e, ok := decodeEntry(bytes.TrimSuffix(line, newline))
		if torn = !ok; ok {
			entries = append(entries, e)
		}
	}
	return entries, damaged || torn && len(entries) == 0, nil // a journal starts with an entry, in one piece
}

var newline = []byte{'\n'}

// journal is PATH.cursor, open for appending.
type journal struct {
	path string
	f    *os.File // nil before the first replace
	size int64
	base int64 // size after the last replace
}

// append makes e durable. After an error the journal must be replaced.
func (j *journal) append(e *entry) error {
	line := e.encode()
	if _, err := j.f.Write(line); err != nil {
		return err
	}
	j.size += int64(len(line))
	return j.f.Sync()
}

// isLong reports whether most of the journal is history.
func (j *journal) isLong() bool { return j.size > 2*j.base+4<<20 }

// replace makes entries the whole journal, durably and at once.
func (j *journal) replace(entries []entry) error {
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	entries[0].Self = inode(info)
	size := int64(0)
	for i := range entries {
		n, err := f.Write(entries[i].encode())
		if err != nil {
			return errors.Join(err, f.Close())
		}
		size += int64(n)
	}
	err = f.Sync()
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err == nil {
		err = fsutil.SyncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close() // it has been replaced: nothing in it matters
	}
	j.f, j.size, j.base = f, size, size
	return nil
}

// sumOf gives the CRC-32C of a part of a file.
func sumOf(f *os.File, start, end int64) (uint32, error) {
	sum := crc32.New(castagnoli)
	_, err := io.Copy(sum, io.NewSectionReader(f, start, end-start))
	return sum.Sum32(), err
}
