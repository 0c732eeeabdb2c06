package relay

import (
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// squeeze encodes batches once more, with zstd, while the link is what limits: a
// queue that fills fast is compressed little, and the processors are idle while a
// slow link empties it. It compares how fast receipts come for batches of either
// kind, and leaves batches as the queue has them unless that is slower.
type squeeze struct {
	choice  *codec.Choice // Raw stands for "as the queue has it"
	waiting bool          // more waited when the last receipt came, or none has come yet
	since   time.Time     // when that was; zero: none has come
	buf     []byte
}

// It begins with zstd: of the first batches raw ones would keep a slow link busy for
// seconds, and the others cost a fast one milliseconds.
func newSqueeze() *squeeze {
	s := &squeeze{choice: codec.NewChoice(codec.Zstd, codec.Raw, codec.Zstd)}
	s.choice.AsFast = worthSqueezing
	return s
}

// worthSqueezing is which part of the speed with zstd batches must reach as the queue
// has them to be left so. On a link that limits they reach at most 0.65: zstd needs
// that part of S2's bytes. Elsewhere the times of both differ by less, and what
// encoding takes from the other programs of a busy machine does not show in them.
const worthSqueezing = 0.75

// How many bytes of lines are worth it, and how many need memory for rare use.
const (
	squeezeFrom = 4 << 10
	squeezeTo   = 4 * maxBatch
)

// begin is called where a session begins: the time between two tells nothing.
func (s *squeeze) begin() {
	if s != nil {
		s.waiting, s.since = true, time.Time{}
	}
}

// acked notes a receipt for the batches sent; waiting: more waited behind them.
func (s *squeeze) acked(sent []flight, waiting bool, now time.Time) {
	if s == nil {
		return
	}
	raw, squeezed, left := 0, 0, 0
	for _, f := range sent {
		raw += f.raw
		switch {
		case f.squeezed:
			squeezed += f.raw
		case f.enc != codec.Zstd:
			left += f.raw
		} // zstd in the queue: it had no choice
	}
	switch {
	case !s.waiting || s.since.IsZero():
	case left == raw:
		s.choice.Took(codec.Raw, raw, now.Sub(s.since))
	case squeezed == raw:
		s.choice.Took(codec.Zstd, raw, now.Sub(s.since))
	} // of both kinds: it cannot tell what took how long
	s.waiting, s.since = waiting, now
}

// wants reports whether b is to be made smaller. Where nothing waits, nothing limits.
func (s *squeeze) wants(b *batch) bool {
	return s != nil && s.waiting && b.enc != codec.Zstd &&
		b.raw >= squeezeFrom && b.raw <= squeezeTo && s.choice.Codec(b.raw) == codec.Zstd
}

// pack makes b, of these lines, smaller. Sequence numbers and lines stay what they
// are, and the checksum is that of what is sent.
func (s *squeeze) pack(b *batch, lines []byte) {
	b.squeezed = true
	if s.buf = codec.Zstd.Encode(s.buf, lines); len(s.buf) < len(b.payload) {
		b.enc, b.payload, b.crc = codec.Zstd, s.buf, handshake.CRC(s.buf)
	}
}
