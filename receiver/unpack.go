package receiver

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"wsrelay/handshake"
)

// Bounds of what one batch may hold in memory.
const (
	lineHeader = 24         // bytes of a []byte
	maxCost    = 2 * maxRaw // of a batch: lines of a byte each would need 13 times their size
	keepWire   = 1 << 20    // bytes of a buffer of an encoded payload that is kept for the next
	maxWindow  = maxRaw     // of a zstd frame
)

// zstdDecoder serves all sessions: DecodeAll may be called concurrently. With
// the cap limit it writes into the buffer that it is given and not beyond.
var zstdDecoder = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		panic(err) // constant options
	}
	return d
}()

// errDecode says that a payload is not the encoding of d.Raw bytes.
var errDecode = errors.New("payload does not decode to what its header says")

// unpack reads the payload of d from r and takes it apart. A payload that is
// not what d says comes back as the code of the nak that refuses it, possibly
// before r was read to its end. An error is one of r.
func unpack(d handshake.Data, r io.Reader) (b *body, nak string, err error) {
	switch d.Enc {
	case handshake.EncRaw:
		b, err = readRaw(d, r)
	case handshake.EncZstd, handshake.EncS2:
		b, err = readEncoded(d, r)
	default:
		err = errDecode
	}
	switch {
	case errors.Is(err, errCRC):
		return nil, handshake.NakCRC, nil
	case errors.Is(err, errDecode):
		return nil, handshake.NakDecode, nil
	}
	return b, "", err
}

// errCRC says that a payload is not what was sent.
var errCRC = errors.New("payload does not match its checksum")

// readRaw reads straight into the body.
func readRaw(d handshake.Data, r io.Reader) (*body, error) {
	return newBody(d, func(text []byte) error {
		n, err := io.ReadFull(r, text)
		if err != nil && !isShort(err) {
			return err
		}
		var more [1]byte
		m, err := io.ReadFull(r, more[:])
		switch {
		case err != nil && !isShort(err):
			return err
		case m > 0: // whatever the sum of all that comes
			return errDecode
		case handshake.CRC(text[:n]) != d.C:
			return errCRC
		case n < d.Raw:
			return errDecode
		}
		return nil
	})
}

// maxEncoded is more bytes than an encoder makes of d.Raw at worst.
func maxEncoded(d handshake.Data) int64 { return int64(s2.MaxEncodedLen(d.Raw)) + 1<<10 }

// wireCost is what the payload of d takes in memory until it is decoded, in bytes.
func wireCost(d handshake.Data) int64 {
	if d.Enc == handshake.EncRaw {
		return 0 // it comes straight into the body
	}
	return maxEncoded(d)
}

// readEncoded never reads more than an encoder could have made of d.Raw bytes,
// and sets memory aside for those only when the encoding, too, says that it is
// of so many.
func readEncoded(d handshake.Data, r io.Reader) (*body, error) {
	wire := wires.Get().(*bytes.Buffer)
	defer func() {
		if wire.Cap() <= keepWire {
			wires.Put(wire)
		}
	}()
	wire.Reset()
	limit := maxEncoded(d)
	n, err := wire.ReadFrom(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, errDecode
	case handshake.CRC(wire.Bytes()) != d.C:
		return nil, errCRC
	case d.Enc == handshake.EncZstd:
		return decodeZstd(d, wire.Bytes())
	}
	return decodeS2(d, wire.Bytes())
}

// wires hold encoded payloads. A session has one while it reads such a payload.
var wires = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// decodeZstd wants one frame that states d.Raw as its content size, and believes
// it only as far as the memory that it has set aside.
func decodeZstd(d handshake.Data, frame []byte) (*body, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil || h.Skippable || !h.HasFCS || h.FrameContentSize != uint64(d.Raw) {
		return nil, errDecode
	}
	return newBody(d, func(text []byte) error {
		out, err := zstdDecoder.DecodeAll(frame, text[:0:len(text)])
		if err != nil || len(out) != len(text) {
			return errDecode
		}
		return nil
	})
}

func decodeS2(d handshake.Data, block []byte) (*body, error) {
	if n, err := s2.DecodedLen(block); err != nil || n != d.Raw {
		return nil, errDecode
	}
	return newBody(d, func(text []byte) error {
		if _, err := s2.Decode(text, block); err != nil {
			return errDecode
		}
		return nil
	})
}

func isShort(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
