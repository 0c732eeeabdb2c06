package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsrelay/buffer"
)

// aged is a queue of n blocks of 10,000 bytes, which came age ago; to be called
// in a bubble.
func aged(t *testing.T, n int, age time.Duration) *buffer.Queue {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), t.TempDir(), buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		r, err := q.Append(t.Context(), []byte(strings.Repeat("x", 9999)+"\n"), 1, buffer.Origin{})
		if err == nil {
			err = q.WaitDurable(t.Context(), r.End)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(age)
	return q
}

// take takes n blocks and says how long that took.
func take(t *testing.T, q Queue, n int) time.Duration {
	t.Helper()
	start := time.Now()
	for range n {
		if _, err := next(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start)
}

func TestPaced_GivesABacklogOutAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := aged(t, 11, time.Minute)
		defer q.Close(context.Background())
		p := Paced(q, 5000) // two seconds for each block
		if got, want := take(t, p, 11), 20*time.Second; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		if err := p.Rewind(q.Stats().Cursor); err != nil { // what is sent again counts again
			t.Fatal(err)
		}
		if got, want := take(t, p, 1), 2*time.Second; got != want {
			t.Errorf("again: took %v, want %v", got, want)
		}
	})
}

func TestPaced_LeavesNewLinesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := aged(t, 11, 5*time.Second)
		defer q.Close(context.Background())
		if got := take(t, Paced(q, 1), 11); got != 0 {
			t.Errorf("took %v", got)
		}
	})
}

func TestPaced_KeepsWhatIsTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := aged(t, 3, time.Minute)
		defer q.Close(context.Background())
		p := Paced(q, 5000)
		take(t, p, 1)
		if b, err := p.TryNext(); b != nil || err != nil {
			t.Errorf("too early, got %v, %v", b, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b, err := next(ctx, p); b != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait that ends: %v, %v", b, err)
		}
		time.Sleep(time.Second)
		if b, err := p.TryNext(); err != nil || b == nil || b.Range().First != 2 {
			t.Errorf("in time, got %v, %v", b, err)
		}
		_, _ = p.TryNext() // holds the third
		if err := p.Rewind(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if b, err := p.TryNext(); err != nil || b == nil || b.Range().First != 1 {
			t.Errorf("after a rewind, got %v, %v", b, err)
		}
	})
}
