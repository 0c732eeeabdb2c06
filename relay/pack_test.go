package relay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// packed gives all batches of q under the limits of w.
func packed(t *testing.T, q Queue, w handshake.Welcome) (all []batch) {
	t.Helper()
	p := packer{q: q, sid: q.Stats().SID}
	p.limit(&w, maxBatch)
	for {
		b, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return all
		}
		c := *b
		c.payload = bytes.Clone(b.payload)
		all = append(all, c)
	}
}

var roomy = handshake.Welcome{Max: handshake.MaxMessage, MaxRaw: handshake.MaxMessage, Enc: []string{"zstd", "s2"}}

// checkBatches reports what is not the lines 1 to end-1 in order.
func checkBatches(t *testing.T, all []batch, end uint64) {
	t.Helper()
	next := uint64(1)
	for _, b := range all {
		if b.seq != next {
			t.Fatalf("a batch begins with %d, want %d", b.seq, next)
		}
		next = b.end
		if got := handshake.CRC(b.payload); got != b.crc {
			t.Errorf("batch at %d: checksum %s, want %s", b.seq, b.crc, got)
		}
		if b.enc == codec.Raw {
			var want bytes.Buffer
			for seq := b.seq; seq < b.end; seq++ {
				fmt.Fprintln(&want, line(seq))
			}
			if !bytes.Equal(b.payload, want.Bytes()) || b.raw != want.Len() {
				t.Errorf("batch %d to %d holds other bytes than it should", b.seq, b.end)
			}
		}
	}
	if next != end {
		t.Errorf("the batches end at %d, want %d", next, end)
	}
}

func TestPacker_JoinsSmallBlocksThatWait(t *testing.T) {
	q := openQueue(t)
	end := appendLines(t, q, 20, 100)
	all := packed(t, q, roomy)
	checkBatches(t, all, end)
	if len(all) != 1 || all[0].enc != codec.Raw {
		t.Errorf("got %d batches, the first is %s; want one raw batch", len(all), all[0].enc)
	}
}

func TestPacker_JoinsUpToItsLimits(t *testing.T) {
	for name, tt := range map[string]struct{ blocks, lines int }{
		"lines": {30, 900},  // 12 kB each
		"bytes": {12, 4000}, // 48 kB each
	} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			end := appendLines(t, q, tt.blocks, tt.lines)
			all := packed(t, q, roomy)
			checkBatches(t, all, end)
			for _, b := range all {
				if b.enc == codec.Raw && (len(b.payload) > joinBytes || b.end-b.seq > joinLines) {
					t.Errorf("%d lines in %d bytes were joined", b.end-b.seq, len(b.payload))
				}
			}
			if len(all) == 1 {
				t.Error("everything was joined")
			}
		})
	}
}

func TestPacker_SendsALoneBlockAsItIs(t *testing.T) {
	q := openQueue(t)
	end := appendLines(t, q, 1, 5000)
	all := packed(t, q, roomy)
	checkBatches(t, all, end)
	if len(all) != 1 || all[0].enc != codec.Zstd {
		t.Fatalf("got %d batches, the first is %s; want one, zstd", len(all), all[0].enc)
	}
	if err := q.Rewind(1); err != nil {
		t.Fatal(err)
	}
	b, err := q.TryNext()
	if err != nil {
		t.Fatal(err)
	}
	if all[0].crc != handshake.FormatCRC(b.CRC()) || !bytes.Equal(all[0].payload, b.Encoded()) {
		t.Error("payload and checksum are not those on disk")
	}
}

func TestPacker_DecodesForAReceiverThatTakesRawOnly(t *testing.T) {
	q := openQueue(t)
	end := appendLines(t, q, 3, 5000)
	all := packed(t, q, handshake.Welcome{Max: handshake.MaxMessage, MaxRaw: handshake.MaxMessage})
	checkBatches(t, all, end)
	for _, b := range all {
		if b.enc != codec.Raw {
			t.Errorf("batch at %d is %s", b.seq, b.enc)
		}
	}
}

func TestPacker_CutsWhatTheReceiverCannotTake(t *testing.T) {
	for name, w := range map[string]handshake.Welcome{
		"max":     {Max: 2000, MaxRaw: handshake.MaxMessage, Enc: roomy.Enc},
		"max_raw": {Max: handshake.MaxMessage, MaxRaw: 1500, Enc: roomy.Enc},
	} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			end := appendLines(t, q, 2, 1000)
			all := packed(t, q, w)
			checkBatches(t, all, end)
			for _, b := range all {
				if int64(len(b.payload)) > w.Max-headerRoom || int64(b.raw) > w.MaxRaw {
					t.Errorf("batch at %d has %d bytes, %d raw", b.seq, len(b.payload), b.raw)
				}
			}
		})
	}
}

func TestPacker_LeavesOutWhatIsBelowTheStart(t *testing.T) {
	q := openQueue(t)
	end := appendLines(t, q, 2, 1000)
	p := packer{q: q, sid: q.Stats().SID}
	p.limit(&roomy, maxBatch)
	for _, from := range []uint64{1, 500, 1000, 1001, 1500, end - 1} {
		if err := q.Rewind(q.Stats().Cursor); err != nil {
			t.Fatal(err)
		}
		p.reset(from)
		b, err := p.next()
		if err != nil || b == nil || b.seq != from {
			t.Errorf("from %d: got %+v, %v", from, b, err)
		}
		for b != nil && err == nil { // the queue goes back only over what it gave
			b, err = p.next()
		}
	}
}

func TestPacker_NamesALineThatIsTooLong(t *testing.T) {
	q := openQueue(t)
	appendLines(t, q, 1, 3)
	appendLine(t, q, 1, long)
	w := roomy
	w.MaxRaw = 50_000
	p := packer{q: q, sid: q.Stats().SID}
	p.limit(&w, maxBatch)
	b, err := p.next()
	if err != nil || b.end != 4 {
		t.Fatalf("got %+v, %v", b, err)
	}
	if _, err := p.next(); err == nil || !strings.Contains(err.Error(), "line 4 has 100001 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestPacker_KeepsDaysApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t) // the bubble begins at midnight UTC
		appendLines(t, q, 2, 5)
		time.Sleep(23*time.Hour + 59*time.Minute)
		appendLines(t, q, 2, 5)
		time.Sleep(2 * time.Minute)
		end := appendLines(t, q, 2, 5)
		all := packed(t, q, roomy)
		checkBatches(t, all, end)
		if len(all) != 2 || all[0].end != 21 {
			t.Errorf("got %d batches, the first ends at %d; want 2, 21", len(all), all[0].end)
		}
	})
}

// unreadable is a queue that cannot be read from a number on.
type unreadable struct {
	Queue
	from uint64
}

var errUnreadable = errors.New("unreadable")

func (u *unreadable) TryNext() (*buffer.Block, error) {
	b, err := u.Queue.TryNext()
	if b == nil || b.Range().First < u.from {
		return b, err
	}
	return nil, errors.Join(errUnreadable, u.Rewind(b.Range().First))
}

func TestPacker_SendsWhatStandsBeforeABlockThatCannotBeRead(t *testing.T) {
	for name, blocks := range map[string]int{"a block": 1, "joined ones": 5} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			end := appendLines(t, q, blocks, 10)
			appendLines(t, q, 1, 10)
			p := packer{q: &unreadable{q, end}, sid: q.Stats().SID}
			p.limit(&roomy, maxBatch)
			if b, err := p.next(); err != nil || b == nil || b.seq != 1 || b.end != end {
				t.Errorf("got %+v, %v; want the lines up to %d", b, err, end)
			}
			if b, err := p.next(); !errors.Is(err, errUnreadable) {
				t.Errorf("got %+v, %v; want that the queue cannot be read", b, err)
			}
		})
	}
}

func TestPacker_StopsAtAnotherStream(t *testing.T) {
	q := openQueue(t)
	appendLines(t, q, 1, 5)
	p := packer{q: q, sid: handshake.NewSID()}
	p.limit(&roomy, maxBatch)
	for range 2 { // and says so again
		if b, err := p.next(); !errors.Is(err, errOtherStream) {
			t.Errorf("got %+v, %v", b, err)
		}
	}
}
