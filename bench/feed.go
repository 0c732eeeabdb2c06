package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// largeWrite is what a program that hurries writes at once.
const largeWrite = 256 << 10

// feed writes lines from … to in large pieces.
func (in *input) feed(w *os.File, from, to int) error {
	for b := in.lines(from, to); len(b) > 0; {
		n, err := w.Write(b[:min(len(b), largeWrite)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// feedEach writes each line by a system call of its own, as most programs do.
func (in *input) feedEach(w *os.File, from, to int) error {
	fd := int(w.Fd()) // which makes it wait in the call itself
	for k := from; k < to; k++ {
		for b := in.lines(k, k+1); len(b) > 0; {
			n, err := unix.Write(fd, b)
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

// feedPaced writes rate lines a second.
func (in *input) feedPaced(w *os.File, from, to, rate int) error {
	start := time.Now()
	for k := from; k < to; {
		due := min(to, from+int(time.Since(start).Seconds()*float64(rate)))
		if err := in.feedEach(w, k, due); err != nil {
			return err
		}
		k = due
		time.Sleep(time.Millisecond)
	}
	return nil
}
