package handshake

import (
	"bytes"
	"testing"
)

// A batch as it usually travels: 256 KiB of lines.
func benchData() (Data, []byte) {
	payload := bytes.Repeat([]byte("<13>1 2026-01-02T03:04:05Z web-1 app 77 - - a line of sixty-four\n"), 4<<10)
	d := Data{
		B: 1234, Seq: 5_000_000_001, N: 4 << 10, At: 1767323045678, Enc: EncRaw, Raw: len(payload),
		C: CRC(payload),
	}
	return d, payload
}

func BenchmarkAppendData(b *testing.B) {
	d, payload := benchData()
	buf := AppendData(nil, d, payload)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendData(buf[:0], d, payload)
	}
}

func BenchmarkDecodeData(b *testing.B) {
	d, payload := benchData()
	msg := AppendData(nil, d, payload)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeData(msg); err != nil {
			b.Fatal(err)
		}
	}
}

func benchAck() *Ack {
	sid := NewSID()
	return &Ack{
		Seq: 5_000_004_097, B: 1234, New: 4096, Index: "wsrelay-web-2026.01.02",
		UID: &UIDs{First: UID(sid, 5_000_000_001), Last: UID(sid, 5_000_004_096)}, Took: 12,
	}
}

func BenchmarkEncodeAck(b *testing.B) {
	a := benchAck()
	b.ReportAllocs()
	for b.Loop() {
		Encode(a)
	}
}

func BenchmarkDecodeAck(b *testing.B) {
	msg := Encode(benchAck())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUID(b *testing.B) {
	sid := NewSID()
	b.ReportAllocs()
	for seq := uint64(1); b.Loop(); seq++ {
		UID(sid, seq)
	}
}

func BenchmarkParseUID(b *testing.B) {
	uid := UID(NewSID(), MaxSeq)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseUID(uid); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCRC(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 250)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		CRC(line)
	}
}
