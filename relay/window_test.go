package relay

import (
	"testing"

	"pgregory.net/rapid"

	"wsrelay/handshake"
)

func TestWindow_GrowsByOneWithEachReceipt(t *testing.T) {
	w := newWindow(1, handshake.Win{Bytes: 1 << 30, Batches: 5})
	next := uint64(1)
	for _, want := range []int{2, 3, 4, 5, 5, 5} {
		for w.canSend(1) {
			w.add(flight{seq: next, end: next + 1, size: 1})
			next++
		}
		if got := len(w.sent); got != want {
			t.Errorf("%d batches are on their way, want %d", got, want)
		}
		if _, err := w.ack(w.base + 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWindow_OneBatchMayAlwaysLeave(t *testing.T) {
	w := newWindow(1, handshake.Win{})
	if !w.canSend(1 << 30) {
		t.Error("no space for the only batch")
	}
	w.add(flight{seq: 1, end: 2, size: 1})
	if w.canSend(1) {
		t.Error("space for a second one in a window of nothing")
	}
}

// The window against a plain list of numbers.
func TestWindow_AgreesWithItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := handshake.Win{
			Bytes:   rapid.Int64Range(0, 100).Draw(t, "bytes"),
			Batches: rapid.IntRange(0, 20).Draw(t, "batches"),
		}
		w := newWindow(1, limit)
		base, next := uint64(1), uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				size := rapid.IntRange(1, 60).Draw(t, "size")
				if !w.canSend(size) {
					return
				}
				n := uint64(rapid.IntRange(1, 9).Draw(t, "n"))
				w.add(flight{seq: next, end: next + n, size: size})
				next += n
			},
			"ack": func(t *rapid.T) {
				to := rapid.Uint64Range(0, next+2).Draw(t, "to")
				n, err := w.ack(to)
				if fine := to >= base && to <= next; fine != (err == nil) {
					t.Fatalf("ack %d in %d to %d: %v", to, base, next, err)
				}
				if err == nil {
					if n != to-base {
						t.Fatalf("ack %d gives %d, want %d", to, n, to-base)
					}
					base = to
				}
			},
			"rewind": func(t *rapid.T) {
				next = rapid.Uint64Range(base, next).Draw(t, "to")
				w.rewind(next)
			},
			"": func(t *rapid.T) {
				if w.base != base || w.next != next {
					t.Fatalf("window is %d to %d, want %d to %d", w.base, w.next, base, next)
				}
				var bytes int64
				for i, f := range w.sent {
					bytes += int64(f.size)
					if i > 0 && f.seq != w.sent[i-1].end {
						t.Fatalf("a hole before %d", f.seq)
					}
				}
				if bytes != w.bytes || (base < next) == w.empty() {
					t.Fatalf("%d bytes in %d batches, the window says %d", bytes, len(w.sent), w.bytes)
				}
				if len(w.sent) > 1 && (bytes > limit.Bytes || len(w.sent) > min(limit.Batches, windowMost)) {
					t.Fatalf("%d bytes in %d batches are beyond %+v", bytes, len(w.sent), limit)
				}
			},
		})
	})
}
