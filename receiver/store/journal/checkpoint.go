package journal

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"wsrelay/handshake"
)

const (
	checkpointName = "CHECKPOINT"
	journalDir     = "journal"
	damagedDir     = "damaged"
	reserveName    = journalDir + "/reserve"
)

// checkpoint is what CHECKPOINT holds.
type checkpoint struct {
	ID      string        `json:"id"`
	Number  uint64        `json:"number"`            // the highest that a segment has had
	Gone    []goneSegment `json:"gone,omitempty"`    // everything in these is in the database
	Last    string        `json:"last,omitempty"`    // the newest of all that are gone
	Live    []string      `json:"live,omitempty"`    // the segments that were there beside them
	Ends    []int64       `json:"ends,omitempty"`    // of each in Live: everything below was durable
	Compare bool          `json:"compare,omitempty"` // rows of these may be in the database under other names
	Streams []Stream      `json:"streams,omitempty"`
}

type goneSegment struct {
	Name    string `json:"name"`
	Damaged bool   `json:"damaged,omitempty"`
}

// covers tells whether everything in s was in the database by then.
func (c *checkpoint) covers(s *segment) bool {
	return slices.ContainsFunc(c.Gone, func(g goneSegment) bool { return g.Name == s.name })
}

// mark is what the database keeps beside its rows: the id of the checkpoint that
// is made, and of the one before it, if it is made for a segment that goes; and the
// newest segment of which the database may have rows.
type mark struct{ id, prev, newest string }

func (m mark) String() string {
	return strings.Join([]string{m.id, cmp.Or(m.prev, "-"), cmp.Or(m.newest, "-")}, " ")
}

func parseMark(s string) mark {
	f := append(strings.Fields(s), "", "", "")
	return mark{f[0], f[1], f[2]}
}

// setMark has the database keep m.
func (j *Journal) setMark(m mark) error {
	err := j.spaced(func() error { return j.db.SetMark(m.String()) }) // a file in the store's directory, too
	if err != nil {
		return fmt.Errorf("set the database's mark: %w", err)
	}
	j.mark = m
	return nil
}

// announce has the mark name a segment before the database gets its first row: a
// journal that lacks the segment, as one that was restored may, is then noticed.
func (j *Journal) announce(s *segment) error {
	m := j.mark
	if newest, ok := parseSegment(m.newest + ".seg"); ok && newest.number >= s.id.number {
		return nil
	}
	m.newest = s.name
	return j.setMark(m)
}

// checkpoint records that everything in s is in the database; s may be nil, to
// bring CHECKPOINT and the mark together. The mark comes first: if CHECKPOINT is
// not written after it, the segment is still there.
func (j *Journal) checkpoint(s *segment) error {
	if j.nextID == "" {
		j.nextID = rand.Text()
	}
	c := checkpoint{ID: j.nextID, Gone: j.gone, Last: j.lastGone}
	m := mark{id: c.ID, newest: j.mark.newest}
	if s != nil {
		m.prev, c.Last = j.id, s.name
		c.Gone = append(slices.Clone(j.gone), goneSegment{s.name, s.damaged > 0})
	}
	if err := j.setMark(m); err != nil {
		return err
	}
	j.mu.Lock()
	c.Number, c.Compare = j.number, j.restored != nil
	for _, o := range j.segs {
		if o != s {
			c.Live, c.Ends = append(c.Live, o.name), append(c.Ends, o.end)
		}
	}
	c.Streams = j.streamsLocked()
	j.mu.Unlock()
	if err := j.writeCheckpoint(&c); err != nil {
		return fmt.Errorf("write %s: %w", checkpointName, err)
	}
	j.id, j.nextID, j.gone, j.lastGone = c.ID, "", c.Gone, c.Last
	j.mu.Lock()
	j.stats.Checkpoint = time.Now()
	j.mu.Unlock()
	return nil
}

// writeCheckpoint replaces CHECKPOINT: without one no space of the journal becomes free.
func (j *Journal) writeCheckpoint(c *checkpoint) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	text := slices.Concat([]byte(handshake.CRC(body)+" "), body, newline)
	err = j.spaced(func() error { return j.replace(checkpointName, text) })
	j.reserve = max(reserveSize, 2*int64(len(text)))
	return err
}

// spaced calls write, and where the disk is full once more with the space that is kept.
func (j *Journal) spaced(write func() error) error {
	err := write()
	if noSpace(err) {
		if err = ignore(j.fs.remove(reserveName), fs.ErrNotExist); err == nil {
			err = write()
		}
	}
	return err
}

func (j *Journal) replace(name string, text []byte) error {
	f, err := j.fs.create(name + ".new")
	if err != nil {
		return err
	}
	err = f.writeAt(text, 0)
	if err == nil {
		err = f.sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = j.fs.rename(name+".new", name); err != nil {
		return err
	}
	return j.fs.syncDir(".")
}

// readCheckpoint gives nil if there is none. One that is damaged is quarantined,
// which is as if there were none.
func (j *Journal) readCheckpoint() (*checkpoint, error) {
	text, err := j.readFile(checkpointName)
	if err != nil {
		return nil, ignore(err, fs.ErrNotExist)
	}
	sum, body, _ := bytes.Cut(bytes.TrimSuffix(text, newline), []byte{' '})
	c := &checkpoint{}
	if string(sum) == handshake.CRC(body) {
		if err = json.Unmarshal(body, c); err == nil {
			return c, nil
		}
	}
	j.log.Error("checkpoint damaged", "path", checkpointName,
		"effect", "which lines are stored is read from the database; the owners of streams are lost",
		"hint", "Check the disk. The file is kept in "+damagedDir+"/.")
	if err = j.fs.mkdir(damagedDir); err == nil {
		err = j.fs.rename(checkpointName, damagedDir+"/"+checkpointName+"-"+rand.Text()[:8])
	}
	return nil, err
}

func (j *Journal) readFile(name string) ([]byte, error) {
	f, err := j.fs.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	size, err := f.size()
	if err != nil {
		return nil, err
	}
	text := make([]byte, size)
	_, err = f.ReadAt(text, 0)
	return text, ignore(err, io.EOF)
}

const reserveSize = 1 << 20

// makeReserve keeps some space for a checkpoint on a full disk. There may be
// none to keep.
func (j *Journal) makeReserve() {
	f, err := j.fs.open(reserveName)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = j.fs.create(reserveName)
	}
	if err != nil {
		return
	}
	if size, err := f.size(); err == nil && size < j.reserve {
		_ = f.allocate(size, j.reserve-size)
	}
	_ = f.Close()
}
