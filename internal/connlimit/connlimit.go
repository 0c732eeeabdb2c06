// Package connlimit limits the connections of a server that have not been
// authenticated yet.
package connlimit

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// Limiter is a listener with a limited number of connections that have not been
// admitted yet. When the limit is reached, the oldest of them is closed, but not
// before it has had the authentication timeout: a legitimate client is admitted
// much faster. If so many connect at once that every handshake is slow, further
// connections wait in the kernel's queue. So clients that connect and send
// nothing, or send slowly, use a bounded number of descriptors and buffers. They
// keep no legitimate client out while fewer of them connect within the timeout
// than the limit allows; with more, the kernel's queue fills, and it is a matter
// of chance which connection is accepted.
type Limiter struct {
	net.Listener
	limit       int
	authTimeout time.Duration
	left        chan struct{} // has something when a pending connection has left

	mu      sync.Mutex // guards the fields below
	pending *list.List // of *pendingConn, the oldest in front
}

// New limits ln to so many connections that are not admitted; none is closed
// before authTimeout. One goroutine may call its Accept.
func New(ln net.Listener, limit int, authTimeout time.Duration) *Limiter {
	return &Limiter{
		Listener: ln, limit: limit, authTimeout: authTimeout, left: make(chan struct{}, 1),
		pending: list.New(),
	}
}

// Accept is net.Listener's.
func (d *Limiter) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for wait := d.makePlace(); wait > 0; wait = d.makePlace() {
		select {
		case <-d.left:
		case <-time.After(wait):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &pendingConn{Conn: conn, limiter: d, since: time.Now()}
	c.place = d.pending.PushBack(c)
	return c, nil
}

// makePlace makes sure that a place is free, or returns how long no connection may
// be closed.
func (d *Limiter) makePlace() (wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending.Len() < d.limit {
		return 0
	}
	first := d.pending.Front().Value.(*pendingConn)
	if wait = d.authTimeout - time.Since(first.since); wait <= 0 {
		d.pending.Remove(first.place)
		first.Conn.Close()
	}
	return wait
}

// pendingConn is a connection before it is admitted.
type pendingConn struct {
	net.Conn
	limiter *Limiter
	place   *list.Element
	since   time.Time
}

// release makes c's place available; a second time it does nothing.
func (c *pendingConn) release() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.limiter.pending.Remove(c.place)
	select {
	case c.limiter.left <- struct{}{}:
	default: // Accept will look anyway
	}
}

// Close is net.Conn's.
func (c *pendingConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// Admit marks a connection as authenticated: if a Limiter accepted it, it counts
// no longer. It may be the TLS connection over what Accept returned.
func Admit(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*pendingConn); ok {
		c.release()
	}
}

type connKey struct{}

// Context puts a connection into the context of its requests, for AdmitFrom. It is
// for http.Server.ConnContext.
func Context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// AdmitFrom is Admit for the connection of a request.
func AdmitFrom(ctx context.Context) {
	if conn, ok := ctx.Value(connKey{}).(net.Conn); ok {
		Admit(conn)
	}
}
