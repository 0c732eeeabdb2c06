package handshake

import (
	"bytes"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// open is what docs/protocol.md asks of a receiver that gets a data message:
// the lines, or the code of the nak.
func open(d Data, payload []byte) (lines [][]byte, code string) {
	if CRC(payload) != d.C {
		return nil, NakCRC
	}
	raw, ok := decompress(d, payload)
	if !ok || len(raw) != d.Raw || !bytes.HasSuffix(raw, []byte("\n")) || bytes.Count(raw, []byte("\n")) != d.N {
		return nil, NakDecode
	}
	return bytes.Split(raw[:len(raw)-1], []byte("\n")), ""
}

func decompress(d Data, payload []byte) (raw []byte, ok bool) {
	var err error
	switch d.Enc {
	case EncRaw:
		raw = payload
	case "s2":
		if size, sizeErr := s2.DecodedLen(payload); sizeErr != nil || size != d.Raw {
			return nil, false
		}
		raw, err = s2.Decode(nil, payload)
	case "zstd":
		var head zstd.Header
		if head.Decode(payload) != nil || !head.HasFCS || head.FrameContentSize != uint64(d.Raw) {
			return nil, false
		}
		var z *zstd.Decoder
		if z, err = zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true)); err != nil {
			return nil, false
		}
		defer z.Close()
		raw, err = z.DecodeAll(payload, make([]byte, 0, d.Raw))
	default:
		return nil, false
	}
	return raw, err == nil
}
