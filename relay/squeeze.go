package relay

import (
	"time"

	"wsrelay/codec"
	"wsrelay/handshake"
)

// squeeze makes batches smaller than the queue has them, while the link is what
// limits: a queue that is filled fast is compressed little, and processors are idle
// while a slow link empties it. What limits, it does not know: it compares how fast
// the receipts come for batches of either kind.
type squeeze struct {
	choice *codec.Choice // Zstd: made smaller; Raw: as they are in the queue
	since  time.Time     // of the last receipt, if more waited then; else zero
	buf    []byte
}

func newSqueeze() *squeeze { return &squeeze{choice: codec.NewChoice(1, codec.Zstd, codec.Raw)} }

// begin forgets the time: a session has ended, another begins.
func (s *squeeze) begin() {
	if s != nil {
		s.since = time.Time{}
	}
}

// receipted notes a receipt for the batches sent; waiting: more waits behind them.
func (s *squeeze) receipted(sent []flight, waiting bool, now time.Time) {
	if s == nil {
		return
	}
	raw, squeezed := 0, 0
	for _, f := range sent {
		raw += f.raw
		if f.squeezed {
			squeezed += f.raw
		}
	}
	switch kind := codec.Raw; {
	case s.since.IsZero():
	case squeezed == raw:
		kind = codec.Zstd
		fallthrough
	case squeezed == 0:
		s.choice.Took(kind, raw, now.Sub(s.since))
	}
	s.since = time.Time{}
	if waiting {
		s.since = now
	}
}

// pack makes b smaller if that is the choice. The lines of b are lines(), asked for
// only where they are needed.
func (s *squeeze) pack(b *batch, lines func() ([]byte, error)) {
	const least = 1 << 10 // not worth it
	if s == nil || s.choice.Codec() != codec.Zstd || b.enc == codec.Zstd.String() || b.raw < least {
		return
	}
	text, err := lines()
	if err != nil {
		return // whoever has to decode it will say so
	}
	b.squeezed = true
	if s.buf = codec.Zstd.Encode(s.buf, text); len(s.buf) < len(b.payload) {
		b.enc, b.payload, b.crc = codec.Zstd.String(), s.buf, handshake.CRC(s.buf)
	}
}
