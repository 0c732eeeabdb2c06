package relay

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// Dialect is what is spoken over a WebSocket, where that is not wsrelay.v1. The
// relay waits for a record, connects, backs off and reports in any case.
type Dialect interface {
	// Subprotocol is what the server must agree to; "": none.
	Subprotocol() string
	// Send sends first, and then what the queue has, until ctx or the connection
	// ends or nothing has moved for l.IdleClose. The fault is nil if the end was
	// our own wish. Whatever was not acknowledged by then is given out again.
	Send(ctx context.Context, l *Link, first *buffer.Block) *Fault
	// Probe finds out, without a line, whether Send could work, and returns what it
	// has seen.
	Probe(ctx context.Context, l *Link) (found string, fault *Fault)
}

// Link is an open WebSocket for a Dialect to use. One goroutine writes; the
// relay closes it.
type Link struct {
	Log       *slog.Logger
	IdleClose time.Duration
	Ping      time.Duration // between pings; 2.5 times this without a byte ends the connection
	Host      string        // who sends
	Queue     Blocks        // what is to be sent

	r        *Relay
	conn     *websocket.Conn
	wire     *wire
	url      *url.URL
	receipts int

	gone chan struct{} // closed when nobody reads
	err  error         // why; before gone is closed it is its reader's
}

func (r *Relay) link(conn *websocket.Conn, w *wire, u *url.URL) *Link {
	conn.SetReadLimit(0) // what is too long is cut, in Listen
	w.guard(r.o.Ping * 5 / 2)
	gone := make(chan struct{})
	return &Link{
		Log: r.log.With("url", logURL(u)), IdleClose: r.o.IdleClose, Ping: r.o.Ping, Host: r.o.Host, Queue: r.q,
		r: r, conn: conn, wire: w, url: u, gone: gone,
	}
}

// Listen has hear called, by a goroutine of its own, for each message and each
// pong: kind is a websocket message type. The connection is not read while hear
// does not return, and a server may wait for us to read. Of a message of more
// than limit bytes hear gets the beginning. To be called once, and first.
func (l *Link) Listen(limit int64, hear func(kind int, msg []byte)) {
	l.conn.SetPongHandler(func(payload string) error {
		hear(websocket.PongMessage, []byte(payload))
		return nil
	})
	go func() {
		defer close(l.gone)
		for {
			kind, from, err := l.conn.NextReader()
			var msg []byte
			if err == nil {
				msg, err = io.ReadAll(io.LimitReader(from, limit))
			}
			if err != nil {
				l.err = err
				return
			}
			hear(kind, msg)
		}
	}()
}

// Gone is closed when the connection has ended; Lost then gives the reason.
func (l *Link) Gone() <-chan struct{} { return l.gone }

// Lost is why the connection has ended, once Gone is closed.
func (l *Link) Lost() *Fault { return goneFault(l.err) }

// Write sends one message, in one frame up to a length of 1 MiB.
func (l *Link) Write(kind int, msg []byte) *Fault {
	return l.writeFault(l.conn.WriteMessage(kind, msg))
}

// WritePing sends a ping of at most 125 bytes.
func (l *Link) WritePing(payload string) *Fault {
	return l.writeFault(l.conn.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(l.Ping)))
}

// writeFault finds out why a write failed: the server may have said it.
func (l *Link) writeFault(err error) *Fault {
	if err == nil {
		return nil
	}
	select {
	case <-l.gone:
		return l.Lost()
	case <-time.After(l.r.pace.goodbye):
		return lostFault(err)
	}
}

// Ready reports that the server is known to understand us.
func (l *Link) Ready(store, guarantee string) {
	l.r.status.set(StateConnected, logURL(l.url))
	l.r.report.welcomed(l.url, &handshake.Welcome{Store: store, Guarantee: guarantee})
}

// Sent counts a message that carries the records of r, or their gap.
func (l *Link) Sent(r buffer.Range, gap *buffer.Gap, bytes int) {
	l.r.status.sent(&batch{seq: r.First, end: r.End, gap: gap}, bytes)
}

// Ack moves the queue's cursor by the receipt rec, for n records more.
func (l *Link) Ack(rec buffer.Receipt, n uint64) *Fault {
	if err := l.r.q.Ack(rec.Seq, rec); err != nil {
		return QueueFault(err)
	}
	l.receipts++
	l.r.status.receipt(n, 0)
	st := l.r.q.Stats()
	l.r.report.acknowledged(l.url, st.Head-st.Cursor)
	return nil
}

// lend lets use have the connection, and closes it afterwards.
func (l *Link) lend(ctx context.Context, use func(context.Context) *Fault) *Fault {
	stop := l.wire.closeAfter(ctx, l.r.pace.goodbye)
	defer stop()
	fault := use(ctx)
	cut := time.AfterFunc(l.r.pace.goodbye, func() { l.wire.Close() })
	defer cut.Stop()
	if !l.r.sayGoodbye(l.conn, fault) {
		l.wire.Close()
	}
	<-l.gone
	l.wire.Close()
	return fault
}
