package connlimit

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// fakeListener is a listener and its clients.
type fakeListener struct {
	net.Listener
	conns chan net.Conn
}

func (s *fakeListener) Accept() (net.Conn, error) { return <-s.conns, nil }

// fakeConn is a connection that knows whether it was shut out.
type fakeConn struct {
	net.Conn
	closed bool
}

func (s *fakeConn) Close() error { s.closed = true; return nil }

// connect makes one more connection to d. When it is accepted it is in accepted.
func connect(d *Limiter) (s *fakeConn, accepted <-chan net.Conn) {
	s, in := new(fakeConn), make(chan net.Conn, 1)
	go func() {
		c, _ := d.Accept()
		in <- c
	}()
	d.Listener.(*fakeListener).conns <- s
	synctest.Wait()
	return s, in
}

func TestLimiter_ClosesNoConnectionBeforeItsTimeout(t *testing.T) {
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
		"a remote client":          {func(net.Conn) { Admit(new(fakeConn)) }, true, stay},
		"the wire of who was here": {func(c net.Conn) { c.(*pendingConn).Conn.Close() }, true, stay},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := New(&fakeListener{conns: make(chan net.Conn)}, 2, stay)
				began := time.Now()
				first, _ := connect(d)
				_, accepted := connect(d)
				third, late := connect(d) // the limit is reached
				time.Sleep(time.Second)
				tt.leave(<-accepted)
				<-late
				if waited := time.Since(began); waited != tt.waits || first.closed != tt.first || third.closed {
					t.Errorf("the third has waited %v, the first is shut out: %t, the third: %t; want %v, %t, false",
						waited, first.closed, third.closed, tt.waits, tt.first)
				}
				if n := d.pending.Len(); n != 2 {
					t.Errorf("%d connections are pending, want 2", n)
				}
			})
		})
	}
}
