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
		fault := Permanent("cannot listen", "another program, or another wsrelay, may have the address; --listen takes any other", err)
		delay := r.backoff.NextBackOff()
		r.status.failed(StateWaiting, fault, delay)
		r.report.lost(fault, &url.URL{Scheme: "ws", Host: r.o.Listen, Path: listenPath}, delay)
		sleep(ctx, delay)
	}
}

// listenPath is where receivers find a relay that listens.
const listenPath = "/relay"

// answer serves the receivers that connect to ln until ctx, or ln, ends; the error is
// ln's.
func (r *Relay) answer(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := newAcceptor(ctx, r, ln.Addr())
	ln = wireListener{connlimit.New(ln, maxCallers, r.pace.minSession)}
	if a.url.Scheme == "wss" {
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: a.tls})
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+listenPath, a)
	srv := &http.Server{
		Handler: mux, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: r.pace.dial, ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	srv.SetKeepAlivesEnabled(false) // a receiver that is refused has nothing more to ask
	r.log.Info("listening", "url", a.url.String())
	a.missing(0)
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- srv.Serve(ln) })
	err := a.watch(failed)
	cancel()
	_ = srv.Close() // its listener's error says nothing new
	serving.Wait()
	a.close()
	return err
}

// acceptor serves the receivers that dial.
type acceptor struct {
	r   *Relay
	ctx context.Context // of the sessions
	url *url.URL        // ours
	up  websocket.Upgrader

	// slot is held by the one session that is served, and by whatever else does what
	// otherwise only Run's goroutine may.
	slot chan struct{}

	mu      sync.Mutex // guards the two below
	refusal throttle
	closed  bool
	running sync.WaitGroup // the sessions
}

func newAcceptor(ctx context.Context, r *Relay, addr net.Addr) *acceptor {
	a := &acceptor{
		r: r, ctx: ctx, url: &url.URL{Scheme: "ws", Host: addr.String(), Path: listenPath},
		slot: make(chan struct{}, 1), refusal: throttle{every: r.pace.quiet},
		up: websocket.Upgrader{
			HandshakeTimeout: r.pace.dial, WriteBufferSize: frameBytes, WriteBufferPool: &frameBuffers,
			Subprotocols: []string{handshake.Subprotocol},
			CheckOrigin:  func(*http.Request) bool { return true }, // decided in admit, in plainer words
		},
	}
	if r.o.Dial.CertFile != "" {
		a.url.Scheme = "wss"
	}
	return a
}

// watch waits until the server has failed or ctx has ended, and logs from time to time
// why no receiver takes the lines that wait.
func (a *acceptor) watch(failed <-chan error) error {
	tick := time.NewTicker(a.r.pace.quiet)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
		a.missing(a.r.q.Stats().Head)
	}
}

// missing notes that there is no session, and logs that if lines below due wait or no
// session is possible.
func (a *acceptor) missing(due uint64) {
	if !a.acquire() {
		return
	}
	defer a.release()
	fault := a.r.o.Dial.sound()
	if fault == nil {
		fault = Transient("no receiver has dialled", "check wsreceive --dial on the receiving host, and the network in between", nil)
	}
	a.r.status.set(StateListening, a.url.String())
	a.r.status.failed(StateListening, fault, 0)
	if fault.permanent || a.r.q.Stats().Cursor < due {
		a.r.report.lost(fault, a.url, 0)
	}
}

func (a *acceptor) acquire() bool {
	select {
	case a.slot <- struct{}{}:
		return true
	default:
		return false
	}
}

func (a *acceptor) release() { <-a.slot }

// close waits for the sessions, which a.ctx ends.
func (a *acceptor) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.running.Wait()
}

// begin runs a session in a goroutine of its own, unless the acceptor is closed: one
// of http.Server would hide a panic.
func (a *acceptor) begin(session func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.running.Go(session)
	}
	return !a.closed
}

// ServeHTTP begins a session, if the request may have one.
func (a *acceptor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	with, refusal := a.admit(req)
	if refusal != nil {
		refusal.answer(w)
		return
	}
	conn, err := a.up.Upgrade(w, req, nil)
	if err != nil {
		a.r.log.Debug("upgrade failed", "remote", req.RemoteAddr, "err", err)
		return
	}
	begun := a.begin(func() {
		if len(a.slot) > 0 { // a hello would end the session that it may have under way itself
			a.refuse(conn)
			return
		}
		a.serve(conn, with)
	})
	if !begun {
		conn.Close()
	}
}

// secondCaller is what a receiver hears while another one is served.
var secondCaller = &Fault{What: "another receiver is connected", code: websocket.CloseTryAgainLater}

// refuse closes the connection of a caller to which nothing was sent.
func (a *acceptor) refuse(conn *websocket.Conn) {
	soon := time.Now().Add(a.r.pace.goodbye)
	words := websocket.FormatCloseMessage(secondCaller.code, secondCaller.What)
	if conn.WriteControl(websocket.CloseMessage, words, soon) == nil && conn.SetReadDeadline(soon) == nil {
		_, _, _ = conn.NextReader() // its Close, or nothing
	}
	conn.Close()
}

// serve runs one session from hello to its end.
func (a *acceptor) serve(conn *websocket.Conn, with *credentials) {
	r, remote := a.r, conn.RemoteAddr().String()
	conn.SetReadLimit(handshake.MaxControl)
	s := newSession(r, conn, wireOf(conn.NetConn()), a.url, r.q.Stats().SID, with.key)
	s.log = s.log.With("remote", remote)
	entered := false
	s.claim = func() *Fault {
		if entered = a.acquire(); !entered {
			return secondCaller
		}
		connlimit.Admit(s.wire.Conn)
		r.warn(with.exposed)
		r.report.log = r.log.With("remote", remote)
		return nil
	}
	fault := s.run(a.ctx, s.serve)
	if !entered {
		a.refused(remote, fault)
		return
	}
	defer a.release()
	r.learn(s, fault)
	if err := r.q.Rewind(r.q.Stats().Cursor); err != nil && fault == nil {
		fault = QueueFault(err)
	}
	if fault == nil || a.ctx.Err() != nil {
		r.status.set(StateListening, "")
		return
	}
	r.status.failed(StateListening, fault, 0)
	r.report.lost(fault, a.url, 0)
}

// refused logs why a caller was not served. Strangers can make this happen as
// often as they like, so there is a limit to it.
func (a *acceptor) refused(remote string, f *Fault) {
	if f == nil || f == secondCaller || a.ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	suppressed, ok := a.refusal.allow(time.Now())
	a.mu.Unlock()
	if !ok {
		return
	}
	a.r.log.Warn("receiver refused", "remote", remote, "err", f.Error(), "suppressed", suppressed,
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
