package relay

import (
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// recompressor encodes batches once more, with the densest codec, while the link is
// what limits: a queue that fills fast is compressed little, and the processors are
// idle while a slow link empties it. It compares how fast receipts come for batches
// of either kind, and leaves batches as the queue has them unless that is slower.
type recompressor struct {
	choice  *codec.Choice // Raw stands for "as the queue has it"
	waiting bool          // more waited when the last receipt came, or none has come yet
	since   time.Time     // when that was; zero: none has come
	buf     []byte
}

// newRecompressor starts with the densest codec: as the queue has them, the first
// batches could keep a slow link busy for seconds; encoded, they cost a fast one
// milliseconds.
func newRecompressor() *recompressor {
	s := &recompressor{choice: codec.NewChoice(codec.Dense, codec.Raw, codec.Dense)}
	s.choice.FastEnough = worthRecompressing
	return s
}

// worthRecompressing is the part of the speed of recompressed batches that batches as
// the queue has them must reach to be left so. On a link that limits they reach at
// most 0.65: zstd needs that part of S2's bytes. Elsewhere the times of both differ
// by less, and do not show what encoding takes from other programs of a busy machine.
const worthRecompressing = 0.75

// Batches of fewer bytes are not worth it; larger ones are rare and would need much
// memory.
const (
	recompressMin = 4 << 10
	recompressMax = 4 * maxBatch
)

// begin is called when a session begins: the time between two sessions is not measured.
func (s *recompressor) begin() {
	if s != nil {
		s.waiting, s.since = true, time.Time{}
	}
}

// acked notes a receipt for the batches sent; waiting: more waited to be sent.
func (s *recompressor) acked(sent []flight, waiting bool, now time.Time) {
	if s == nil {
		return
	}
	raw, recompressed, left := 0, 0, 0
	for _, f := range sent {
		raw += f.raw
		switch {
		case f.recompressed:
			recompressed += f.raw
		case f.enc != codec.Dense:
			left += f.raw
		} // else the queue has it in the densest codec: there was no choice
	}
	switch {
	case !s.waiting || s.since.IsZero():
	case left == raw:
		s.choice.Observe(codec.Raw, raw, now.Sub(s.since))
	case recompressed == raw:
		s.choice.Observe(codec.Dense, raw, now.Sub(s.since))
	} // of both kinds: nothing shows which of them took how long
	s.waiting, s.since = waiting, now
}

// wants reports whether b is to be made smaller. Where nothing waits, nothing limits.
func (s *recompressor) wants(b *batch) bool {
	return s != nil && s.waiting && b.enc != codec.Dense &&
		b.raw >= recompressMin && b.raw <= recompressMax && s.choice.Codec(b.raw) == codec.Dense
}

// pack makes b, of these lines, smaller. Sequence numbers and lines stay what they
// are, and the checksum is that of what is sent.
func (s *recompressor) pack(b *batch, lines []byte) {
	b.recompressed = true
	if s.buf = codec.Dense.Encode(s.buf, lines); len(s.buf) < len(b.payload) {
		b.enc, b.payload, b.crc = codec.Dense, s.buf, handshake.CRC(s.buf)
	}
}
