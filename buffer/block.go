package buffer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"wsrelay/internal/codec"
)

// Sizes of the format; doc.go has the picture.
const (
	headerLen = 128
	alignment = 64

	// MaxBlock and MaxBlockLines close a block; one longer line is a block of
	// its own. MaxLine is the longest line, in bytes without its newline.
	MaxBlock      = 1 << 20
	MaxBlockLines = 5000
	MaxLine       = 16 << 20

	maxRaw    = MaxLine + 1
	maxStored = maxRaw + maxRaw/64 // what no codec exceeds: a block that does not shrink is stored raw
)

const blockMagic = 0x42525357 // "WSRB", little endian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type kind uint8

const (
	kindData kind = 1 + iota
	kindGap       // records that will never come; takes no number of its own
	kindSeal      // no records: all below its durable is on disk
	kindHead      // no records: the segment's header once more, on another page
)

// flagUnfinished marks a block whose last line is a piece of a longer one, which the
// next line of the same intake continues.
const flagUnfinished = 1

// header is a block's header in memory; the field names are the format's.
type header struct {
	kind    kind
	codec   codec.Codec
	flags   uint16
	first   uint64 // number of the first record
	count   uint64 // records
	stored  uint32 // bytes of the payload on disk
	raw     uint32 // bytes of the payload once decoded
	sum     uint32 // CRC-32C of the payload on disk
	intake  uint64
	end     int64  // stream offset of the intake after the block's last byte
	durable uint64 // every record below was on disk when this was written
	acked   uint64 // every record below had its receipt
	at      int64  // when the block's first line came, Unix ms
	segment uint64
}

func (h *header) next() uint64 { return h.first + h.count }

// origin is how far its intake is with the block.
func (h *header) origin() Origin {
	return Origin{h.intake, h.end, h.flags&flagUnfinished != 0}
}

// span is what the block takes in its file.
func (h *header) span() int64 { return span(int(h.stored)) }

func span(stored int) int64 { return int64(headerLen+stored+alignment-1) &^ (alignment - 1) }

func (h *header) put(b []byte, nonce uint64) {
	le := binary.LittleEndian
	clear(b[:headerLen])
	le.PutUint32(b, blockMagic)
	b[4], b[5] = byte(h.kind), byte(h.codec)
	le.PutUint16(b[6:], h.flags)
	le.PutUint64(b[8:], h.first)
	le.PutUint64(b[16:], h.count)
	le.PutUint32(b[24:], h.stored)
	le.PutUint32(b[28:], h.raw)
	le.PutUint32(b[32:], h.sum)
	le.PutUint64(b[40:], h.intake)
	le.PutUint64(b[48:], uint64(h.end))
	le.PutUint64(b[56:], h.durable)
	le.PutUint64(b[64:], h.acked)
	le.PutUint64(b[72:], uint64(h.at))
	le.PutUint64(b[80:], h.segment)
	le.PutUint32(b[headerLen-4:], seeded(nonce, b[:headerLen-4]))
}

// getHeader reads a header; false: there is none here.
func getHeader(b []byte, nonce uint64) (h header, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(b) != blockMagic || le.Uint32(b[headerLen-4:]) != seeded(nonce, b[:headerLen-4]) {
		return header{}, false
	}
	h = header{
		kind: kind(b[4]), codec: codec.Codec(b[5]), flags: le.Uint16(b[6:]),
		first: le.Uint64(b[8:]), count: le.Uint64(b[16:]),
		stored: le.Uint32(b[24:]), raw: le.Uint32(b[28:]), sum: le.Uint32(b[32:]),
		intake: le.Uint64(b[40:]), end: int64(le.Uint64(b[48:])),
		durable: le.Uint64(b[56:]), acked: le.Uint64(b[64:]),
		at: int64(le.Uint64(b[72:])), segment: le.Uint64(b[80:]),
	}
	ok = h.stored <= maxStored && h.raw <= maxRaw && h.next() >= h.first
	return h, ok
}

// seeded is a CRC-32C that starts from the segment's nonce: what a recycled
// file held in its former life does not pass.
func seeded(nonce uint64, b []byte) uint32 {
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], nonce)
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, b)
}

// Range is the records First <= seq < End.
type Range struct{ First, End uint64 }

// Len is how many records the range has.
func (r Range) Len() uint64 { return r.End - r.First }

func (r Range) has(seq uint64) bool { return r.First <= seq && seq < r.End }

// Gap is why a block's records will never come.
type Gap struct {
	Why   string `json:"why"`             // overflow, expired, damaged, unsynced, oversize or purged
	Maybe bool   `json:"maybe,omitempty"` // some may have been delivered before
	From  int64  `json:"from,omitempty"`  // Unix ms: when the first of them came, if known
	To    int64  `json:"to,omitempty"`    // and the last
}

// Block is consecutive records, encoded and checksummed once; the queue's unit
// of everything. It does not change once Next has given it.
type Block struct {
	header
	sid string
	gap *Gap
	buf []byte // headerLen bytes, then the payload: as in the file
}

// Range is the block's records.
func (b *Block) Range() Range { return Range{b.first, b.next()} }

// SID is the stream that the block's numbers belong to.
func (b *Block) SID() string { return b.sid }

// At is when the block's first line came, in UTC, to the millisecond.
func (b *Block) At() time.Time { return time.UnixMilli(b.at).UTC() }

// Gap is nil for a block of lines.
func (b *Block) Gap() *Gap { return b.gap }

// Codec is how Encoded is encoded.
func (b *Block) Codec() codec.Codec { return b.codec }

// RawLen is the length of the lines with their newlines, in bytes.
func (b *Block) RawLen() int { return int(b.raw) }

// CRC is the CRC-32C of Encoded.
func (b *Block) CRC() uint32 { return b.sum }

// Encoded is the lines as they are stored: each with its newline, in Codec.
func (b *Block) Encoded() []byte { return b.buf[headerLen : headerLen+int(b.stored)] }

// Lines appends the lines, each with its newline, to dst. An error means
// that the block passed its checksum and is still wrong, which is the encoder's fault.
func (b *Block) Lines(dst []byte) ([]byte, error) {
	dst, err := b.codec.Decode(dst, b.Encoded(), int(b.raw))
	if err != nil {
		return dst, fmt.Errorf("decode block %d-%d: %w", b.first, b.next()-1, err)
	}
	return dst, nil
}

// part is the records of b in r, as a block of its own: raw.
func (b *Block) part(r Range) (*Block, error) {
	lines, err := b.Lines(nil)
	if err != nil {
		return nil, err
	}
	p := &Block{header: b.header, sid: b.sid, buf: make([]byte, headerLen)}
	p.first, p.count = r.First, r.Len()
	seq := b.first
	for line := range bytes.Lines(lines) {
		if r.First <= seq && seq < r.End {
			p.buf = append(p.buf, line...)
		}
		seq++
	}
	p.encode(codec.Raw, nil)
	return p, nil
}

// encode computes the payload's checksum, of a block whose payload is the raw
// lines; and, if that is shorter, turns it into one in codec c. What it gives
// back is the buffer that the block had, for another use: what a block keeps is
// not much larger than necessary.
func (b *Block) encode(c codec.Codec, u *encodeMemory) (freed []byte) {
	lines := b.buf[headerLen:]
	b.raw, b.stored, b.codec = uint32(len(lines)), uint32(len(lines)), codec.Raw
	if c != codec.Raw && len(lines) >= codec.MinSize {
		u.scratch = c.Encode(u.scratch, lines)
		if n := len(u.scratch); n < len(lines) {
			freed = b.buf
			b.buf = u.buffer(span(n))[:headerLen]
			b.buf = append(b.buf, u.scratch...)
			b.codec, b.stored = c, uint32(n)
		}
	}
	if n := span(len(lines)); u != nil && freed == nil && cap(b.buf) == wholeBlock && n < wholeBlock/2 {
		freed = b.buf
		b.buf = append(u.buffer(n), b.buf...)
	}
	b.sum = crc32.Checksum(b.Encoded(), castagnoli)
	return freed
}

// newSeal makes a block without records, which states that all below seq is durable.
func newSeal(seq uint64) *Block {
	return &Block{header: header{kind: kindSeal, first: seq}, buf: make([]byte, headerLen)}
}

// newGap is the block that stands for the records of r.
func newGap(r Range, g Gap, sid string, now time.Time) *Block {
	payload, err := json.Marshal(g)
	if err != nil {
		panic(err) // a plain struct
	}
	b := &Block{
		header: header{kind: kindGap, first: r.First, count: r.Len(), at: now.UnixMilli()},
		sid:    sid, gap: &g, buf: append(make([]byte, headerLen), payload...),
	}
	b.encode(codec.Raw, nil)
	return b
}

// check does the part of R4 that concerns the payload, and fills in the gap.
func (b *Block) check() bool {
	if crc32.Checksum(b.Encoded(), castagnoli) != b.sum {
		return false
	}
	if b.kind == kindGap {
		b.gap = new(Gap)
		return json.Unmarshal(b.Encoded(), b.gap) == nil
	}
	return true
}
