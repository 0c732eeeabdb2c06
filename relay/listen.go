package relay

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/connlimit"
)

// The other direction: receivers dial, and the relay listens. Only who opens
// the connection changes. The sender speaks first as ever, and one receiver is
// served at a time; another one is asked to try again later.

// listen lets receivers dial until ctx ends.
func (r *Relay) listen(ctx context.Context) {
	for ctx.Err() == nil {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", r.o.Listen)
		if err == nil {
			err = r.answer(ctx, ln)
		}
		if ctx.Err() != nil {
			return
		}
		fault := permanent("cannot listen", "another program, or another wsrelay, may have the address; --listen takes any other", err)
		delay := r.backoff.NextBackOff()
		r.status.failed(StateWaiting, fault, delay)
		r.report.lost(fault, &url.URL{Scheme: "ws", Host: r.o.Listen, Path: listenPath}, delay)
		sleep(ctx, delay)
	}
}

// listenPath is where receivers find a relay that listens.
const listenPath = "/relay"

// answer serves those who come to ln until ctx, or ln, ends; the error is ln's.
func (r *Relay) answer(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newAcceptor(ctx, r, ln.Addr())
	ln = wireListener{connlimit.New(ln, maxCallers, r.pace.minSession)}
	if h.url.Scheme == "wss" {
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: h.tls})
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+listenPath, h)
	srv := &http.Server{
		Handler: mux, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: r.pace.dial, ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	srv.SetKeepAlivesEnabled(false) // who is refused goes
	r.log.Info("listening", "url", h.url.String())
	h.missing(0)
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- srv.Serve(ln) })
	err := h.watch(failed)
	cancel()
	_ = srv.Close() // its listener's error says nothing new
	serving.Wait()
	h.close()
	return err
}

// acceptor is where receivers come to.
type acceptor struct {
	r   *Relay
	ctx context.Context // of the sessions
	url *url.URL        // ours
	up  websocket.Upgrader

	// place is held by the one session that is served, and by any other caller that
	// does what otherwise only Run's goroutine may.
	slot chan struct{}

	mu      sync.Mutex // guards the two below
	refusal throttle
	closed  bool
	running sync.WaitGroup // the sessions
}

func newAcceptor(ctx context.Context, r *Relay, addr net.Addr) *acceptor {
	h := &acceptor{
		r: r, ctx: ctx, url: &url.URL{Scheme: "ws", Host: addr.String(), Path: listenPath},
		slot: make(chan struct{}, 1), refusal: throttle{every: r.pace.quiet},
		up: websocket.Upgrader{
			HandshakeTimeout: r.pace.dial, WriteBufferSize: frameBytes, WriteBufferPool: &frameBuffers,
			Subprotocols: []string{handshake.Subprotocol},
			CheckOrigin:  func(*http.Request) bool { return true }, // decided in admit, in plainer words
		},
	}
	if r.o.Dial.CertFile != "" {
		h.url.Scheme = "wss"
	}
	return h
}

// watch waits until the server has failed or ctx has ended, and says now and
// then why nobody comes for the lines that wait.
func (h *acceptor) watch(failed <-chan error) error {
	tick := time.NewTicker(h.r.pace.quiet)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
		h.missing(h.r.q.Stats().Head)
	}
}

// missing notes that there is no session, and logs that if lines below due wait or no
// session is possible.
func (h *acceptor) missing(due uint64) {
	if !h.acquire() {
		return
	}
	defer h.release()
	fault := h.r.o.Dial.sound()
	if fault == nil {
		fault = transient("no receiver has dialled", "check wsreceive --dial on the receiving host, and the network in between", nil)
	}
	h.r.status.set(StateListening, h.url.String())
	h.r.status.failed(StateListening, fault, 0)
	if fault.permanent || h.r.q.Stats().Cursor < due {
		h.r.report.lost(fault, h.url, 0)
	}
}

func (h *acceptor) acquire() bool {
	select {
	case h.slot <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h *acceptor) release() { <-h.slot }

// close waits for the sessions, which h.ctx ends.
func (h *acceptor) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.running.Wait()
}

// begin runs a session in a goroutine of its own, unless the acceptor is closed: one
// of http.Server would hide a panic.
func (h *acceptor) begin(session func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.running.Go(session)
	}
	return !h.closed
}

// ServeHTTP begins a session, if the request may have one.
func (h *acceptor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	with, refusal := h.admit(req)
	if refusal != nil {
		refusal.answer(w)
		return
	}
	conn, err := h.up.Upgrade(w, req, nil)
	if err != nil {
		h.r.log.Debug("upgrade failed", "remote", req.RemoteAddr, "err", err)
		return
	}
	begun := h.begin(func() {
		if len(h.slot) > 0 { // a hello would end the session that it may have under way itself
			h.refuse(conn)
			return
		}
		h.serve(conn, with)
	})
	if !begun {
		conn.Close()
	}
}

// secondCaller is what a receiver hears while another one is served.
var secondCaller = &Fault{What: "another receiver is connected", code: websocket.CloseTryAgainLater}

// refuse takes leave of a caller that has not heard a word.
func (h *acceptor) refuse(conn *websocket.Conn) {
	soon := time.Now().Add(h.r.pace.goodbye)
	words := websocket.FormatCloseMessage(secondCaller.code, secondCaller.What)
	if conn.WriteControl(websocket.CloseMessage, words, soon) == nil && conn.SetReadDeadline(soon) == nil {
		_, _, _ = conn.NextReader() // its Close, or nothing
	}
	conn.Close()
}

// serve runs one session from hello to its end.
func (h *acceptor) serve(conn *websocket.Conn, with *credentials) {
	r, remote := h.r, conn.RemoteAddr().String()
	conn.SetReadLimit(handshake.MaxControl)
	s := newSession(r, conn, wireOf(conn.NetConn()), h.url, r.q.Stats().SID, with.key)
	s.log = s.log.With("remote", remote)
	entered := false
	s.claim = func() *Fault {
		if entered = h.acquire(); !entered {
			return secondCaller
		}
		connlimit.Admit(s.wire.Conn)
		r.warn(with.exposed)
		r.report.log = r.log.With("remote", remote)
		return nil
	}
	fault := s.run(h.ctx, s.serve)
	if !entered {
		h.refused(remote, fault)
		return
	}
	defer h.release()
	r.learn(s, fault)
	if err := r.q.Rewind(r.q.Stats().Cursor); err != nil && fault == nil {
		fault = queueFault(err)
	}
	if fault == nil || h.ctx.Err() != nil {
		r.status.set(StateListening, "")
		return
	}
	r.status.failed(StateListening, fault, 0)
	r.report.lost(fault, h.url, 0)
}

// refused logs why a caller was not served. Strangers can make this happen as
// often as they like, so there is a limit to it.
func (h *acceptor) refused(remote string, f *Fault) {
	if f == nil || f == secondCaller || h.ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	suppressed, ok := h.refusal.allow(time.Now())
	h.mu.Unlock()
	if !ok {
		return
	}
	h.r.log.Warn("receiver refused", "remote", remote, "err", f.Error(), "suppressed", suppressed,
		"effect", "it got no line", "hint", f.Hint)
}

// wireListener makes a wire of each connection.
type wireListener struct{ net.Listener }

func (l wireListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c}, nil
}

// callers are how many may be connected without having given a good welcome.
const maxCallers = 256
