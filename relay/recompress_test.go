package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// dense is a line that S2 makes little of, and zstd half.
func dense(seq uint64) string {
	sum := sha256.Sum256(fmt.Append(nil, seq))
	return fmt.Sprintf("%s %s", hex.EncodeToString(sum[:]), hex.EncodeToString(sum[8:]))
}

// A path leads to a receiver that decodes enc: a message takes its length over
// rate, and the receiver's store takes each more.
type path struct {
	enc  []string
	rate int // bytes a second
	each time.Duration

	nak     func(d handshake.Data) bool
	lines   uint64 // after so many the first session is cut; 0: never
	st      store
	mu      sync.Mutex
	got     map[string]int // bytes of lines by encoding
	carried int            // bytes of payloads
}

// receive takes what comes over the link.
func (l *path) receive(p *peer) {
	p.greet(func(w *handshake.Welcome) { w.Enc, w.Win.Batches = append(w.Enc, l.enc...), 4 })
	for {
		kind, msg, err := p.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.TextMessage {
			continue
		}
		time.Sleep(time.Duration(len(msg))*time.Second/time.Duration(l.rate) + l.each)
		d, payload := p.checked(msg)
		switch {
		case d.Seq != p.next: // after a nak
			continue
		case l.nak != nil && l.nak(d):
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakCRC, Expect: d.Seq})
			continue
		case l.lines > 0 && d.Seq > l.lines:
			l.lines = 0
			return
		}
		c, known := codec.Named(d.Enc)
		text, err := c.Decode(nil, payload, d.Raw)
		if !known || err != nil {
			p.fail("batch %d: %q: %v", d.B, d.Enc, err)
		}
		l.mu.Lock()
		l.got[d.Enc] += d.Raw
		l.carried += len(payload)
		l.mu.Unlock()
		p.next += uint64(d.N)
		l.st.commit(d.Seq, text)
		p.ack(d.B, p.next)
	}
}

// deliver sends blocks, of 340 KB each, over the link: 24 of S2, or as many as it is
// told of S2, of zstd, and so on.
func (l *path) deliver(t *testing.T, blocks ...int) (raw int) {
	t.Helper()
	l.got = map[string]int{}
	dir := t.TempDir()
	if blocks == nil {
		blocks = []int{24}
	}
	var q *buffer.Queue
	for i, n := range blocks {
		if q != nil {
			if err := q.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		q = openQueueIn(t, dir, []codec.Codec{codec.S2, codec.Zstd}[i%2])
		for range n {
			appendLine(t, q, 3000, dense)
		}
	}
	end := q.Stats().Head
	r := connect(t, q, Options{Recompress: true}, l.receive)
	stop := run(t, r)
	waitAcked(t, q, end)
	stop()
	l.st.check(t, end, dense)
	for _, n := range l.got {
		raw += n
	}
	t.Logf("%d bytes of lines as %d, %v", raw, l.carried, l.got)
	return raw
}

func TestSqueeze_EncodesOnceMoreWhereTheLinkLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &path{enc: []string{"s2", "zstd"}, rate: 1e6}
		if raw := l.deliver(t); l.got["zstd"] < raw*3/4 || l.carried > raw*7/10 {
			t.Errorf("%d bytes of lines went as %d bytes, %d of them as zstd", raw, l.carried, l.got["zstd"])
		}
	})
}

// The link takes what the queue has as zstd as fast as what the relay makes zstd:
// that says nothing of S2.
func TestSqueeze_LearnsNothingOfBlocksThatAreZstd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &path{enc: []string{"s2", "zstd"}, rate: 1e6}
		if raw := l.deliver(t, 6, 24, 24); l.got["s2"] > raw/8 {
			t.Errorf("of %d bytes of lines, %d went as S2", raw, l.got["s2"])
		}
	})
}

func TestSqueeze_LeavesBlocksAsTheyAreWhereTheStoreLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &path{enc: []string{"s2", "zstd"}, rate: 1e9, each: 100 * time.Millisecond}
		if raw := l.deliver(t); l.got["zstd"] > raw/2 {
			t.Errorf("%d of %d bytes went as zstd", l.got["zstd"], raw)
		}
	})
}

func TestSqueeze_OnlyWhereTheReceiverDecodesZstd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &path{enc: []string{"s2"}, rate: 1e6}
		if raw := l.deliver(t); l.got["zstd"] > 0 || l.got["s2"] < raw/2 {
			t.Errorf("a receiver that does not decode zstd got %v", l.got)
		}
	})
}

// A batch that is sent again is packed again, and may then be encoded otherwise: the
// lines under its numbers stay the same.
func TestSqueeze_SendsTheSameLinesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[uint64]bool{}
		l := &path{enc: []string{"s2", "zstd"}, rate: 1e6, lines: 40_000, nak: func(d handshake.Data) bool {
			again := seen[d.Seq]
			seen[d.Seq] = true
			return !again && d.B%3 == 0
		}}
		l.deliver(t)
		if l.lines > 0 || l.got["zstd"] == 0 {
			t.Errorf("the session was never cut, or nothing went as zstd: %v", l.got)
		}
	})
}
