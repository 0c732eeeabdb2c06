package receiver

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"wsrelay/handshake"
)

// FuzzDataMessage sends arbitrary messages down the path of data. Invariants 3
// and 7: what comes out is what the header says.
func FuzzDataMessage(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	d, raw := batch(1, "one", "two", "")
	d.B = 1
	for name, payload := range map[string][]byte{
		handshake.EncRaw: raw,
		"s2":             s2.Encode(nil, raw),
		"zstd":           enc.EncodeAll(raw, nil),
	} {
		d.Enc = name
		f.Add(handshake.AppendData(nil, d, payload))
	}
	header := bufio.NewReaderSize(nil, handshake.MaxHeader+1)
	f.Fuzz(func(t *testing.T, msg []byte) {
		header.Reset(bytes.NewReader(msg))
		d, err := readHeader(header)
		if err != nil || d.Raw > maxRaw || cost(d) > maxCost {
			return
		}
		_, payload, err := handshake.DecodeData(msg)
		if err != nil {
			t.Fatalf("the header alone decodes, the message does not: %v", err)
		}
		d.C = handshake.CRC(payload) // past the checksum
		wire, err := readWire(d, header, func(int) bool { return true })
		if err != nil {
			if wire != nil || nakFor(err) == "" {
				t.Errorf("got %v, and a payload: %t", err, wire != nil)
			}
			return
		}
		if !check(d, wire.text) {
			wire.recycle()
			return
		}
		b, err := decode(d, wire)
		if err != nil {
			if b != nil || nakFor(err) == "" {
				t.Errorf("got %v, and lines: %t", err, b != nil)
			}
			return
		}
		defer b.recycle()
		if got := append(bytes.Join(b.lines, newline), '\n'); len(b.lines) != d.N || len(got) != d.Raw ||
			!bytes.Equal(got, b.text) {
			t.Errorf("%d lines, %d bytes, want %d, %d", len(b.lines), len(got), d.N, d.Raw)
		}
	})
}
