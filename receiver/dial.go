package receiver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/retry"
)

// Dialer keeps a session with a relay that listens. Only who opens the
// connection differs from a sender that dials: the relay speaks first, and
// Access says whether it may send. Its bearer tokens are not asked for; a
// certificate is the relay's own, that of the TLS server.
type Dialer struct {
	r      *Receiver
	url    *url.URL
	config func() DialConfig
	log    *slog.Logger

	again      chan struct{}               // see Retry
	pause      *backoff.ExponentialBackOff // Run's
	lastLogged time.Time                   // Run's: when it was last logged that there is no session,
	hint       string                      // and the hint that went with it: another one is news

	mu    sync.Mutex
	state DialState
}

// DialConfig is how to get to a relay, and what to show it.
type DialConfig struct {
	TLS    *tls.Config // nil: the system's authorities
	Header http.Header // of the upgrade request
}

// DialState is a picture of a Dialer.
type DialState struct {
	URL       string
	Connected bool
	Since     time.Time // it is connected, or not
	Attempts  int       // that failed since then
	Err       string    // of the last one
}

func (s DialState) String() string {
	since := s.Since.UTC().Format(time.RFC3339)
	if s.Connected {
		return fmt.Sprintf("%s connected since %s", s.URL, since)
	}
	return fmt.Sprintf("%s away since %s, attempts %d: %s", s.URL, since, s.Attempts, s.Err)
}

// How long a Dialer stays away.
const (
	dialLeast = time.Second      // at most, at first; the bound doubles up to 30 times that
	dialFirst = time.Second      // at most, after a session that was one
	dialHold  = time.Minute      // about, where a human has to act
	dialMost  = 10 * time.Minute // whatever the relay asks for
	dialQuiet = time.Minute      // between log lines about the same trouble
)

// NewDialer makes a Dialer of the relay at address, ws://HOST:PORT or wss://…,
// by default with the path /relay. It asks config for each attempt anew. Errors
// hold no secret.
func NewDialer(r *Receiver, address string, config func() DialConfig) (*Dialer, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("this is not a URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("want ws://HOST:PORT or wss://HOST:PORT, without user, query and fragment: URLs are logged")
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "":
		return nil, fmt.Errorf("%q: want ws://HOST:PORT or wss://HOST:PORT", address)
	}
	if u.Path == "" {
		u.Path = "/relay"
	}
	d := &Dialer{r: r, url: u, config: config, again: make(chan struct{}, 1), log: r.log.With("url", u.String())}
	d.pause = retry.Connect(dialLeast)
	d.state = DialState{URL: u.String(), Since: time.Now(), Err: "not tried yet"}
	return d, nil
}

// State tells how things stand.
func (d *Dialer) State() DialState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Run dials, again and again, until ctx ends. A session is ended by the
// Receiver's Shutdown, and Run waits for that.
func (d *Dialer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		e := d.once(ctx)
		if ctx.Err() != nil {
			return
		}
		d.disconnected(e)
		delay := d.delay(e)
		if e.session != nil { // it has said itself how it ended
			d.lastLogged = time.Time{}
		} else {
			d.logFailure(e, delay)
		}
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-d.again:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// Retry ends the wait for the next attempt, for what has failed may have been
// fixed.
func (d *Dialer) Retry() {
	select {
	case d.again <- struct{}{}:
	default: // it is about to
	}
}

// dialFailure is why there is no session, or no longer one.
type dialFailure struct {
	reason, hint string
	permanent    bool          // waiting alone does not fix it
	minDelay     time.Duration // the relay asks us to stay away so long
	session      *session      // nil: none came about
}

// once dials and runs one session to its end.
func (d *Dialer) once(ctx context.Context) *dialFailure {
	config := d.config()
	first := &limitedConn{left: maxAnswer}
	dialer := websocket.Dialer{
		TLSClientConfig: config.TLS, HandshakeTimeout: d.r.opts.HandshakeTimeout,
		Subprotocols:   []string{handshake.Subprotocol},
		ReadBufferSize: readBuffer, WriteBufferSize: writeBuffer, WriteBufferPool: d.r.upgrader.WriteBufferPool,
		NetDialContext: func(brief context.Context, network, addr string) (net.Conn, error) {
			var err error
			first.Conn, err = new(net.Dialer).DialContext(brief, network, addr)
			if err != nil {
				return nil, err
			}
			// The dialer does not look at ctx while it waits for the answer.
			first.stop = context.AfterFunc(ctx, func() { first.Close() })
			return first, nil
		},
	}
	conn, resp, err := dialer.DialContext(ctx, d.url.String(), config.Header)
	if first.stop != nil {
		first.stop()
	}
	switch {
	case err != nil && resp != nil && errors.Is(err, websocket.ErrBadHandshake):
		return answered(resp)
	case err != nil:
		return unreachable(err)
	case conn.Subprotocol() != handshake.Subprotocol:
		conn.Close()
		return &dialFailure{
			reason: "this server does not speak " + handshake.Subprotocol,
			hint:   "check that the URL leads to wsrelay --listen", permanent: true,
		}
	}
	first.left = -1
	return d.converse(conn)
}

func (d *Dialer) converse(conn *websocket.Conn) *dialFailure {
	if !d.r.beginSession() {
		conn.Close()
		return &dialFailure{reason: shuttingDown.msg}
	}
	defer d.r.running.Done()
	s := newSession(d.r, conn, d.r.access.Load().identityOf(conn))
	s.dialled = true
	s.log = s.log.With("url", d.url.String())
	a := &dialFailure{hint: "look at the log of wsrelay there"}
	s.onWelcome = func() { a.session = s; d.connected() }
	e := d.r.run(s)
	a.reason = e.msg
	if e.log != "" {
		a.reason = e.log
	}
	switch e.code {
	case handshake.CloseUnauthenticated, handshake.CloseForbidden:
		a.hint, a.permanent = "compare its --key-file, or its certificate, with --keys or --client-ca here", true
	case handshake.CloseBadFrame, handshake.CloseVersion:
		a.hint, a.permanent = "update the older of the two ends", true
	}
	return a
}

func (d *Dialer) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = DialState{URL: d.state.URL, Connected: true, Since: time.Now()}
}

func (d *Dialer) disconnected(a *dialFailure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Connected {
		d.state = DialState{URL: d.state.URL, Since: time.Now()}
	}
	d.state.Attempts++
	d.state.Err = a.reason
}

// delay says how long to stay away. A session counts as one if it has brought a
// line, or lasted: then the next may come soon.
func (d *Dialer) delay(a *dialFailure) time.Duration {
	s := a.session
	if s != nil && (s.lines.Load() > 0 || time.Since(s.start) > dialHold) {
		d.pause.Reset()
		soon := dialFirst
		if s.back > 0 {
			soon = min(s.back, dialMost)
		}
		return rand.N(soon)
	}
	switch {
	case a.permanent:
		return dialHold/2 + rand.N(dialHold)
	case a.minDelay > 0:
		minDelay := min(a.minDelay, dialMost)
		return minDelay + rand.N(minDelay/4+1)
	}
	return d.pause.NextBackOff()
}

// logFailure logs that there is no session: once, and then now and then.
func (d *Dialer) logFailure(a *dialFailure, delay time.Duration) {
	now := time.Now()
	if now.Sub(d.lastLogged) < dialQuiet && a.hint == d.hint {
		return
	}
	d.lastLogged, d.hint = now, a.hint
	d.log.Warn("no session with a relay", "err", a.reason, "attempts", d.State().Attempts,
		"next_try", delay.Round(time.Millisecond),
		"effect", "nothing is lost: its lines wait in its queue", "hint", a.hint)
}

// answered is what an answer means that is not the upgrade.
func answered(resp *http.Response) *dialFailure {
	a := &dialFailure{
		reason: "the server answered HTTP " + strconv.Itoa(resp.StatusCode),
		hint:   "check that the URL leads to wsrelay --listen", permanent: true,
	}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		a.hint = "give the token that the relay has in --token-file with --dial-token"
	case code == http.StatusTooManyRequests, code >= 500:
		a.hint, a.permanent = "look at the log of wsrelay there, and at what stands in between", false
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			a.minDelay = time.Duration(min(n, int(dialMost/time.Second))) * time.Second
		}
	}
	return a
}

// unreachable is why there was no answer.
func unreachable(err error) *dialFailure {
	a := &dialFailure{reason: err.Error(), hint: "check that wsrelay --listen runs there, and network and firewall"}
	var (
		untrusted *tls.CertificateVerificationError
		name      x509.HostnameError
		noTLS     tls.RecordHeaderError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &untrusted), errors.As(err, &name):
		a.hint, a.permanent = "--client-ca names the authority of the relay's certificate, which must be for the host in the URL", true
	case errors.As(err, &noTLS):
		a.reason, a.hint, a.permanent = "the port does not speak TLS", "use ws:// for this port", true
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		a.hint, a.permanent = "the relay may want a certificate: --tls-cert and --tls-key", true
	}
	return a
}

// maxAnswer is what a peer may say before there is a WebSocket, in bytes: its
// part of TLS, and the answer to the upgrade, which net/http reads without a
// limit.
const maxAnswer = 256 << 10

// limitedConn is a connection whose peer may say so much.
type limitedConn struct {
	net.Conn
	left int         // bytes; below 0: any number
	stop func() bool // does not close it when the attempt is over
}

var errTooLong = errors.New("the answer does not end")

func (w *limitedConn) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, errTooLong
	}
	if w.left > 0 {
		p = p[:min(len(p), w.left)]
	}
	n, err := w.Conn.Read(p)
	if w.left > 0 {
		w.left -= n
	}
	return n, err
}
