package main

import (
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// link is a proxy in front of wsreceive. It counts the bytes that go there, and looks
// for the receipts which come back: {"t":"ack","seq":N,…} says that all lines below N
// are final, and the first line is number 1.
type link struct {
	port    int // where it listens
	to      int
	rate    int // bytes a second to the receiver; 0: as fast as may be
	carried atomic.Int64
	seq     atomic.Int64
	sending sync.WaitGroup
}

// newLink ends with the sandbox.
func (b *sandbox) newLink(to, rate int) (*link, error) {
	listener, err := net.Listen("tcp", loopback(0))
	if err != nil {
		return nil, err
	}
	b.links = append(b.links, listener)
	l := &link{port: listener.Addr().(*net.TCPAddr).Port, to: to, rate: rate}
	l.seq.Store(1)
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			l.serve(from.(*net.TCPConn))
		}
	}()
	return l, nil
}

// serve carries one connection until either end closes it.
func (l *link) serve(from *net.TCPConn) {
	to, err := net.Dial("tcp", loopback(l.to))
	if err != nil { // the receiver is not there
		_ = from.Close()
		return
	}
	if l.rate > 0 {
		_ = from.SetReadBuffer(sip) // what waits for the link waits at the sender
	}
	l.sending.Go(func() { l.send(to.(*net.TCPConn), from) })
	go l.answer(from, to)
}

const sip = 16 << 10

// send lets the kernel move the bytes, no faster than the link.
func (l *link) send(to, from *net.TCPConn) {
	defer to.Close() //nolint:errcheck // the other end notices
	piece := int64(1 << 20)
	if l.rate > 0 {
		piece = sip
	}
	for free := time.Now(); ; {
		n, err := io.CopyN(to, from, piece)
		l.carried.Add(n)
		if err != nil {
			return
		}
		if l.rate > 0 {
			if now := time.Now(); free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
			time.Sleep(time.Until(free))
		}
	}
}

// answer brings back what the receiver says.
func (l *link) answer(to, from net.Conn) {
	defer to.Close()
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		for _, found := range receipt.FindAllSubmatch(buf[:n], -1) {
			seq, _ := strconv.ParseInt(string(found[1]), 10, 64) // digits
			l.seq.Store(seq)
		}
		if _, failed := to.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

// A receipt is some hundred bytes: it comes in one piece.
var receipt = regexp.MustCompile(`"ack"[^{]*?"seq":([0-9]+)`)

// acknowledged counts the lines that the receiver has given receipts for.
func (l *link) acknowledged() (int, error) { return int(l.seq.Load()) - 1, nil }

// bytes is what went to the receiver, once the sender has closed its connection.
func (l *link) bytes() int64 {
	l.sending.Wait()
	return l.carried.Load()
}
