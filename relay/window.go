package relay

import (
	"fmt"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

const (
	windowStart = 2  // batches, before any receipt
	windowMost  = 16 // batches, whatever the receiver offers
)

// window knows what is on its way without a receipt. It begins narrow and
// grows by one batch with each receipt, up to what the receiver offers.
type window struct {
	base  uint64 // everything below has its receipt
	next  uint64 // everything below was sent
	sent  []flight
	bytes int64
	grown int
	limit handshake.Win
}

// flight is one batch on its way: the records seq <= x < end.
type flight struct {
	seq, end     uint64
	size         int // of the message, about
	raw          int // of the lines; 0: it is a gap
	enc          codec.Codec
	recompressed bool
}

func newWindow(base uint64, limit handshake.Win) window {
	return window{base: base, next: base, grown: windowStart, limit: limit}
}

func (w *window) empty() bool { return len(w.sent) == 0 }

// canSend reports whether a batch of size bytes may leave now.
func (w *window) canSend(size int) bool {
	if w.empty() {
		return true
	}
	return len(w.sent) < min(w.grown, w.limit.Batches, windowMost) && w.bytes+int64(size) <= w.limit.Bytes
}

func (w *window) add(f flight) {
	w.sent = append(w.sent, f)
	w.bytes += int64(f.size)
	w.next = f.end
}

// ack takes a receipt for everything below seq and gives the number of
// records that are new in it.
func (w *window) ack(seq uint64) (uint64, error) {
	if seq > w.next || seq < w.base {
		return 0, fmt.Errorf("a receipt for %d, where %d to %d are possible", seq, w.base, w.next)
	}
	n := seq - w.base
	w.base = seq
	for !w.empty() && w.sent[0].end <= seq {
		w.bytes -= int64(w.sent[0].size)
		w.sent = w.sent[1:]
	}
	if !w.empty() {
		w.sent[0].seq = max(w.sent[0].seq, seq)
	}
	if n > 0 {
		w.grown = min(w.grown+1, windowMost)
	}
	return n, nil
}

// rewind forgets what was sent from seq on.
func (w *window) rewind(seq uint64) {
	for !w.empty() {
		last := &w.sent[len(w.sent)-1]
		if last.seq < seq {
			last.end = min(last.end, seq)
			break
		}
		w.bytes -= int64(last.size)
		w.sent = w.sent[:len(w.sent)-1]
	}
	w.next = seq
}

// at is the batch that holds seq.
func (w *window) at(seq uint64) (flight, bool) {
	for _, f := range w.sent {
		if f.seq <= seq && seq < f.end {
			return f, true
		}
	}
	return flight{}, false
}
