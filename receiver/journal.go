package receiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"wsrelay/handshake"
)

// entry is a line of PATH.cursor: the state of PATH after one commit, and what
// that commit added. On disk it is the CRC-32C of its JSON, a blank, the JSON.
//
// PATH.cursor is a journal: a commit appends one entry of a few bytes a line
// instead of writing all that is known again. When it has grown, it is
// replaced, by rename, with one that says the same in an entry a stream.
type entry struct {
	Inode uint64 `json:"inode"` // of PATH
	End   int64  `json:"end"`   // bytes of PATH that are final
	Runs  []run  `json:"runs,omitempty"`
}

// run is what is known of consecutive lines of one stream.
type run struct {
	SID  string `json:"sid"`
	Seq  uint64 `json:"seq"` // of the first
	CRCs crcs   `json:"crc"`
}

// crcs are the CRC-32C of lines, 8 hexadecimal digits each in JSON.
type crcs []uint32

func (c *crcs) UnmarshalText(text []byte) error {
	if len(text)%8 != 0 {
		return errors.New("not a row of checksums")
	}
	*c = make(crcs, 0, len(text)/8)
	for ; len(text) > 0; text = text[8:] {
		var sum uint32
		for _, digit := range text[:8] {
			switch {
			case '0' <= digit && digit <= '9':
				sum = sum<<4 | uint32(digit-'0')
			case 'a' <= digit && digit <= 'f':
				sum = sum<<4 | uint32(digit-'a'+10)
			default:
				return errors.New("not a checksum")
			}
		}
		*c = append(*c, sum)
	}
	return nil
}

// append appends e as a line. It does without encoding/json because it tells of
// every line of PATH.
func (e *entry) append(dst []byte) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, `00000000 {"inode":%d,"end":%d`, e.Inode, e.End)
	separator := `,"runs":[`
	for _, r := range e.Runs {
		sid, err := json.Marshal(r.SID)
		if err != nil {
			panic(err) // a string
		}
		dst = fmt.Appendf(dst, `%s{"sid":%s,"seq":%d,"crc":"`, separator, sid, r.Seq)
		for _, sum := range r.CRCs {
			dst = handshake.AppendCRC(dst, sum)
		}
		dst = append(dst, `"}`...)
		separator = ","
	}
	if len(e.Runs) > 0 {
		dst = append(dst, ']')
	}
	dst = append(dst, '}')
	handshake.AppendCRC(dst[:start], crc32.Checksum(dst[start+len("00000000 "):], castagnoli)) // over the zeros
	return append(dst, '\n')
}

func decodeEntry(line []byte) (e entry, ok bool) {
	sum, body, _ := bytes.Cut(line, []byte{' '})
	if string(sum) != handshake.CRC(body) {
		return entry{}, false
	}
	return e, json.Unmarshal(body, &e) == nil && e.End >= 0
}

// readJournal gives the entries of the journal at path, none if there is no
// such file. A line that is not whole is passed over: at the end it is a
// commit that a crash cut short and that nobody got a receipt for. Elsewhere
// it is damage: later entries still say where PATH ends, only the checksums of
// that commit are forgotten, and damaged counts it.
func readJournal(path string) (entries []entry, damaged int, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	bad := 0
	for line := range bytes.Lines(data) {
		e, ok := decodeEntry(bytes.TrimSuffix(line, newline))
		if !ok {
			bad++
			continue
		}
		entries = append(entries, e)
		damaged += bad
		bad = 0
	}
	if len(entries) == 0 { // a journal begins its life with one, in one piece
		damaged = bad
	}
	return entries, damaged, nil
}

// journal is PATH.cursor, open for appending.
type journal struct {
	path string
	f    *os.File // nil until the first replace
	size int64
	base int64  // size after the last replace
	line []byte // scratch of append
}

// append makes e durable. After an error the journal must be replaced.
func (j *journal) append(e *entry) error {
	j.line = e.append(j.line[:0])
	if _, err := j.f.Write(j.line); err != nil {
		return err
	}
	j.size += int64(len(j.line))
	return j.f.Sync()
}

// isLong says that most of the journal is history.
func (j *journal) isLong() bool { return j.size > 2*j.base+4<<20 }

// replace makes entries the whole journal, durably and at once.
func (j *journal) replace(entries []entry) error {
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	size := int64(0)
	for i := range entries {
		n, err := f.Write(entries[i].append(nil))
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
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close() // replaced: nothing in it matters
	}
	j.f, j.size, j.base = f, size, size
	return nil
}

func (j *journal) close() error {
	if j.f == nil {
		return nil
	}
	return j.f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(fmtErr("sync directory", d.Sync()), d.Close())
}

func fmtErr(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", step, err)
}
