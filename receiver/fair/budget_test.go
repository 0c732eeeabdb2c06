package fair

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestBudget_LeavesAsMuchAsANameHolds(t *testing.T) {
	b := New(100)
	take := func(name string, n int64) (times int) {
		for b.TryAcquire(name, n) {
			times++
		}
		return times
	}
	for i, want := range []int{50, 25, 12, 6, 3} { // each has half of what is left
		if got := take(strconv.Itoa(i), 1); got != want {
			t.Errorf("the name %d has %d, want %d", i, got, want)
		}
	}
	if b.TryAcquire("late", 5) || !b.TryAcquire("late", 4) {
		t.Error("a name that holds nothing has what is there, and no more")
	}
}

func TestBudget_AHogKeepsNobodyWaiting(t *testing.T) {
	b := New(100)
	hog := func() error { return b.Acquire(t.Context(), "hog", 20) }
	for range 2 {
		if err := hog(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range 3 {
		go func() { done <- b.Acquire(ctx, "hog", 20) }()
	}
	waitFor(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.names["hog"].queue) == 3 })
	for range 10 {
		if !b.TryAcquire("honest", 30) {
			t.Fatal("an honest name waits")
		}
		b.Release("honest", 30)
	}
	b.Release("hog", 20)
	if err := <-done; err != nil {
		t.Error(err)
	}
	cancel()
	for range 2 {
		if err := <-done; err == nil {
			t.Error("the hog has more than half")
		}
	}
	b.Release("hog", 40)
	if b.Free() != 100 || len(b.names) != 0 || b.waiting.Len() != 0 {
		t.Errorf("%d free, %d names, %d waiting", b.Free(), len(b.names), b.waiting.Len())
	}
}

func TestBudget_NamesAreServedInTurn(t *testing.T) {
	b := New(10)
	if !b.TryAcquire("first", 10) {
		t.Fatal("not all")
	}
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	for _, name := range []string{"a", "a", "a", "b", "c"} {
		waits := func() (n int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, a := range b.names {
				n += len(a.queue)
			}
			return n
		}
		before := waits()
		wg.Go(func() {
			if b.Acquire(t.Context(), name, 8) != nil {
				return
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			b.Release(name, 8)
		})
		waitFor(t, func() bool { return waits() > before })
	}
	b.Release("first", 10)
	wg.Wait()
	if got := fmt.Sprint(order); got != "[a b c a a]" {
		t.Errorf("got %s", got)
	}
	if b.Free() != 10 || len(b.names) != 0 {
		t.Errorf("%d free, %d names", b.Free(), len(b.names))
	}
}

func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}
