package relay

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

const (
	joinBytes  = 256 << 10 // small blocks are joined up to so many bytes,
	joinLines  = 5000      // and so many lines
	maxBatch   = 1 << 20   // bytes of a batch, unless it is one line
	minBatch   = 16 << 10  // the least that maxBatch is lowered to on a slow link
	headerRoom = 512       // bytes kept free for the header of a data message
	fairLine   = 64 << 10  // no line up to so many bytes is dropped as too long, whatever a receiver says
)

// batch is what one message carries. Its payload is valid until the packer is
// asked again.
type batch struct {
	seq, end     uint64
	at           time.Time
	enc          codec.Codec
	raw          int
	crc          string
	payload      []byte
	gap          *buffer.Gap // instead of a payload
	lost         []byte      // the line that this gap stands for, if the packer has it
	recompressed bool        // packed while the recompressor makes batches smaller
}

// errOtherStream reports that all records of this session's stream are taken: the
// next ones need a session of their own.
var errOtherStream = errors.New("the next record belongs to another stream")

// packer makes batches of the queue's blocks. A block goes out as it is, with
// the checksum it has on disk, where it can. Small ones that wait are joined; where
// the link limits they are encoded once more; one that the receiver cannot take is
// decoded and, if necessary, cut.
type packer struct {
	q          Queue
	sid        string
	enc        []string // what the receiver decodes, beside raw
	max        int      // payload bytes the receiver takes in one message
	maxRaw     int      // and decoded
	ceiling    int      // payload bytes of a batch of several lines: what seems to get through
	maxDecoded int      // decoded bytes of such a batch: lowered when one was too big

	from     uint64        // records below it are left out: the receiver has them
	plain    uint64        // the block that holds it goes out decoded
	rejected rejection     // a record that goes out as a gap
	held     *buffer.Block // taken from the queue, but not packed yet
	rest     batch         // decoded lines of a block that is being cut
	buf      []byte

	recompressor *recompressor // nil: batches go out as the queue has them
}

// rejection is a record that the receiver will not take, and why; seq 0: none.
type rejection struct {
	seq uint64
	gap buffer.Gap
}

// reject makes the record seq, to which the packer is about to be reset, a gap.
func (p *packer) reject(seq uint64, g buffer.Gap) {
	p.rejected, p.plain = rejection{seq, g}, seq
}

// limit sets the sizes from what the receiver offers.
func (p *packer) limit(w *handshake.Welcome, ceiling int) {
	p.enc = w.Enc
	p.max = int(min(max(w.Max-headerRoom, 1), handshake.MaxMessage))
	p.maxRaw = int(min(w.MaxRaw, handshake.MaxMessage))
	p.ceiling = min(ceiling, p.max)
	p.maxDecoded = p.maxRaw
}

// grow is called with each receipt.
func (p *packer) grow() { p.ceiling = min(p.ceiling*2, maxBatch, p.max) }

// reset makes the packer continue at seq, to which the queue has been rewound.
func (p *packer) reset(seq uint64) {
	p.from, p.held, p.rest = seq, nil, batch{}
}

// next gives the next batch, nil if nothing waits. Errors are errOtherStream, a
// *Fault, or the queue's.
func (p *packer) next() (*batch, error) {
	if len(p.rest.payload) > 0 {
		return p.cut()
	}
	if cap(p.buf) > 4*maxBatch { // occasionally a line is huge
		p.buf = nil
	}
	b, err := p.nextBlock()
	if b == nil || err != nil {
		return nil, err
	}
	if b.SID() != p.sid {
		p.held = b
		return nil, errOtherStream
	}
	r := b.Range()
	if g := b.Gap(); g != nil {
		return &batch{seq: r.First, end: r.End, at: b.At(), gap: g}, nil
	}
	if !p.whole(b) {
		return p.open(b)
	}
	c, _ := p.nextBlock() // an error comes again when it is c's turn
	p.held = c
	if c != nil && p.joins(b, c, b.RawLen(), r.First) {
		return p.merge(b)
	}
	out := &batch{
		seq: r.First, end: r.End, at: b.At(),
		enc: b.Codec(), raw: b.RawLen(), crc: handshake.FormatCRC(b.CRC()), payload: b.Encoded(),
	}
	if !p.recompresses(out) {
		return out, nil
	}
	if p.buf, err = b.Lines(p.buf[:0]); err == nil {
		p.recompressor.pack(out, p.buf)
	} // else the receiver says what is wrong with it
	return out, nil
}

// recompresses reports whether b is to be made smaller, and the receiver decodes that.
func (p *packer) recompresses(b *batch) bool { return p.takes(codec.Dense) && p.recompressor.wants(b) }

func (p *packer) nextBlock() (*buffer.Block, error) {
	if b := p.held; b != nil {
		p.held = nil
		return b, nil
	}
	return p.q.TryNext()
}

// whole reports whether b can go out as it is.
func (p *packer) whole(b *buffer.Block) bool {
	r := b.Range()
	if p.from > r.First || r.First <= p.plain && p.plain < r.End {
		return false
	}
	size, raw := p.ceiling, p.maxDecoded
	if r.Len() == 1 {
		size, raw = p.max, p.maxRaw
	}
	return p.takes(b.Codec()) && len(b.Encoded()) <= size && b.RawLen() <= raw
}

func (p *packer) takes(c codec.Codec) bool {
	return c == codec.Raw || slices.Contains(p.enc, c.String())
}

// joins reports whether c may follow in the batch that began with b at first
// and has got raw bytes. One batch is of one day, because the receiver may
// derive the target index from it.
func (p *packer) joins(b, c *buffer.Block, raw int, first uint64) bool {
	const day = 24 * time.Hour
	return c.SID() == p.sid && c.Gap() == nil && p.whole(c) &&
		raw+c.RawLen() <= min(joinBytes, p.ceiling, p.maxDecoded) && c.Range().End-first <= joinLines &&
		b.At().UTC().Truncate(day).Equal(c.At().UTC().Truncate(day))
}

// merge packs b and all that waits and fits with it into one raw batch. What is
// wrong with a block after b waits for its own turn: b must not.
func (p *packer) merge(b *buffer.Block) (*batch, error) {
	out := batch{seq: b.Range().First, end: b.Range().End, at: b.At()}
	buf, err := b.Lines(p.buf[:0])
	if err != nil {
		return nil, err
	}
	for {
		c, _ := p.nextBlock()
		if p.held = c; c == nil || !p.joins(b, c, len(buf), out.seq) {
			break
		}
		more, err := c.Lines(buf)
		if err != nil {
			break
		}
		p.held, buf, out.end = nil, more, c.Range().End
	}
	p.buf = buf
	out.raw, out.crc, out.payload = len(buf), handshake.CRC(buf), buf
	if p.recompresses(&out) {
		p.recompressor.pack(&out, buf)
	}
	return &out, nil
}

// open decodes b, leaves out what the receiver has, and gives the first batch
// of it.
func (p *packer) open(b *buffer.Block) (*batch, error) {
	lines, err := b.Lines(p.buf[:0])
	if err != nil {
		return nil, err
	}
	p.buf = lines
	r := b.Range()
	for ; r.First < p.from && r.First < r.End; r.First++ {
		lines = lines[bytes.IndexByte(lines, '\n')+1:]
	}
	p.rest = batch{seq: r.First, end: r.End, at: b.At(), payload: lines}
	if r.First == r.End { // the receiver has all of it
		return p.next()
	}
	return p.cut()
}

// cut takes the next batch off the decoded block.
func (p *packer) cut() (*batch, error) {
	lines := p.rest.payload
	if p.rest.seq == p.rejected.seq {
		return p.takeGap(p.rejected.gap), nil
	}
	size := len(lines)
	if most := min(p.ceiling, p.maxDecoded); size > most {
		size = bytes.LastIndexByte(lines[:most], '\n') + 1
	}
	if size == 0 { // not even one line fits: it goes alone
		size = bytes.IndexByte(lines, '\n') + 1
		switch most := min(p.max, p.maxRaw); {
		case size > most && most < fairLine: // so little can only be a mistake of the receiver
			return nil, tooLong(fmt.Errorf("line %d has %d bytes, the receiver takes %d", p.rest.seq, size, most))
		case size > most:
			return p.takeGap(buffer.Gap{Why: handshake.GapOversize}), nil
		}
	}
	out := p.rest
	out.payload = lines[:size]
	out.end = out.seq + uint64(bytes.Count(out.payload, []byte{'\n'}))
	out.raw, out.crc = size, handshake.CRC(out.payload)
	p.rest.seq, p.rest.payload = out.end, lines[size:]
	return &out, nil
}

// takeGap takes a gap instead of one line off the decoded block.
func (p *packer) takeGap(g buffer.Gap) *batch {
	line, rest, _ := bytes.Cut(p.rest.payload, []byte{'\n'})
	out := &batch{seq: p.rest.seq, end: p.rest.seq + 1, at: p.rest.at, gap: &g, lost: line}
	p.rest.seq, p.rest.payload = out.end, rest
	return out
}

// size is what the batch takes of the window.
func (b *batch) size() int { return len(b.payload) + headerRoom }
