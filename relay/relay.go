// Package relay sends a queue over a WebSocket and moves the queue's cursor
// when the receiver has answered with a receipt.
//
//	queue ─TryNext▶ packer ──batch──▶ window ──data──▶ receiver
//	  ▲                                 │                  │
//	  └────────────Ack(seq)─────────────┴────receipt───────┘
//
// What holds, whatever the network and the receiver do:
//
//  1. A record leaves the queue only by a receipt for it. A receipt for
//     something that was not sent acknowledges nothing.
//  2. Records leave in the queue's order. After any break the relay goes back
//     to the queue's cursor, or to where the receiver says that it stopped
//     reading, never past a record that has no receipt.
//  3. One batch may always be under way, whatever the window says, so that no
//     limit of the receiver can stop the stream.
//  4. Trouble ends a session, never [Relay.Run]; Run ends within a quarter of
//     a second when its context does.
//
// The connection is opened when a record waits and closed when nothing has
// moved for a while.
package relay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v4"

	"wsrelay/buffer"
	"wsrelay/internal/retry"
)

// Queue is what the relay needs of a queue. The relay is its only consumer. It calls
// Stats at any time, and the other methods from one goroutine after the other.
type Queue interface {
	Blocks
	Ack(to uint64, r buffer.Receipt) error
	Rewind(to uint64) error
	Diverge(seq uint64) error
}

// Blocks is the part of a queue that is for reading.
type Blocks interface {
	TryNext() (*buffer.Block, error)
	Ready() <-chan struct{}
	Stats() buffer.Stats
}

// Options of a relay. Zero values are the defaults that stand beside them.
type Options struct {
	URLs   []string // at least one, in the form ParseURL takes; all lead to one store
	Listen string   // instead of URLs: host:port, where receivers dial the relay
	Host   string   // hello.host: who sends
	Agent  string   // hello.agent: program and version
	Boot   string   // hello.boot: differs at each start of the process

	IdleClose time.Duration // 60 s: close when nothing has moved for so long; never where the relay listens
	Ping      time.Duration // 20 s: between pings; 2.5 times this without a byte: dead

	Dial       DialConfig   // to the receiver
	Dialect    Dialect      // nil: wsrelay.v1
	Recompress bool         // encode batches once more where the link limits
	Quarantine Quarantine   // nil: lines that the receiver will never take are not kept
	Log        *slog.Logger // nil: discard
}

// Quarantine keeps the line seq of stream sid, durably, and returns where; why is as
// in its gap. It may be called for the same line again.
type Quarantine func(sid string, seq uint64, line []byte, why string) (where string, err error)

const (
	defaultIdleClose = time.Minute
	defaultPing      = 20 * time.Second
)

// pace is how long the relay waits for what. Tests shorten it.
type pace struct {
	dial          time.Duration // TCP, TLS and upgrade together, and each handshake step
	drain         time.Duration // for the last receipts after a bye
	goodbye       time.Duration // for the close frame to leave, and to be answered
	permanent     time.Duration // mean time between tries when a human has to act
	first         time.Duration // the first try after a lost session comes within it
	firstLoopback time.Duration // the same for a receiver on this host
	backoff       time.Duration // where the exponential backoff begins
	busy          time.Duration // that a receiver may be, if there is another one
	minSession    time.Duration // that a caller has to himself before he may be shut out
	quiet         time.Duration // between log lines about the same trouble
}

var usualPace = pace{
	dial:          10 * time.Second,
	drain:         10 * time.Second,
	goodbye:       250 * time.Millisecond,
	permanent:     time.Minute,
	first:         10 * time.Second,
	firstLoopback: time.Second,
	backoff:       time.Second,
	busy:          10 * time.Minute,
	minSession:    2 * time.Second,
	quiet:         time.Minute,
}

// maxAway bounds what a receiver can ask for with after_ms or Retry-After.
const maxAway = 10 * time.Minute

// Relay sends one queue. Its methods may be called concurrently; Run once.
type Relay struct {
	q    Queue
	o    Options
	log  *slog.Logger
	pace pace
	net  netDial

	status recorder
	report reporter

	// Owned by Run.
	backoff         *backoff.ExponentialBackOff
	turn            int             // which of the URLs is next
	permanentFaults int             // attempts in a row that ended with a fault that holds
	recompressor    *recompressor   // with Options.Recompress, else nil
	ceiling         int             // where the next session's packer.ceiling begins
	dropped         uint64          // the last line that was dropped, and it was said; 0: none
	suspect         uint64          // the same, if it was refused as damaged and nothing after it was taken yet
	exposed         map[string]bool // secret files that others can read, and it was said
}

// New makes a relay of q. It opens nothing: Run does.
func New(q Queue, o Options) *Relay {
	if o.IdleClose <= 0 {
		o.IdleClose = defaultIdleClose
	}
	if o.Listen != "" {
		o.IdleClose = math.MaxInt64 // nobody would open it again when a line comes
	}
	if o.Ping <= 0 {
		o.Ping = defaultPing
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	r := &Relay{
		q: q, o: o, log: o.Log, pace: usualPace, net: dialNet, ceiling: maxBatch, exposed: map[string]bool{},
		report: reporter{log: o.Log},
	}
	if o.Recompress {
		r.recompressor = newRecompressor()
	}
	r.status.set(StateIdle, "")
	return r
}

// Run sends the queue until ctx ends, and then returns nil. It has an error
// only for options that no waiting can fix.
func (r *Relay) Run(ctx context.Context) error {
	r.report.every = r.pace.quiet
	r.backoff = retry.Connect(r.pace.backoff)
	defer r.status.set(StateIdle, "")
	if r.o.Listen != "" {
		r.listen(ctx)
		return nil
	}
	urls := make([]*url.URL, len(r.o.URLs))
	for i, s := range r.o.URLs {
		u, err := r.o.address(s)
		if err != nil {
			return err
		}
		urls[i] = u
	}
	if len(urls) == 0 {
		return errors.New("relay: no URL")
	}
	for ctx.Err() == nil {
		u := urls[r.turn%len(urls)]
		end := r.once(ctx, u)
		if err := r.q.Rewind(r.q.Stats().Cursor); err != nil && end.fault == nil {
			end.fault = QueueFault(err)
		}
		if end.fault == nil || ctx.Err() != nil {
			continue
		}
		r.turn++
		delay := r.delay(end, len(urls))
		r.status.failed(StateWaiting, end.fault, delay)
		r.report.lost(end.fault, u, delay)
		sleep(ctx, delay)
	}
	return nil
}

// outcome is how an attempt came out.
type outcome struct {
	fault        *Fault // nil: the session came to its end
	acknowledged bool   // it had brought at least one receipt
	loopback     bool   // the receiver is on this host
}

// once waits for a record, connects, and runs one session to its end.
func (r *Relay) once(ctx context.Context, u *url.URL) outcome {
	r.status.set(StateIdle, "")
	first, err := next(ctx, r.q)
	if err != nil {
		return outcome{fault: QueueFault(err)}
	}
	r.status.set(StateConnecting, logURL(u))
	with, fault := r.o.Dial.ready(u)
	if fault != nil {
		return outcome{fault: fault}
	}
	r.warn(with.exposed)
	conn, wire, fault := r.dial(ctx, u, with)
	if fault != nil {
		return outcome{fault: fault}
	}
	if r.o.Dialect != nil {
		l := r.link(conn, wire, u)
		fault := l.lend(ctx, func(ctx context.Context) *Fault { return r.o.Dialect.Send(ctx, l, first) })
		return outcome{fault: fault, acknowledged: l.receipts > 0, loopback: wire.loopback()}
	}
	s := newSession(r, conn, wire, u, first.SID(), with.key)
	s.pack.held = first
	end := outcome{fault: s.run(ctx, s.serve), acknowledged: s.receipts > 0, loopback: wire.loopback()}
	r.learn(s, end.fault)
	return end
}

// next waits for a block of q.
func next(ctx context.Context, q Queue) (*buffer.Block, error) {
	for {
		if b, err := q.TryNext(); b != nil || err != nil {
			return b, err
		}
		select {
		case <-q.Ready():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// learn takes from the session s, which has ended with f, how large the next
// one's batches may be.
func (r *Relay) learn(s *session, f *Fault) {
	if s.granted != nil {
		r.ceiling = s.pack.ceiling
	}
	if f != nil && f.shrink {
		r.ceiling = max(r.ceiling/2, minBatch)
	}
}

// warn logs, once for each, which secret files others can read.
func (r *Relay) warn(loose []string) {
	for _, name := range loose {
		if !r.exposed[name] {
			r.exposed[name] = true
			r.log.Warn("others can read a secret", "file", name,
				"effect", "a user who reads it can send lines in this host's name",
				"hint", "chmod 600 the file, and make a new secret if in doubt")
		}
	}
}

// delay is the pause before the next attempt. Of many relays that lose their receiver
// at the same moment, few must come back at the same moment: each pause here is
// random.
func (r *Relay) delay(end outcome, urls int) time.Duration {
	f := end.fault
	if f.permanent {
		r.permanentFaults++
	} else {
		r.permanentFaults = 0
	}
	if end.acknowledged {
		r.backoff.Reset()
	}
	switch {
	case f.permanent && r.permanentFaults%urls == 0: // no other URL is left to try first
		return r.pace.permanent/2 + upTo(r.pace.permanent)
	case f.floor > 0:
		floor := min(f.floor, maxAway)
		return floor + upTo(floor/4)
	case !end.acknowledged:
		return r.backoff.NextBackOff()
	case f.spread != nil:
		return upTo(min(*f.spread, maxAway))
	case end.loopback:
		return upTo(r.pace.firstLoopback)
	}
	return upTo(r.pace.first)
}

// upTo draws a duration from [0, d].
func upTo(d time.Duration) time.Duration {
	return rand.N(max(d, 0) + 1)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
