// Package connlimit keeps strangers from filling a server that cannot know who comes
// before it has listened to him.
package connlimit

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// Limiter is a listener with places for the connections that have not been admitted
// yet. When all are taken, the one that has been here longest goes, but not
// before it has stayed a while: who knows what to say is through in a moment,
// unless so many come at once that everybody's handshake is slow, and then the
// next wait in the kernel's queue. So strangers who connect and then say nothing,
// or say it slowly, cost a bounded number of descriptors and buffers. They keep
// nobody out as long as fewer come than there are places in the time of a stay;
// when more do, the kernel's queue fills, and who comes in is a matter of luck.
type Limiter struct {
	net.Listener
	places      int
	authTimeout time.Duration
	left        chan struct{} // has something when a caller has left

	mu      sync.Mutex // guards the fields below
	callers *list.List // of *caller, who came first in front
}

// New makes a door of ln with so many places; nobody is shut out before he has
// had one for the duration stay. One goroutine may call its Accept.
func New(ln net.Listener, places int, stay time.Duration) *Limiter {
	return &Limiter{Listener: ln, places: places, authTimeout: stay, left: make(chan struct{}, 1), callers: list.New()}
}

// Accept is net.Listener's.
func (d *Limiter) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for wait := d.makeRoom(); wait > 0; wait = d.makeRoom() {
		select {
		case <-d.left:
		case <-time.After(wait):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &caller{Conn: conn, limiter: d, since: time.Now()}
	c.place = d.callers.PushBack(c)
	return c, nil
}

// makeRoom makes sure that a place is free, or says how long nobody may be shut
// out.
func (d *Limiter) makeRoom() (wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.callers.Len() < d.places {
		return 0
	}
	first := d.callers.Front().Value.(*caller)
	if wait = d.authTimeout - time.Since(first.since); wait <= 0 {
		d.callers.Remove(first.place)
		first.Conn.Close()
	}
	return wait
}

// caller is a connection before it is admitted.
type caller struct {
	net.Conn
	limiter *Limiter
	place   *list.Element
	since   time.Time
}

// release gives c's place away; a second time it does nothing.
func (c *caller) release() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.limiter.callers.Remove(c.place)
	select {
	case c.limiter.left <- struct{}{}:
	default: // Accept will look anyway
	}
}

// Close is net.Conn's.
func (c *caller) Close() error {
	c.release()
	return c.Conn.Close()
}

// Admit lets a connection through the door, if it came to one, and so gives its
// place away. It may be the TLS connection over what Accept gave.
func Admit(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*caller); ok {
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
