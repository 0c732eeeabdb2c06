package main

import (
	"os"
	"time"
)

// chain carries lines from a sender to the file "out" of a receiver.
type chain struct {
	send    func(b *sandbox, port int) (*sender, error)
	receive func(b *sandbox, port int) (*process, error)
	queue   string                 // the directory of the sender's queue
	export  func(b *sandbox) error // writes what the receiver has to the file out; nil: it is there

	// receipts, if the receiver gives any, makes a port to send to instead, and
	// counts the lines that were acknowledged over it.
	receipts func(b *sandbox, port int) (via int, count func() (int, error), err error)
}

// into gives the chain with another store.
func (c chain) into(store string, export func(b *sandbox) error) chain {
	c.receive, c.export = receiveTo(store), export
	return c
}

// sender is the sending end while it runs.
type sender struct {
	*process
	input  *os.File     // where lines are written
	accept func() error // waits until all that was written is in its hands

	// arrive waits until n lines have arrived, as far as the sender knows; or
	// has stalled.
	arrive func(n int) error
}

// awaitBytes waits until out is as long as n lines are.
func (b *sandbox) awaitBytes(n int) error {
	return b.awaitCount(b.in.offset(n), func() (int, error) { return size(b.path("out")) })
}

// conclude compares what arrived. That the chain had stalled shows there.
func (b *sandbox) conclude(v values, n int, err error) (values, verdict, error) {
	if err != nil && !stalled(err) {
		return nil, verdict{}, err
	}
	verdict, err := b.checkOut(n)
	return v, verdict, err
}

// endToEnd feeds n lines as fast as they are taken.
func endToEnd(c chain) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		s, r, err := b.both(c)
		if err != nil {
			return nil, verdict{}, err
		}
		sBefore, rBefore, peak, start := s.usage().cpu, r.usage().cpu, watchPeak(s.process), time.Now()
		err = b.in.feed(s.input, 0, n)
		if err == nil {
			err = s.arrive(n)
		}
		v := mean(n, time.Since(start).Seconds())
		perMillion := million / float64(n)
		v["cpu sender"] = (s.usage().cpu - sBefore).Seconds() * perMillion
		v["cpu receiver"] = (r.usage().cpu - rBefore).Seconds() * perMillion
		v["cpu"] = v["cpu sender"] + v["cpu receiver"]
		v["rss"] = mib(peak())
		return b.conclude(v, n, err)
	}
}

// both starts the two ends of a chain.
func (b *sandbox) both(c chain) (*sender, *process, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	r, err := c.receive(b, port)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.send(b, port)
	settle()
	return s, r, err
}

// outage feeds n lines while there is no receiver, and then starts it.
func outage(c chain) func(*sandbox, int) (values, verdict, error) {
	return outageFed(c, (*input).feed)
}

// pacedOutage feeds rate lines a second.
func pacedOutage(c chain, rate int) func(*sandbox, int) (values, verdict, error) {
	return outageFed(c, func(in *input, w *os.File, from, to int) error { return in.feedPaced(w, from, to, rate) })
}

func outageFed(c chain, feed func(*input, *os.File, int, int) error) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		port, err := freePort()
		if err != nil {
			return nil, verdict{}, err
		}
		v, s, err := b.pileUp(c, port, n, feed)
		if err != nil {
			return nil, verdict{}, err
		}
		if _, err := c.receive(b, port); err != nil {
			return nil, verdict{}, err
		}
		if s.ended() {
			if s, err = c.send(b, port); err != nil {
				return nil, verdict{}, err
			}
		}
		first := 0
		err = b.awaitCount(1, func() (int, error) { // when it has reconnected
			first, err = size(b.path("out"))
			return first, err
		})
		start := time.Now()
		if err == nil {
			err = s.arrive(n)
		}
		if rest := 1 - float64(first)/float64(b.in.offset(n)); rest > 0.2 { // else it was too quick
			v["drain"] = float64(n) * rest / time.Since(start).Seconds()
		}
		return b.conclude(v, n, err)
	}
}

// pileUp makes a backlog of n lines for a receiver that is not there yet.
func (b *sandbox) pileUp(c chain, port, n int, feed func(*input, *os.File, int, int) error) (values, *sender, error) {
	s, err := c.send(b, port)
	if err != nil {
		return nil, nil, err
	}
	settle()
	start := time.Now()
	if err := feed(b.in, s.input, 0, n); err != nil {
		return nil, nil, err
	}
	if err := s.accept(); err != nil {
		return nil, nil, err
	}
	took := time.Since(start).Seconds()
	disk, err := diskUse(b.path(c.queue))
	return values{"accept": float64(n) / took, "disk": float64(disk) / float64(n)}, s, err
}

// intakeWhileDraining writes n/2 lines, one a write, while as many drain.
func intakeWhileDraining(c chain) func(*sandbox, int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		port, err := freePort()
		if err != nil {
			return nil, verdict{}, err
		}
		if _, _, err := b.pileUp(c, port, n/2, (*input).feed); err != nil {
			return nil, verdict{}, err
		}
		if _, err := c.receive(b, port); err != nil {
			return nil, verdict{}, err
		}
		s, err := c.send(b, port)
		if err != nil {
			return nil, verdict{}, err
		}
		start := time.Now() // at once: it drains already
		err = b.in.feedEach(s.input, n/2, n)
		v := mean(n-n/2, time.Since(start).Seconds())
		if err == nil {
			err = s.arrive(n)
		}
		return b.conclude(v, n, err)
	}
}

// watchPeak looks at the memory of a process until its result is called: of
// what has ended the kernel does not tell it for each of the family.
func watchPeak(p *process) (stop func() int64) {
	stopped, peak := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			most = max(most, p.usage().peak)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-stopped:
				peak <- max(most, p.usage().peak)
				return
			}
		}
	}()
	return func() int64 {
		close(stopped)
		return <-peak
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
