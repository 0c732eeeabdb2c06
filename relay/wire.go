package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// chunk is how much is written under one deadline.
const chunk = 64 << 10

// aliveBytes is the size from which a write that goes through counts as a
// sign of life.
const aliveBytes = 1 << 10

// maxGreeting is what a peer may say before there is a WebSocket, in bytes: its
// part of TLS, and the answer to the upgrade, which net/http reads without a
// limit.
const maxGreeting = 256 << 10

var errEndlessAnswer = errors.New("its answer does not end")

// wire is the TCP connection below TLS and WebSocket. Once guarded, it gives
// up when the peer has been silent for too long, where every byte counts, be
// it in the middle of a frame; and a large write may take as long as it needs
// while it moves.
//
// A large write that goes through is a sign of life too: on a slow link
// neither pings nor receipts get past it. It cannot hide a dead peer, for the
// window stops the writing.
type wire struct {
	net.Conn
	heard   int          // bytes, while it is not guarded
	silence atomic.Int64 // nanoseconds; 0: not guarded, the caller's deadlines count
}

type netDial func(ctx context.Context, network, addr string) (net.Conn, error)

var dialNet netDial = new(net.Dialer).DialContext

// guard ends reads and writes after d without a sign of life.
func (w *wire) guard(d time.Duration) {
	w.silence.Store(int64(d))
	_ = w.SetReadDeadline(time.Now().Add(d))
}

func (w *wire) Read(p []byte) (int, error) {
	if d := w.silence.Load(); d > 0 {
		_ = w.SetReadDeadline(time.Now().Add(time.Duration(d)))
		return w.Conn.Read(p)
	}
	if w.heard > maxGreeting {
		return 0, errEndlessAnswer
	}
	n, err := w.Conn.Read(p)
	w.heard += n
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	d := time.Duration(w.silence.Load())
	if d == 0 {
		return w.Conn.Write(p)
	}
	done := 0
	for {
		_ = w.SetWriteDeadline(time.Now().Add(d))
		n, err := w.Conn.Write(p[done:min(done+chunk, len(p))])
		done += n
		if n >= aliveBytes {
			_ = w.SetReadDeadline(time.Now().Add(d))
		}
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// closeAfter closes the connection some time after ctx has ended: a write to a peer
// that has stopped reading must not outlive ctx by more.
func (w *wire) closeAfter(ctx context.Context, d time.Duration) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { w.Close() })
	})
}

// loopback reports whether the peer is on this host.
func (w *wire) loopback() bool {
	a, ok := w.RemoteAddr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// under finds the wire below what gorilla made of it.
func wireOf(c net.Conn) *wire {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	w, _ := c.(*wire)
	return w
}
