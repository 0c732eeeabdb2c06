package generic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wsrelay/buffer"
	"wsrelay/relay"
)

// Ack is what counts as the server's word that a line has arrived.
type Ack string

// The kinds of acknowledgement.
const (
	AckPing    Ack = "ping"
	AckReceipt Ack = "receipt"
	AckNone    Ack = "none"
)

// InOrder as Options.Receipt means that each answer is for the oldest line without
// one.
const InOrder = "-"

// Options of plain mode. The zero value sends lines as they are and takes pongs
// for acknowledgements.
type Options struct {
	Ack       Ack      // "": AckPing
	Protocol  string   // the subprotocol to ask for; "": none
	Open      []string // the first messages of a connection; {uid}: the last UID acknowledged, {host}: this host
	Heartbeat string   // a message that is sent at every ping; "": none
	UID       string   // name of a member that carries a line's UID; "": none, but "uid" with AckReceipt by UID
	Receipt   string   // gjson path of the UID, or a list of UIDs, in an answer; "": UID; InOrder
	If        string   // PATH=VALUE: an answer with another value at this gjson path refuses the line
}

// byUID is whether answers name the line that they are for.
func (o *Options) byUID() bool { return o.Ack == AckReceipt && o.Receipt != InOrder }

// Plain is plain mode, a [relay.Dialect]: a relay that is made with it sends in
// this way.
type Plain struct {
	o    Options
	pace pace

	done   uint64    // every record below was acknowledged, also within a block
	last   string    // UID of the newest of them
	warned time.Time // of answers that are no receipts; the listener's
}

// pace is how long to wait for what. Tests shorten it.
type pace struct {
	probe   time.Duration // for the first pong
	receipt time.Duration // for the next acknowledgement, while lines are under way
}

var usualPace = pace{probe: 10 * time.Second, receipt: time.Minute}

// New makes a dialect. An error says which option is invalid.
func New(o Options) (*Plain, error) {
	o.Ack = cmp.Or(o.Ack, AckPing)
	if o.byUID() {
		o.UID = cmp.Or(o.UID, "uid")
		o.Receipt = cmp.Or(o.Receipt, o.UID)
	}
	p := &Plain{o: o, pace: usualPace}
	path, value, ok := strings.Cut(o.If, "=")
	switch {
	case o.Ack != AckPing && o.Ack != AckReceipt && o.Ack != AckNone:
		return nil, fmt.Errorf("no acknowledgement is called %q", o.Ack)
	case o.Ack != AckReceipt && (o.Receipt != "" || o.If != ""):
		return nil, errors.New("answers are looked at only where receipts are the acknowledgement")
	case o.Receipt == InOrder && o.If == "" && (len(o.Open) > 0 || o.Heartbeat != ""):
		return nil, errors.New("answers that come in order cannot be distinguished from those to opening messages and heartbeats: say what they contain")
	case o.If != "" && (!ok || path == "" || value == ""):
		return nil, errors.New("want PATH=VALUE for what an answer must say")
	}
	return p, nil
}

// Subprotocol is part of relay.Dialect.
func (p *Plain) Subprotocol() string { return p.o.Protocol }

// Send is part of relay.Dialect.
func (p *Plain) Send(ctx context.Context, l *relay.Link, first *buffer.Block) *relay.Fault {
	if p.last == "" {
		p.last = l.Queue.Stats().Receipt.UID
	}
	s := newSession(p, l)
	if fault := s.open(ctx); fault != nil || ctx.Err() != nil {
		return fault
	}
	l.Ready("a WebSocket server", promise[p.o.Ack])
	fault := s.serve(ctx, first)
	if unsettled := s.commit(); fault == nil { // what came with the end
		fault = unsettled
	}
	return fault
}

// promise is what a kind of acknowledgement is good for.
var promise = map[Ack]string{
	AckPing:    "at-least-once as far as the next WebSocket hop",
	AckReceipt: "at-least-once",
	AckNone:    "none",
}

// Probe is part of relay.Dialect. It sends the opening messages, too.
func (p *Plain) Probe(ctx context.Context, l *relay.Link) (found string, fault *relay.Fault) {
	if fault = newSession(p, l).open(ctx); fault != nil {
		return "", fault
	}
	if p.o.Ack == AckPing {
		return "it answers pings; delivery is " + promise[AckPing], nil
	}
	return "delivery is " + promise[p.o.Ack] + "; whether it answers lines shows when there is one", nil
}
