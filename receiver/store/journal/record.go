package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// kind is what a record brings.
type kind uint16

const (
	kindLines kind = 1
	kindGap   kind = 2
	kindOwner kind = 3
)

// record is one record of a segment, decoded. The payload is the text of the
// lines, each with its newline; or a gap in JSON; or the name of an owner.
type record struct {
	kind      kind
	sid, host string
	seq       uint64 // of the first line
	n         uint32 // lines
	at        time.Time
	synced    int64 // everything below this offset was durable when the record was written
	committed time.Time
	payload   []byte

	off, next int64 // where it begins, and the record after it
}

// The fixed part of a record; doc.go has the picture. What is only known when the
// record is written, sealHead adds.
const (
	headLen  = 64
	magicRec = "WSRR"
)

func (r *record) append(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, headLen)...)
	b = append(append(append(b, r.sid...), r.host...), r.payload...)
	h, body := b[start:start+headLen], b[start+headLen:]
	copy(h, magicRec)
	le.PutUint32(h[8:], uint32(len(body)))
	le.PutUint32(h[12:], crc32.Checksum(body, castagnoli))
	le.PutUint16(h[16:], uint16(r.kind))
	le.PutUint16(h[18:], uint16(len(r.sid)))
	le.PutUint16(h[20:], uint16(len(r.host)))
	le.PutUint32(h[24:], r.n)
	le.PutUint32(h[28:], uint32(r.at.Nanosecond()))
	le.PutUint64(h[32:], uint64(r.at.Unix()))
	le.PutUint64(h[40:], r.seq)
	return b
}

// sealHead completes the fixed part of a record for the segment that it goes to.
func sealHead(h []byte, nonce uint64, synced int64, now time.Time) {
	le.PutUint64(h[48:], uint64(synced))
	le.PutUint64(h[56:], uint64(now.UnixNano()))
	le.PutUint32(h[4:], seeded(nonce, h[8:headLen]))
}

// seeded is a checksum that nobody can compute who does not know the segment's
// nonce: a line that looks like a record is not one.
func seeded(nonce uint64, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(le.AppendUint64(nil, nonce), castagnoli), castagnoli, b)
}

// decodeHead gives what the fixed part says; ok is false if it is none. size is
// that of the body.
func decodeHead(h []byte, nonce uint64) (r record, size int, ok bool) {
	if string(h[:4]) != magicRec || le.Uint32(h[4:]) != seeded(nonce, h[8:headLen]) {
		return r, 0, false
	}
	r = record{
		kind: kind(le.Uint16(h[16:])), n: le.Uint32(h[24:]), seq: le.Uint64(h[40:]),
		at:     time.Unix(int64(le.Uint64(h[32:])), int64(le.Uint32(h[28:]))).UTC(),
		synced: int64(le.Uint64(h[48:])), committed: time.Unix(0, int64(le.Uint64(h[56:]))),
	}
	return r, int(le.Uint32(h[8:])), true
}

// decodeBody adds what stands behind the fixed part; false: it is damaged.
func (r *record) decodeBody(h, body []byte) bool {
	sid, host := int(le.Uint16(h[18:])), int(le.Uint16(h[20:]))
	if crc32.Checksum(body, castagnoli) != le.Uint32(h[12:]) || sid+host > len(body) {
		return false
	}
	r.sid, r.host, r.payload = string(body[:sid]), string(body[sid:sid+host]), body[sid+host:]
	return true
}

// rows is how many rows of the database the record makes.
func (r *record) rows() uint64 {
	switch r.kind {
	case kindLines:
		return uint64(r.n)
	case kindGap:
		return 1
	}
	return 0
}

// batch is the record as it came. Its lines are those of the payload, and are
// appended to lines.
func (r *record) batch(lines [][]byte) (receiver.Batch, [][]byte, error) {
	b := receiver.Batch{SID: r.sid, Host: r.host, Seq: r.seq, At: r.at}
	if r.kind == kindGap {
		b.Gap = new(handshake.Gap)
		return b, lines, json.Unmarshal(r.payload, b.Gap)
	}
	first := len(lines)
	for text := r.payload; len(text) > 0; {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			break
		}
		lines = append(lines, text[:i:i])
		text = text[i+1:]
	}
	b.Lines = lines[first:len(lines):len(lines)]
	if len(b.Lines) != int(r.n) {
		return b, lines, fmt.Errorf("a record of %d lines has %d", r.n, len(b.Lines))
	}
	return b, lines, nil
}

func sumOf(line []byte) uint32 { return crc32.Checksum(line, castagnoli) }
