package receiver

import (
	"container/list"
	"crypto/tls"
	"net"
	"sync"
)

// Door is a listener for a server with a Receiver in it. Of the connections
// that have not become a session yet, it keeps the newest; one more shuts the
// oldest out. So strangers who connect and then say nothing, or say it slowly,
// cost a bounded number of descriptors and buffers, and keep nobody out: who
// knows what to say is through the door in a moment.
type Door struct {
	net.Listener
	limit int

	mu      sync.Mutex // guards the fields below
	waiting *list.List // of *caller, the oldest in front
}

// NewDoor makes a door of ln with room for limit connections.
func NewDoor(ln net.Listener, limit int) *Door {
	return &Door{Listener: ln, limit: limit, waiting: list.New()}
}

// Accept is net.Listener's.
func (d *Door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &caller{Conn: conn, door: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.place = d.waiting.PushBack(c)
	if d.waiting.Len() > d.limit {
		oldest := d.waiting.Remove(d.waiting.Front()).(*caller)
		oldest.Conn.Close()
	}
	return c, nil
}

// caller is a connection before it is a session.
type caller struct {
	net.Conn
	door  *Door
	place *list.Element
}

// leave takes c off the list; a second time it does nothing.
func (c *caller) leave() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.waiting.Remove(c.place)
}

// Close is net.Conn's.
func (c *caller) Close() error {
	c.leave()
	return c.Conn.Close()
}

// admit lets a connection through the door, if it came to one.
func admit(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*caller); ok {
		c.leave()
	}
}
