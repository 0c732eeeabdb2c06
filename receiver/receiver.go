package receiver

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// What welcome says to every sender. MaxRaw leaves space for one line of
// handshake.MaxLine.
const (
	winBatches = 16
	winBytes   = 8 << 20
	maxMessage = handshake.MaxMessage
	maxRaw     = handshake.MaxMessage
)

// Buffers of a WebSocket.
const (
	readBuffer  = 1 << 10  // what is longer is read past it: most sessions are idle, and many
	writeBuffer = 16 << 10 // an ordinary frame is never fragmented: some peers cannot join fragments
)

// Options of a Receiver. The zero value is the default.
type Options struct {
	Log     *slog.Logger // nil: no log
	Budget  int64        // bytes of batches in memory, over all sessions; default 256 MiB, at least minBudget
	Access  Access       // who may send; the zero value: everybody
	Trouble Thresholds   // from when on a sender counts as silent, or late
	Greets  float64      // sessions a second that may begin without a token or certificate; default 1000

	// Streams is how many streams one name may have connected, and start in an hour;
	// default 64 for each host that it is restricted to, else 10,000.
	Streams int

	HandshakeTimeout time.Duration // for the upgrade, for hello and for auth, each; default 10 s
	Heartbeat        time.Duration // between pings; 2.5 times this without a byte: dead; default 20 s
	AckTimeout       time.Duration // how long senders wait for a receipt; busy goes out each sixth of it; default 30 s
	StoreTimeout     time.Duration // without an answer of the store, until a sender is sent away; default 60 s
	WriteTimeout     time.Duration // for one message to a sender; default 10 s
	DrainTimeout     time.Duration // for the receipts after bye; default 5 s
}

func (o Options) withDefaults() Options {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Budget = max(cmp.Or(o.Budget, 256<<20), minBudget)
	o.Greets = cmp.Or(o.Greets, 1000)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 10*time.Second)
	o.Heartbeat = cmp.Or(o.Heartbeat, 20*time.Second)
	o.AckTimeout = cmp.Or(o.AckTimeout, 30*time.Second)
	o.StoreTimeout = cmp.Or(o.StoreTimeout, 60*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Second)
	return o
}

// Receiver is the WebSocket endpoint, an http.Handler; with a Dialer it goes to
// senders that listen. Who may send is Options.Access; see also package connlimit.
type Receiver struct {
	store           Store
	name, guarantee string // what the store says of itself
	opts            Options
	log             *slog.Logger
	upgrader        websocket.Upgrader
	owners          Owners
	memory          memory
	health          health
	ready           readiness
	fleet           fleet
	counters        *counters
	access          atomic.Pointer[Access]
	greets          *rate.Limiter
	refusals        logLimiter

	mu       sync.Mutex // guards the fields below
	closing  bool
	sessions map[*session]struct{}
	streams  map[string]*stream
	parties  map[string]*party
	running  sync.WaitGroup // one for each session
}

// New returns a receiver that commits to store. The store stays the caller's:
// close it after Shutdown.
func New(store Store, o Options) *Receiver {
	o = o.withDefaults()
	r := &Receiver{
		store:    store,
		opts:     o,
		log:      o.Log,
		owners:   ownersOf(store),
		memory:   newMemory(o.Budget),
		health:   health{log: o.Log, blockedAfter: blockedAfter},
		counters: newCounters(),
		fleet:    newFleet(),
		sessions: make(map[*session]struct{}),
		streams:  make(map[string]*stream),
		parties:  make(map[string]*party),
		greets:   limiter(o.Greets, o.Greets),
		refusals: logLimiter{Limiter: limiter(1, 20)},
	}
	r.access.Store(&o.Access)
	r.name, r.guarantee = store.Describe()
	r.upgrader = websocket.Upgrader{
		HandshakeTimeout: o.HandshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  writeBuffer,
		WriteBufferPool:  new(sync.Pool),
		Subprotocols:     []string{handshake.Subprotocol},
		CheckOrigin:      func(*http.Request) bool { return true }, // decided in admit, in plainer words
		// Compression stays off: a read limit counts bytes on the wire, and
		// permessage-deflate makes a thousand of each.
	}
	return r
}

// ServeHTTP begins one session. It returns when that is under way, for what the
// HTTP server holds of a connection is as much as an idle session takes;
// Shutdown waits for sessions.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	who, status, words := r.admit(req)
	switch status {
	case http.StatusOK:
	case http.StatusUpgradeRequired:
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Protocol", handshake.Subprotocol)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter+rand.N(retryAfter))) // or all come back together
	}
	if status != http.StatusOK {
		http.Error(w, words, status)
		return
	}
	if !r.beginSession() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "This receiver is shutting down. Try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	conn, err := r.upgrader.Upgrade(w, req, nil)
	if err != nil {
		r.running.Done()
		r.log.Debug("upgrade failed", "remote", req.RemoteAddr, "err", err)
		return
	}
	s := newSession(r, conn, who)
	go func() {
		defer r.running.Done()
		_ = r.run(s) // why it ended concerns those who dial
	}()
}

// run runs a session and says how it ended.
func (r *Receiver) run(s *session) *closeReason {
	r.register(s)
	defer r.unregister(s)
	s.serve()
	return s.why()
}

// retryAfter is how long a sender stays away, at least, that came when too many
// did: in seconds.
const retryAfter = 5

// admit says whether req may become a session, and if not why.
func (r *Receiver) admit(req *http.Request) (who []identity, status int, words string) {
	if req.Header.Get("Origin") != "" {
		return nil, http.StatusForbidden,
			"Requests with an Origin header come from web pages. This endpoint is for log senders only."
	}
	if !slices.Contains(websocket.Subprotocols(req), handshake.Subprotocol) {
		return nil, http.StatusUpgradeRequired, fmt.Sprintf(
			"This endpoint takes logs over WebSocket with the subprotocol %s, and the request does not offer it.\n"+
				"If it was a wsrelay that sent it, then something in between removes the header Sec-WebSocket-Protocol.",
			handshake.Subprotocol)
	}
	who, status, words = r.access.Load().identify(req)
	if status != http.StatusOK {
		r.refused(r.log.With("remote", req.RemoteAddr), &closeReason{code: handshake.CloseForbidden, msg: words})
		return nil, status, words
	}
	if len(who) == 0 && !r.greets.Allow() { // who is known is not kept out by a crowd of strangers
		return nil, http.StatusServiceUnavailable, "Too many senders at this moment."
	}
	return who, http.StatusOK, ""
}

// Shutdown ends all sessions and waits for them. Senders get a bye;
// what they have sent is committed and acknowledged for up to
// Options.DrainTimeout. New sessions are refused from now on.
func (r *Receiver) Shutdown() {
	r.mu.Lock()
	r.closing = true
	for s := range r.sessions {
		s.drain()
	}
	r.mu.Unlock()

	closeAll := time.AfterFunc(r.opts.DrainTimeout, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for s := range r.sessions {
			s.end(shuttingDown)
		}
	})
	defer closeAll.Stop()
	r.running.Wait()
}

// endSlow ends the sessions whose message has been coming for Options.AckTimeout
// or longer: others wait for the memory that it has. An honest sender on a slow
// line comes back with smaller messages.
func (r *Receiver) endSlow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := time.Now().Add(-r.opts.AckTimeout).UnixNano()

	for s := range r.sessions {
		if since := s.arrivingSince.Load(); since != 0 && since <= oldest && s.ctx.Err() == nil {
			s.end(&closeReason{code: websocket.CloseMessageTooBig, msg: fmt.Sprintf(
				"the message is incomplete after %v, and other senders wait for its memory",
				time.Since(time.Unix(0, since)).Round(time.Second))})
		}
	}
}

// beginSession counts a session in, unless the receiver is closing.
func (r *Receiver) beginSession() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closing {
		r.running.Add(1)
	}
	return !r.closing
}

func (r *Receiver) register(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = struct{}{}
	if r.closing { // since beginSession
		s.end(shuttingDown)
	}
}

func (r *Receiver) unregister(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	r.leaveLocked(s)
}
