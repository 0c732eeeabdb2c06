package generic

import (
	"math"
	"sort"
	"sync"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

const (
	windowLines = 4096
	windowBytes = 4 << 20
)

// window knows what is under way without an acknowledgement. The goroutine that
// reads what the server says marks it, the one that sends takes out what is
// done: neither waits for the other.
type window struct {
	mu    sync.Mutex
	lines []flight // in the order sent
	bytes int
	pings []pinged
}

// flight is one message under way.
type flight struct {
	of   buffer.Range
	uid  string
	size int
	done bool
}

// pinged is a ping under way: its answer is for every record below end.
type pinged struct{ k, end uint64 }

func (w *window) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lines) == 0
}

// canSend reports whether one more message may leave.
func (w *window) canSend() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lines) == 0 || len(w.lines) < windowLines && w.bytes < windowBytes
}

func (w *window) add(m message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, flight{of: m.of, uid: m.uid, size: len(m.text)})
	w.bytes += len(m.text)
}

// ping notes that the ping k is sent after all that was added.
func (w *window) ping(k uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := pinged{k: k}
	if n := len(w.lines); n > 0 {
		p.end = w.lines[n-1].of.End
	}
	w.pings = append(w.pings, p)
}

// pong takes the answer to the ping k, and thereby to all before it; false: none
// such is under way.
func (w *window) pong(k uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pings) == 0 || k < w.pings[0].k || k > w.pings[len(w.pings)-1].k {
		return false
	}
	var end uint64
	for len(w.pings) > 0 && w.pings[0].k <= k {
		end, w.pings = w.pings[0].end, w.pings[1:]
	}
	w.passLocked(end)
	return true
}

// passLocked takes an acknowledgement for every record below end.
func (w *window) passLocked(end uint64) {
	for i := range w.lines {
		if w.lines[i].of.End > end {
			return
		}
		w.lines[i].done = true
	}
}

// passAll takes all that was added for acknowledged.
func (w *window) passAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passLocked(math.MaxUint64)
}

// answered reports whether no ping is under way.
func (w *window) answered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pings) == 0
}

// confirm takes a receipt for the message with this UID; false: no such message
// is under way.
func (w *window) confirm(uid string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(uid) < handshake.UIDLen {
		return false
	}
	_, seq, err := handshake.ParseUID(uid[:handshake.UIDLen])
	if err != nil {
		return false
	}
	i := sort.Search(len(w.lines), func(i int) bool { return w.lines[i].of.First >= seq })
	if i == len(w.lines) || w.lines[i].uid != uid {
		return false
	}
	w.lines[i].done = true
	return true
}

// confirmNext takes a receipt for the oldest message without one.
func (w *window) confirmNext() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.lines {
		if !w.lines[i].done {
			w.lines[i].done = true
			return true
		}
	}
	return false
}

// popDone takes out what is done, as far as everything before it is, and gives
// the last of it and the number of records; nil: nothing.
func (w *window) popDone() (last *flight, records uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for ; n < len(w.lines) && w.lines[n].done; n++ {
		last = &w.lines[n]
		w.bytes -= last.size
		records += last.of.Len()
	}
	w.lines = w.lines[n:]
	return last, records
}
