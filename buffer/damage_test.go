package buffer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"wsrelay/internal/codec"
)

// recorded is a queue with a few blocks of every codec, in two segments, all
// durable, recorded as such, and closed. No line is acknowledged.
func recorded(w *world) {
	w.mustStart()
	for k := range 12 {
		w.append(3, 100+k*40)
		w.wait()
	}
	w.restart()
	w.append(4, 500)
	w.wait()
	w.idle()
	w.stop()
}

func TestQueue_LosesOneBlockAtMostForAnyFlippedBit(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		recorded(w)
		files := append(w.fs.segments(), cursorName, identityName)
		step := amount(1, 61, 617) // a prime: each bit of a byte has its turn
		for _, name := range files {
			for bit := 0; bit < 8*len(w.fs.bytes(name)); bit += step {
				flip(t, w, name, bit)
			}
		}
	})
}

// flip flips one bit of a copy, and takes out what the copy holds.
func flip(t *testing.T, w *world, name string, bit int) {
	c := newWorld(t, 1, w.o)
	c.fs, c.lines, c.head, c.proved, c.unsure = w.fs.backup(), w.lines, w.head, w.head, w.head
	c.damage(name, bit/8, 1, func(b []byte) { b[0] ^= 1 << (bit % 8) })
	hurt := len(c.hurt)
	if hurt > 4 { // the largest block
		t.Fatalf("%s bit %d: costs %d lines", name, bit, hurt)
	}
	q, rec, err := open(c.fs, c.o)
	if err != nil {
		t.Fatalf("%s bit %d: %v", name, bit, err)
	}
	c.q = q
	defer c.abandon()
	c.resume(rec)
	for c.next() {
	}
	if c.out != w.head || len(c.gone) != hurt {
		t.Fatalf("%s bit %d: came to %d of %d, %d lines in gaps, %d damaged", name, bit, c.out, w.head, len(c.gone), hurt)
	}
}

func TestQueue_QuarantinesAFileThatIsNoSegment(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{})
		recorded(w)
		for k, content := range [][]byte{
			nil, make([]byte, 8192), []byte("WSRSEGM\x00"),
			bytes.Repeat([]byte("garbage "), 1000),
		} {
			f, err := w.fs.create(segmentName(uint64(k) + 100))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.writeAt(content, 0); err != nil {
				t.Fatal(err)
			}
		}
		copied, err := w.fs.create(segmentName(200)) // one of ours under another name
		if err != nil {
			t.Fatal(err)
		}
		if err := copied.writeAt(w.fs.bytes(segmentName(1)), 0); err != nil {
			t.Fatal(err)
		}
		w.scarred, w.beyond = true, true
		rec := w.mustStart()
		defer w.abandon()
		w.resume(rec)
		w.drain()
		if len(rec.Quarantined) != 5 || len(rec.Gaps) > 0 {
			t.Errorf("quarantined %v, gaps %v", rec.Quarantined, rec.Gaps)
		}
	})
}

// FuzzOpen gives recovery arbitrary files. The bits of mode make the bytes
// payloads and header fields of blocks, a slot of CURSOR, an IDENTITY, whose
// checksums are right, so that what comes after the checksums is reached.
func FuzzOpen(f *testing.F) {
	w := newWorld(&quiet{}, 1, Options{})
	for _, b := range [][]byte{nil, make([]byte, 9000), bytes.Repeat([]byte("WSRB"), 3000)} {
		f.Add(b, b, b, byte(0))
		f.Add(b, b, b, byte(1))
	}
	f.Add([]byte{}, make([]byte, 200), []byte("wsrelay identity 1\nhome here\nfrom 1 sid aaaaaaaaaaaaaaaa\nfrom 9 sid bbbbbbbbbbbbbbbb\n"), byte(7))
	f.Fuzz(func(t *testing.T, seg, cur, ident []byte, mode byte) {
		inBubble(t, func() {
			fs := newStrictFS(1)
			if mode&1 != 0 {
				seg = forged(seg)
			}
			if mode&2 != 0 {
				cur = forgedSlot(cur)
			}
			if mode&4 != 0 {
				ident = fmt.Appendf(ident, "crc %08x\n", crc32.Checksum(ident, castagnoli))
			}
			writeFile(t, fs, segmentName(1), seg)
			writeFile(t, fs, cursorName, cur)
			writeFile(t, fs, identityName, ident)
			q, _, err := open(fs, Options{Limit: modelLimit})
			if err != nil {
				return
			}
			w.q = q
			defer w.abandon()
			takeSome(t, q)
		})
	})
}

// quiet is a failer for what cannot fail.
type quiet struct{}

func (*quiet) Helper()                   {}
func (*quiet) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }

func writeFile(t *testing.T, fs *strictFS, name string, b []byte) {
	t.Helper()
	f, err := fs.create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.writeAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// takeSome takes out what there is, up to a bound: a forged gap can be wide.
func takeSome(t *testing.T, q *Queue) {
	for range 100 {
		b, err := q.TryNext()
		if err != nil || b == nil {
			return
		}
		if lines, err := b.Lines(nil); err == nil && b.Gap() == nil && len(lines) != b.RawLen() {
			t.Fatalf("%d bytes, want %d", len(lines), b.RawLen())
		}
	}
}

// forged is a segment with blocks made of the bytes: 24 for a header's fields,
// then the payload.
func forged(in []byte) []byte {
	seg := &segment{id: 1, base: 1, sid: "aaaaaaaaaaaaaaaa", nonce: 5}
	out := seg.page()
	r := bytes.NewReader(in)
	for r.Len() > 0 && len(out) < 1<<20 {
		f := make([]byte, 24)
		_, _ = io.ReadFull(r, f)
		payload := make([]byte, min(int(f[5])*4, r.Len()))
		_, _ = io.ReadFull(r, payload)
		h := header{
			kind: kind(f[0] % 5), codec: codec.Codec(f[1] % 4), flags: uint16(f[2]), first: uint64(f[3]),
			count:  uint64(f[4]),
			stored: uint32(len(payload)), raw: uint32(f[6])<<16 | uint32(f[7]), intake: uint64(f[8]),
			end: int64(f[9]), durable: uint64(f[10]), acked: uint64(f[11]), segment: 1,
		}
		if f[12] == 255 {
			h.first, h.durable = ^uint64(0)-uint64(f[3]), ^uint64(0)-uint64(f[10])
		}
		b := &Block{header: h, buf: append(make([]byte, headerLen), payload...)}
		b.sum = crc32.Checksum(payload, castagnoli)
		b.put(b.buf, seg.nonce)
		out = append(out, b.buf...)
		out = append(out, make([]byte, -len(out)&(alignment-1))...)
	}
	return out
}

// forgedSlot is a CURSOR of one slot that holds the bytes.
func forgedSlot(in []byte) []byte {
	b := make([]byte, slotLen)
	copy(b[copy(b, cursorMagic):], in)
	binary.LittleEndian.PutUint32(b[slotLen-4:], crc32.Checksum(b[:slotLen-4], castagnoli))
	return b
}

func TestBlock_RefusesALengthThatItsHeaderDoesNotState(t *testing.T) {
	payload := s2.Encode(nil, bytes.Repeat([]byte("x"), 1000))
	b := &Block{
		header: header{kind: kindData, codec: codec.S2, stored: uint32(len(payload)), raw: 999},
		buf:    append(make([]byte, headerLen), payload...),
	}
	if lines, err := b.Lines(nil); err == nil || len(lines) > 0 {
		t.Errorf("got %d bytes, %v", len(lines), err)
	}
}

// FuzzLosses gives arbitrary text as LOST: what was read is the same when it is
// written and read again.
func FuzzLosses(f *testing.F) {
	f.Add("1796000000 damaged 1 5\n1796000000 expired 5 9\n")
	f.Add("-1 x 9 1\n99999999999999 y 0 18446744073709551615\n")
	now := time.Unix(1796000000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		read := func(text string) losses {
			fs := newStrictFS(1)
			writeFile(t, fs, lostName, []byte(text))
			return readLosses(fs, now)
		}
		l := read(text)
		if again := read(string(l.text())); len(l.text()) < 1<<20 && string(again.text()) != string(l.text()) {
			t.Errorf("%q became %q", l.text(), again.text())
		}
	})
}
