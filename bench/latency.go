package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// latency writes 100 lines a second, one at a time, and looks when each has
// arrived: of a chain with receipts when that comes back, of others when it is
// in the file, synced or not.
func latency(c chain) func(*sandbox, int) (values, verdict, error) {
	const every = 10 * time.Millisecond
	return func(b *sandbox, n int) (values, verdict, error) {
		s, count, err := b.counted(c)
		if err != nil {
			return nil, verdict{}, err
		}
		if err := b.in.feed(s.input, 0, 1); err != nil { // it connects
			return nil, verdict{}, err
		}
		if err := b.awaitCount(1, count); err != nil {
			return nil, verdict{}, err
		}
		settle()
		took, written := make([]float64, 0, n), make([]time.Time, 1, n)
		for start := time.Now(); len(took) < n-1; {
			now := time.Now()
			if k := len(written); k < n && now.Sub(start) >= time.Duration(k)*every {
				written = append(written, now)
				if err := b.in.feedEach(s.input, k, k+1); err != nil {
					return nil, verdict{}, err
				}
			}
			arrived, err := count()
			if err != nil {
				return nil, verdict{}, err
			}
			for now := time.Now(); len(took) < arrived-1; {
				took = append(took, now.Sub(written[len(took)+1]).Seconds())
			}
			if now.Sub(start) > time.Duration(n)*every+patience || b.ctx.Err() != nil {
				return b.conclude(nil, n, errStalled)
			}
			nap(30 * time.Microsecond)
		}
		v := values{"p50": quantile(took, 0.5) * 1000, "p99": quantile(took, 0.99) * 1000}
		err = s.arrive(n)
		if err == nil && c.export != nil {
			err = c.export(b)
		}
		return b.conclude(v, n, err)
	}
}

// nap sleeps for less than a timer of Go's does.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // a signal may shorten it
}

// counted starts a chain and counts the lines that have arrived.
func (b *sandbox) counted(c chain) (*sender, func() (int, error), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.receive(b, port); err != nil {
		return nil, nil, err
	}
	lines := 0
	count := func() (int, error) {
		n, err := size(b.path("out"))
		for n >= b.in.offset(lines+1) {
			lines++
		}
		return lines, err
	}
	if c.receipts != nil {
		if port, count, err = c.receipts(b, port); err != nil {
			return nil, nil, err
		}
	}
	s, err := c.send(b, port)
	return s, count, err
}

// tap counts the lines that were acknowledged over a link.
func tap(b *sandbox, port int) (via int, count func() (int, error), err error) {
	l, err := b.newLink(port, 0)
	if err != nil {
		return 0, nil, err
	}
	return l.port, l.acknowledged, nil
}
