package connlimit

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// street is a listener and its clients.
type street struct {
	net.Listener
	conns chan net.Conn
}

func (s *street) Accept() (net.Conn, error) { return <-s.conns, nil }

// someone is a connection that knows whether it was shut out.
type someone struct {
	net.Conn
	closed bool
}

func (s *someone) Close() error { s.closed = true; return nil }

// comes makes one more connection to d. When it is accepted it is in inside.
func comes(d *Limiter) (s *someone, inside <-chan net.Conn) {
	s, in := new(someone), make(chan net.Conn, 1)
	go func() {
		c, _ := d.Accept()
		in <- c
	}()
	d.Listener.(*street).conns <- s
	synctest.Wait()
	return s, in
}

func TestDoor_NobodyIsShutOutBeforeHisTime(t *testing.T) {
	const stay = 2 * time.Second
	for name, tt := range map[string]struct {
		leave func(second net.Conn)
		first bool          // is shut out
		waits time.Duration // the third
	}{
		"nobody leaves":            {func(net.Conn) {}, true, stay},
		"admitted":                 {Admit, false, time.Second},
		"admitted over TLS":        {func(c net.Conn) { Admit(tls.Server(c, nil)) }, false, time.Second},
		"closed":                   {func(c net.Conn) { c.Close() }, false, time.Second},
		"admitted, and closed":     {func(c net.Conn) { Admit(c); c.Close() }, false, time.Second},
		"a remote client":          {func(net.Conn) { Admit(new(someone)) }, true, stay},
		"the wire of who was here": {func(c net.Conn) { c.(*caller).Conn.Close() }, true, stay},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := New(&street{conns: make(chan net.Conn)}, 2, stay)
				began := time.Now()
				first, _ := comes(d)
				_, inside := comes(d)
				third, late := comes(d) // all places are taken
				time.Sleep(time.Second)
				tt.leave(<-inside)
				<-late
				if waited := time.Since(began); waited != tt.waits || first.closed != tt.first || third.closed {
					t.Errorf("the third has waited %v, the first is shut out: %t, the third: %t; want %v, %t, false",
						waited, first.closed, third.closed, tt.waits, tt.first)
				}
				if n := d.callers.Len(); n != 2 {
					t.Errorf("%d places are taken, want 2", n)
				}
			})
		})
	}
}
