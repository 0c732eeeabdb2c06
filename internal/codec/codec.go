// Package codec has the encodings of lines, on disk and on the wire, and chooses
// between them by what is scarce. Another encoding is one more row of its table.
package codec

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is the number of an encoding, as blocks have it on disk.
type Codec uint8

// The encodings.
const (
	Raw  Codec = iota // the bytes as they are
	Zstd              // one frame, RFC 8878, that states its content size
	S2                // one block of the S2 format
)

// What those who choose between them need to know.
const (
	Dense = Zstd // the smallest payloads
	Quick = S2   // compresses in the least time
)

// DensestFirst lists the encodings, those with smaller payloads before others.
func DensestFirst() []Codec { return []Codec{Dense, Quick, Raw} }

// MaxSize is the most bytes that decoding makes: what a receiver takes in one message.
const MaxSize = 17 << 20

var table = [...]struct {
	name   string // on the wire, and on the command line
	encode func(scratch, text []byte) []byte
	decode func(text, payload []byte) ([]byte, error) // into text, an empty slice with enough space
	size   func(payload []byte) (uint64, bool)        // the bytes that the payload states to decode to
	most   func(n int) int                            // bytes that an encoder makes of n at worst, also another one
}{
	Raw: {
		"raw",
		func(_, text []byte) []byte { return text },
		func(text, payload []byte) ([]byte, error) { return append(text, payload...), nil },
		func(payload []byte) (uint64, bool) { return uint64(len(payload)), true },
		func(n int) int { return n },
	},
	Zstd: {
		"zstd",
		func(scratch, text []byte) []byte { return encoder.EncodeAll(text, scratch[:0]) },
		func(text, payload []byte) ([]byte, error) { return decoder.DecodeAll(payload, text) },
		func(payload []byte) (uint64, bool) {
			var h zstd.Header
			err := h.Decode(payload)
			return h.FrameContentSize, err == nil && !h.Skippable && h.HasFCS
		},
		func(n int) int { return n + n>>8 + 1<<10 },
	},
	S2: {
		"s2",
		func(scratch, text []byte) []byte { return s2.Encode(scratch[:cap(scratch)], text) },
		func(text, payload []byte) ([]byte, error) { return s2.Decode(text[:cap(text)], payload) },
		func(payload []byte) (uint64, bool) {
			n, err := s2.DecodedLen(payload)
			return uint64(n), err == nil
		},
		func(n int) int { return s2.MaxEncodedLen(n) + 1<<10 },
	},
}

// MinSize is the fewest bytes that are worth encoding. Of less, a payload need not say
// its size.
const MinSize = 256

// Names are those of all encodings.
func Names() (names []string) {
	for _, row := range table {
		names = append(names, row.name)
	}
	return names
}

// Named gives the encoding with a name.
func Named(name string) (c Codec, ok bool) {
	k := slices.Index(Names(), name)
	return Codec(max(k, 0)), k >= 0
}

// Known reports whether there is such an encoding.
func (c Codec) Known() bool { return int(c) < len(table) }

// String is the encoding's name.
func (c Codec) String() string {
	if !c.Known() {
		return fmt.Sprintf("codec %d", uint8(c))
	}
	return table[c].name
}

// Encode gives text, of MinSize bytes or more, in this encoding. The result is in
// scratch if that is large enough, else in new memory, or it is text itself.
func (c Codec) Encode(scratch, text []byte) []byte { return table[c].encode(scratch, text) }

// MaxEncoded is how many bytes an encoder makes of n bytes of text at worst.
func (c Codec) MaxEncoded(n int) int { return table[c].most(n) }

// HasSize reports whether a payload states that it decodes to n bytes.
func (c Codec) HasSize(payload []byte, n int) bool {
	if !c.Known() {
		return false
	}
	size, ok := table[c].size(payload)
	return ok && size == uint64(n)
}

// Decode appends to dst the n bytes that a payload decodes to. It never makes
// more of a payload than that, whatever it says.
func (c Codec) Decode(dst, payload []byte, n int) ([]byte, error) {
	if !c.HasSize(payload, n) || n > MaxSize {
		return dst, fmt.Errorf("%v: a payload of %d bytes that is not of %d", c, len(payload), n)
	}
	start := len(dst)
	dst = slices.Grow(dst, n)
	text, err := table[c].decode(dst[start:start:start+n], payload)
	if err == nil && len(text) != n {
		err = fmt.Errorf("%v: %d bytes, want %d", c, len(text), n)
	}
	if err != nil {
		return dst[:start], err
	}
	return dst[:start+n], nil
}

const window = 1 << 20 // bytes: a block's size

// Both may be used concurrently.
var (
	encoder = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(window)))
	decoder = must(zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(MaxSize), zstd.WithDecoderMaxWindow(MaxSize)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that this file chose
	}
	return v
}
