package receiver

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"wsrelay/handshake"
)

// Bounds of what one batch may hold in memory.
const (
	lineHeader = 24         // bytes of a []byte
	maxCost    = 2 * maxRaw // of a batch: lines of a byte each would need 13 times their size
	keepWire   = 1 << 20    // bytes of a message buffer that are kept for the next message
	maxWindow  = maxRaw     // of a zstd frame
)

// cost is what the decoded batch of d takes in memory, in bytes.
func cost(d handshake.Data) int64 { return int64(d.Raw) + lineHeader*int64(d.N) }

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

// unpacker turns payloads into lines. It belongs to one goroutine.
type unpacker struct {
	wire bytes.Buffer // an encoded payload
}

// lines reads the payload of d from r and takes it apart. A payload that is
// not what d says comes back as the code of the nak that refuses it, possibly
// before r was read to its end. An error is one of r.
func (u *unpacker) lines(d handshake.Data, r io.Reader) (lines [][]byte, nak string, err error) {
	var body []byte
	switch d.Enc {
	case handshake.EncRaw:
		body, err = u.readRaw(d, r)
	case handshake.EncZstd, handshake.EncS2:
		body, err = u.readEncoded(d, r)
	default:
		return nil, handshake.NakDecode, nil
	}
	switch {
	case errors.Is(err, errCRC):
		return nil, handshake.NakCRC, nil
	case errors.Is(err, errDecode):
		return nil, handshake.NakDecode, nil
	case err != nil:
		return nil, "", err
	}
	lines, ok := split(body, d.N)
	if !ok {
		return nil, handshake.NakDecode, nil
	}
	return lines, "", nil
}

// errCRC says that a payload is not what was sent.
var errCRC = errors.New("payload does not match its checksum")

// readRaw reads straight into the memory that the lines will share.
func (u *unpacker) readRaw(d handshake.Data, r io.Reader) ([]byte, error) {
	body := make([]byte, d.Raw)
	n, err := io.ReadFull(r, body)
	if err != nil && !isShort(err) {
		return nil, err
	}
	if handshake.CRC(body[:n]) != d.C {
		return nil, errCRC
	}
	var more [1]byte
	m, err := io.ReadFull(r, more[:])
	if err != nil && !isShort(err) {
		return nil, err
	}
	if n < d.Raw || m > 0 {
		return nil, errDecode
	}
	return body, nil
}

// readEncoded never reads more than an encoder could have made of d.Raw bytes,
// nor decodes into more than those.
func (u *unpacker) readEncoded(d handshake.Data, r io.Reader) ([]byte, error) {
	if u.wire.Cap() > keepWire {
		u.wire = bytes.Buffer{}
	}
	u.wire.Reset()
	limit := int64(s2.MaxEncodedLen(d.Raw)) + 1<<10 // more than zstd's worst case, too
	n, err := u.wire.ReadFrom(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, errDecode
	case handshake.CRC(u.wire.Bytes()) != d.C:
		return nil, errCRC
	case d.Enc == handshake.EncZstd:
		return decodeZstd(u.wire.Bytes(), d.Raw)
	}
	return decodeS2(u.wire.Bytes(), d.Raw)
}

// decodeZstd wants one frame that states raw as its content size, and believes
// it only as far as the memory that it has set aside.
func decodeZstd(frame []byte, raw int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil || h.Skippable || !h.HasFCS || h.FrameContentSize != uint64(raw) {
		return nil, errDecode
	}
	body, err := zstdDecoder.DecodeAll(frame, make([]byte, 0, raw))
	if err != nil || len(body) != raw {
		return nil, errDecode
	}
	return body, nil
}

func decodeS2(block []byte, raw int) ([]byte, error) {
	if n, err := s2.DecodedLen(block); err != nil || n != raw {
		return nil, errDecode
	}
	body, err := s2.Decode(make([]byte, raw), block)
	if err != nil || len(body) != raw {
		return nil, errDecode
	}
	return body, nil
}

// split cuts body into exactly n lines; each must have its newline. The lines
// share the memory of body.
func split(body []byte, n int) ([][]byte, bool) {
	if bytes.Count(body, newline) != n || !bytes.HasSuffix(body, newline) {
		return nil, false
	}
	lines := make([][]byte, n)
	for i := range lines {
		end := bytes.IndexByte(body, '\n')
		lines[i], body = body[:end:end], body[end+1:]
	}
	return lines, true
}

var newline = []byte{'\n'}

func isShort(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
