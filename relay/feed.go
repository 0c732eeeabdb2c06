package relay

import (
	"context"

	"wsrelay/buffer"
)

// feed waits for the queue's next block in a goroutine of its own, so that
// the session can wait for the wire at the same time.
type feed struct {
	q      Queue
	got    chan fed
	cancel context.CancelFunc // nil: it does not wait
}

type fed struct {
	block *buffer.Block
	err   error
}

func (f *feed) waiting() bool { return f.cancel != nil }

// start begins to wait; what comes is taken from got, and then end is called.
func (f *feed) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	go func() {
		b, err := f.q.Next(ctx)
		f.got <- fed{b, err}
	}()
}

func (f *feed) end() {
	f.cancel()
	f.cancel = nil
}

// stop waits no longer. A block that has come is dropped: the queue must be
// rewound before it is asked again.
func (f *feed) stop() {
	if f.waiting() {
		f.end()
		<-f.got
	}
}
