package elastic

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func opsOf(n, size int) []*op {
	ops := make([]*op, n)
	for i := range ops {
		ops[i] = &op{body: make([]byte, size)}
	}
	return ops
}

// held is a send that notes each bulk and waits to be released.
type held struct {
	mu    sync.Mutex
	bulks [][]*op
	gate  chan bool // throttled
}

func (h *held) send(_ context.Context, ops []*op) bool {
	h.mu.Lock()
	h.bulks = append(h.bulks, ops)
	h.mu.Unlock()
	return <-h.gate
}

func (h *held) sizes() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	sizes := make([]int, len(h.bulks))
	for i, b := range h.bulks {
		sizes[i] = len(b)
	}
	return sizes
}

func TestDispatcher_MergesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{gate: make(chan bool)}
		d := newDispatcher(h.send)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := d.do(t.Context(), opsOf(10, 100), false); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		h.gate <- false
		synctest.Wait()
		if got := h.sizes(); len(got) != 3 || got[2] != 180 {
			t.Errorf("bulks of %v documents, want 10, 10 and what gathered meanwhile: 180", got)
		}
		close(h.gate)
		wg.Wait()
		d.close()
	})
}

func TestDispatcher_KeepsBulksWithinTheirCaps(t *testing.T) {
	for _, tt := range []struct {
		name          string
		n, size, want int
	}{
		{"documents", 2*maxBulkDocs + 1, 100, 3},
		{"bytes", 20, 1 << 20, 4},
		{"one document larger than a bulk", 2, maxBulkBytes + 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &held{gate: make(chan bool)}
			close(h.gate)
			d := newDispatcher(h.send)
			defer d.close()
			if err := d.do(t.Context(), opsOf(tt.n, tt.size), false); err != nil {
				t.Fatal(err)
			}
			if got := h.sizes(); len(got) != tt.want {
				t.Errorf("bulks of %v documents, want %d bulks", got, tt.want)
			}
		})
	}
}

func TestDispatcher_SendsMoreAtOnceUntilTheEngineAsksForLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{gate: make(chan bool)}
		d := newDispatcher(h.send)
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() { _ = d.do(t.Context(), opsOf(maxBulkDocs, 1), false) })
		}
		synctest.Wait()
		running := func() int {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.running
		}
		if got := running(); got != fewestBulks {
			t.Errorf("%d bulks at once at first, want %d", got, fewestBulks)
		}
		for range 45 {
			h.gate <- false
			synctest.Wait()
		}
		if got := running(); got != mostBulks {
			t.Errorf("%d bulks at once after many that went well, want %d", got, mostBulks)
		}
		d.engineThreads(3)
		for range 10 {
			h.gate <- false
			synctest.Wait()
		}
		if got := running(); got != 4 {
			t.Errorf("%d bulks at once for an engine that has 3 threads, want 4", got)
		}
		for range 4 - fewestBulks {
			h.gate <- true
			synctest.Wait()
		}
		if got := running(); got != fewestBulks {
			t.Errorf("%d bulks at once after the engine asked for less, want %d", got, fewestBulks)
		}
		close(h.gate)
		wg.Wait()
		d.close()
	})
}

func TestDispatcher_DoesNotSendForThoseWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{gate: make(chan bool)}
		d := newDispatcher(h.send)
		var wg sync.WaitGroup
		for range fewestBulks {
			wg.Go(func() { _ = d.do(t.Context(), opsOf(1, 1), false) })
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := d.do(ctx, opsOf(7, 1), false); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(h.gate)
		wg.Wait()
		d.close()
		if got := h.sizes(); len(got) != fewestBulks {
			t.Errorf("bulks of %v documents, want none for the caller that left", got)
		}
	})
}
