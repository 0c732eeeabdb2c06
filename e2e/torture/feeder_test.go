package torture

import (
	"context"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
)

// feeder writes lines into a pipe, in pieces of any size, until it is told to
// stop or nobody reads any more.
type feeder struct {
	first uint64
	sent  atomic.Int64 // bytes that the pipe took
	w     *os.File
	pace  func(context.Context, uint64) // waits while the reader is too far behind; nil: no one is
	stop  context.CancelFunc
	done  chan struct{}
}

func feed(w *os.File, first uint64, pace func(context.Context, uint64)) *feeder {
	ctx, stop := context.WithCancel(context.Background())
	f := &feeder{first: first, w: w, pace: pace, stop: stop, done: make(chan struct{})}
	go f.run(ctx)
	return f
}

func (f *feeder) run(ctx context.Context) {
	defer close(f.done)
	var b []byte
	for n := f.first; ; {
		if f.pace != nil {
			f.pace(ctx, n)
		}
		size := 1 + rand.IntN([]int{300, 5000, 64 << 10}[rand.IntN(3)])
		for ended := ctx.Err() != nil; len(b) < size && !ended; n++ {
			b = appendLine(b, n)
		}
		if ctx.Err() != nil {
			size = len(b) // to the end of a line
		}
		took, err := f.w.Write(b[:size])
		f.sent.Add(int64(took))
		b = b[:copy(b, b[took:])]
		if err != nil || ctx.Err() != nil && len(b) == 0 {
			return
		}
	}
}

// finish writes the line that was begun to its end and closes the pipe.
func (f *feeder) finish() {
	f.stop()
	<-f.done
	_ = f.w.Close()
}

// halt stops in the middle of whatever it writes; the pipe stays open.
func (f *feeder) halt() {
	f.stop()
	_ = f.w.SetWriteDeadline(time.Now())
	<-f.done
}

// end is behind the last line of which the pipe took at least one byte.
func (f *feeder) end() uint64 {
	sent := f.sent.Load()
	n := lineAt(f.first, sent)
	if offset(n)-offset(f.first) < sent {
		n++
	}
	return n
}
