package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
)

const (
	cursorName  = "CURSOR"
	cursorMagic = "WSRCURS\x00"
	slotLen     = 1024
	slotStride  = 4096 // no sector holds both slots
)

// Receipt is the receiver's word that every record below Seq is final. UID and
// RT have at most 63 bytes.
type Receipt struct {
	Seq uint64
	UID string // of the last document
	RT  string // the receipt token
}

// cursor is what the file CURSOR says: two slots, written in turn, of which
// the valid one with the higher generation counts.
type cursor struct {
	generation uint64
	acked      uint64
	durable    uint64 // every record below was on disk: in particular what intakes say
	segment    uint64 // the newest there was
	receipt    Receipt
	intakes    intakes
}

func (c *cursor) slot() []byte {
	le := binary.LittleEndian
	b := make([]byte, slotLen)
	copy(b, cursorMagic)
	le.PutUint64(b[8:], c.generation)
	le.PutUint64(b[16:], c.acked)
	le.PutUint64(b[24:], c.segment)
	le.PutUint64(b[32:], c.receipt.Seq)
	le.PutUint64(b[40:], c.durable)
	putString(b[64:128], c.receipt.UID)
	putString(b[128:192], c.receipt.RT)
	c.intakes.put(b[192 : 192+intakesLen])
	le.PutUint32(b[slotLen-4:], crc32.Checksum(b[:slotLen-4], castagnoli))
	return b
}

func getSlot(b []byte) (c cursor, ok bool) {
	le := binary.LittleEndian
	if string(b[:8]) != cursorMagic || le.Uint32(b[slotLen-4:]) != crc32.Checksum(b[:slotLen-4], castagnoli) {
		return cursor{}, false
	}
	return cursor{
		generation: le.Uint64(b[8:]), acked: le.Uint64(b[16:]), segment: le.Uint64(b[24:]), durable: le.Uint64(b[40:]),
		receipt: Receipt{Seq: le.Uint64(b[32:]), UID: getString(b[64:128]), RT: getString(b[128:192])},
		intakes: getIntakes(b[192:]),
	}, true
}

func putString(b []byte, s string) { b[0] = byte(copy(b[1:], s)) }

func getString(b []byte) string { return string(b[1 : 1+min(int(b[0]), len(b)-1)]) }

// loadCursor reads CURSOR. A cursor that is not there, or cannot be read, is the
// zero one: that costs repeats, never lines (R2).
func loadCursor(fsys fileSystem) (best cursor, err error) {
	f, err := openIfUsable(fsys, cursorName)
	if f == nil {
		return cursor{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	slots, b := withRetry(f), make([]byte, slotLen)
	for off := int64(0); off <= slotStride; off += slotStride {
		if _, err := slots.ReadAt(b, off); err != nil {
			continue
		}
		if c, ok := getSlot(b); ok && c.generation > best.generation {
			best = c
		}
	}
	return best, nil
}

// openCursor opens CURSOR for writing, and makes it if it is not there. That may
// be possible only later, as on a file system that is read-only.
func (w *writer) openCursor() error {
	if w.cursorFile != nil {
		return nil
	}
	f, err := w.q.fsys.openForWriting(cursorName)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStrange) || errors.Is(err, fs.ErrPermission) {
		f, err = createAnew(w.q.fsys, cursorName)
		w.cursorStale = w.cursorStale || w.saved.generation > 0
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", cursorName, err)
	}
	w.cursorFile = f
	return nil
}

// write puts c over the slot that the generation before the last had.
func (c *cursor) write(f file) error {
	b, off := c.slot(), int64(c.generation%2)*slotStride
	err := f.writeAt(b, off)
	if err != nil && !noSpace(err) { // a page that cannot be read can only be written as a whole
		err = f.writeAt(append(b, make([]byte, slotStride-slotLen)...), off)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", cursorName, err)
	}
	return nil
}
