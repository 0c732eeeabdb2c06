package elastic

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Limits of one bulk, and how many may be under way.
const (
	maxBulkBytes = 5 << 20
	maxBulkDocs  = 5000
	minBulkDocs  = 500 // fewer only if no more wait
	fewestBulks  = 2
	mostBulks    = 8
)

var errClosed = errors.New("the store is closed")

// call is one caller's documents in the dispatcher.
type call struct {
	left  int           // without outcome; guarded by dispatcher.mu
	alone bool          // not to be merged with others'
	done  chan struct{} // closed when left is 0
}

// dispatcher merges the documents of concurrent callers into bulks. While fewer
// bulks are under way than the limit, a document leaves at once; beyond it
// documents gather. The limit grows by one for each round of bulks that the
// engine took while more were waiting, up to one more than it has threads for them,
// and is halved when it asks for less.
type dispatcher struct {
	send func(context.Context, []*op) (throttled bool)
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup // of the bulks under way

	mu      sync.Mutex
	queue   []*op
	running int
	limit   float64
	most    float64 // that limit may be
}

func newDispatcher(send func(context.Context, []*op) bool) *dispatcher {
	d := &dispatcher{send: send, limit: fewestBulks, most: mostBulks}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// engineThreads says how many bulks the engine works on at once: more only wait there,
// and cost it time. One more is on its way meanwhile.
func (d *dispatcher) engineThreads(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.most = float64(min(mostBulks, max(fewestBulks, n+1)))
	d.limit = min(d.limit, d.most)
}

// do sends the documents, if need be apart from those of others, and waits until
// each has its outcome. After an error the documents are not the caller's any more: they
// may still be under way.
func (d *dispatcher) do(ctx context.Context, ops []*op, alone bool) error {
	c := &call{left: len(ops), alone: alone, done: make(chan struct{})}
	for _, o := range ops {
		o.call = c
	}
	d.mu.Lock()
	if d.ctx.Err() != nil {
		d.mu.Unlock()
		return errClosed
	}
	d.queue = append(d.queue, ops...)
	d.startLocked()
	d.mu.Unlock()

	select {
	case <-c.done:
		return nil
	case <-d.ctx.Done():
		return errClosed
	case <-ctx.Done():
		d.mu.Lock()
		d.queue = slices.DeleteFunc(d.queue, func(o *op) bool { return o.call == c })
		d.mu.Unlock()
		return context.Cause(ctx)
	}
}

// close ends the bulks under way and waits for them.
func (d *dispatcher) close() {
	d.mu.Lock()
	d.stop()
	d.queue = nil
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *dispatcher) startLocked() {
	for len(d.queue) > 0 && d.running < int(d.limit) {
		bulk := d.nextBulkLocked()
		d.running++
		d.wg.Go(func() { d.run(bulk) })
	}
}

// nextBulkLocked takes what fits into one bulk, at least one document. What waits
// is shared among the bulks that may start: an engine works on one bulk of one
// index with one thread.
func (d *dispatcher) nextBulkLocked() []*op {
	free := int(d.limit) - d.running
	share := min(maxBulkDocs, max(minBulkDocs, (len(d.queue)+free-1)/free))
	n, size := 0, 0
	first := d.queue[0].call
	for n < len(d.queue) && (d.queue[n].call == first || !first.alone && !d.queue[n].call.alone) && n < share &&
		(n == 0 || size+len(d.queue[n].body) <= maxBulkBytes) {
		size += len(d.queue[n].body)
		n++
	}
	bulk := slices.Clone(d.queue[:n])
	d.queue = slices.Delete(d.queue, 0, n)
	return bulk
}

func (d *dispatcher) run(bulk []*op) {
	throttled := d.send(d.ctx, bulk)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	switch {
	case throttled:
		d.limit = max(fewestBulks, d.limit/2)
	case len(d.queue) > 0:
		d.limit = min(d.most, d.limit+1/d.limit)
	}
	for _, o := range bulk {
		if o.call.left--; o.call.left == 0 {
			close(o.call.done)
		}
	}
	if d.ctx.Err() == nil {
		d.startLocked()
	}
}
