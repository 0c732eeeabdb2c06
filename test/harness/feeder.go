package harness

import (
	"context"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
)

// Feeder writes lines into a pipe, in pieces of any size, until it has to
// stop or nobody reads any more. What the pipe took is known to the byte.
type Feeder struct {
	first uint64
	Sent  atomic.Int64 // bytes that the pipe took
	w     *os.File
	pace  func(context.Context, uint64) // waits while the reader is too far behind; nil: no one is
	stop  context.CancelFunc
	done  chan struct{}
}

// Feed starts to write the lines from first on.
func Feed(w *os.File, first uint64, pace func(context.Context, uint64)) *Feeder {
	ctx, stop := context.WithCancel(context.Background())
	f := &Feeder{first: first, w: w, pace: pace, stop: stop, done: make(chan struct{})}
	go f.run(ctx)
	return f
}

func (f *Feeder) run(ctx context.Context) {
	defer close(f.done)
	var b []byte
	for n := f.first; ; {
		if f.pace != nil {
			f.pace(ctx, n)
		}
		size := 1 + rand.IntN([]int{300, 5000, 64 << 10}[rand.IntN(3)])
		for ended := ctx.Err() != nil; len(b) < size && !ended; n++ {
			b = AppendLine(b, n)
		}
		if ctx.Err() != nil {
			size = len(b) // to the end of a line
		}
		took, err := f.w.Write(b[:size])
		f.Sent.Add(int64(took))
		b = b[:copy(b, b[took:])]
		if err != nil || ctx.Err() != nil && len(b) == 0 {
			return
		}
	}
}

// Stop writes the line that was begun to its end; the pipe stays open.
func (f *Feeder) Stop() {
	f.stop()
	<-f.done
}

// Finish is Stop, and closes the pipe.
func (f *Feeder) Finish() {
	f.Stop()
	_ = f.w.Close()
}

// Halt stops in the middle of whatever it writes; the pipe stays open.
func (f *Feeder) Halt() {
	f.stop()
	_ = f.w.SetWriteDeadline(time.Now())
	<-f.done
}

// End is behind the last line of which the pipe took at least one byte.
func (f *Feeder) End() uint64 {
	sent := f.Sent.Load()
	n := LineAt(f.first, sent)
	if Offset(n)-Offset(f.first) < sent {
		n++
	}
	return n
}
