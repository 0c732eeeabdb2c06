package receiver

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"wsrelay/handshake"
)

// Standing is how a sender does, as far as its receiver can know.
type Standing string

// The standings, in the order of their trouble.
const (
	Refused    Standing = "refused"    // its lines, or it, are not taken
	Diverged   Standing = "diverged"   // its queue has other lines under stored numbers; no new stream has come yet
	Silent     Standing = "silent"     // no line has come for long
	Late       Standing = "late"       // its lines come, and are old when they do
	Delivering Standing = "delivering" // all is well
)

// Standings are all of them, the worst first.
var Standings = []Standing{Refused, Diverged, Silent, Late, Delivering}

// Thresholds say from when on a sender is silent, or late.
type Thresholds struct {
	Silent time.Duration // without a line; default 1 h
	Late   time.Duration // of its lines; default 5 min
}

// WithDefaults gives the thresholds that hold.
func (t Thresholds) WithDefaults() Thresholds {
	return Thresholds{cmp.Or(t.Silent, time.Hour), cmp.Or(t.Late, 5*time.Minute)}
}

// Sender is what a receiver knows of a sender: of the queue of one wsrelay. It is
// kept by a SenderKeeper. Times are the receiver's.
type Sender struct {
	SID    string    `json:"sid"`
	Host   string    `json:"host"`
	Name   string    `json:"name,omitempty"`  // that it proved last; empty: nobody was asked
	Agent  string    `json:"agent,omitempty"` // its version
	First  time.Time `json:"first"`           // when it was first seen,
	Seen   time.Time `json:"seen"`            // and last
	Line   time.Time `json:"line,omitzero"`   // when the store had its newest line; zero: it had none yet
	Lines  int64     `json:"lines"`           // that were stored since First
	Online bool      `json:"online"`          // it is connected

	Lag    time.Duration `json:"lag"`            // how old the newest line was then, in ns
	Waits  time.Time     `json:"waits,omitzero"` // when the oldest line came to it that waits for the store; zero: none
	Behind uint64        `json:"behind"`         // lines that waited in its queue when it connected, and have not come
	Rate   float64       `json:"rate"`           // lines a second, about, when Seen

	Refused  time.Time `json:"refused,omitzero"` // since when it is
	Why      string    `json:"why,omitempty"`
	Diverged time.Time `json:"diverged,omitzero"` // when it did
}

// Standing tells how the sender does at a moment.
func (s *Sender) Standing(now time.Time, t Thresholds) Standing {
	t = t.WithDefaults()
	switch {
	case !s.Refused.IsZero():
		return Refused
	case !s.Diverged.IsZero():
		return Diverged
	case now.Sub(s.last()) >= t.Silent:
		return Silent
	case s.LagAt(now) >= t.Late:
		return Late
	}
	return Delivering
}

// last is when the newest line came, or, before the first, the sender.
func (s *Sender) last() time.Time {
	if s.Line.IsZero() {
		return s.First
	}
	return s.Line
}

// lagHolds is how long the lag of a line is taken for that of its sender.
const lagHolds = time.Minute

// LagAt tells how old the oldest line is that has not come, as far as that can be
// known: a sender of which nothing has come for a while, and that had nothing left
// when it was last here, has no lag.
func (s *Sender) LagAt(now time.Time) time.Duration {
	since := max(0, now.Sub(s.Line))
	switch {
	case !s.Waits.IsZero():
		return max(0, now.Sub(s.Waits))
	case s.Behind > 0 && s.Line.IsZero():
		return max(0, now.Sub(s.First))
	case s.Behind > 0:
		return s.Lag + since
	case s.Line.IsZero() || since > lagHolds:
		return 0
	}
	return s.Lag
}

// RateAt is the rate at a moment.
func (s *Sender) RateAt(now time.Time) float64 {
	return s.Rate * math.Exp(-max(0, now.Sub(s.Seen)).Seconds()/rateTime.Seconds())
}

const rateTime = time.Minute

// MostTrouble orders senders: those that are worst off first, of these the ones that
// have been longest.
func MostTrouble(now time.Time, t Thresholds) func(a, b Sender) int {
	rank := func(s *Sender) int { return slices.Index(Standings, s.Standing(now, t)) }
	return func(a, b Sender) int {
		ra, rb := rank(&a), rank(&b)
		order := cmp.Compare(ra, rb)
		if ra == rb && Standings[ra] == Silent {
			order = a.last().Compare(b.last())
		}
		return cmp.Or(order, cmp.Compare(b.LagAt(now), a.LagAt(now)), cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.SID, b.SID))
	}
}

// Bounds of a fleet: where nobody is asked who he is, anybody can add to it.
const (
	maxFleet     = 50_000
	maxUnknown   = 200                 // that are refused and were never known
	unknownTime  = time.Hour           // they are shown for
	forgetSender = 30 * 24 * time.Hour // without a sign of it
)

// fleet is what a receiver knows of its senders.
type fleet struct {
	mu      sync.Mutex // guards the fields below
	known   map[string]*known
	unknown map[string]*known // by the stream that they claim
	removed []string          // sids, since the last save
}

// known is a sender, and what is true of it at this moment only.
type known struct {
	Sender
	session   *session // nil: it is not connected
	changed   bool     // since the last save
	succeeded bool     // its sender has another stream now: it is forgotten when it is away
}

func newFleet() fleet {
	return fleet{known: map[string]*known{}, unknown: map[string]*known{}}
}

// change calls f with the sender of a session, if it is known.
func (f *fleet) change(s *session, change func(k *known, now time.Time)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.known[s.hello.SID]; k != nil {
		now := time.Now()
		k.Rate = k.RateAt(now)
		k.Seen, k.changed = now, true
		change(k, now)
	}
}

// connected notes a session that has been welcomed.
func (f *fleet) connected(s *session) {
	name := ""
	if len(s.who) > 0 {
		name = s.who[len(s.who)-1].Name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.succeed(s, name)
	k := f.known[s.hello.SID]
	if k == nil {
		f.forgetOldest()
		k = &known{Sender: Sender{SID: s.hello.SID, First: time.Now()}}
		f.known[s.hello.SID] = k
	}
	k.session, k.changed, k.succeeded = s, true, false
	k.Host, k.Agent, k.Name = s.hello.Host, clipText(s.hello.Agent), name
	k.Seen, k.Online, k.Behind = time.Now(), true, s.hello.Head-s.hello.Acked
	k.Refused, k.Why, k.Diverged = time.Time{}, "", time.Time{}
	delete(f.unknown, s.hello.SID)
}

// succeed forgets the stream that the sender had before, if it shows a receipt of
// it: it has diverged, or its queue was moved.
func (f *fleet) succeed(s *session, name string) {
	p := s.hello.Proof
	if p == nil || len(p.UID) < len(s.hello.SID) || strings.HasPrefix(p.UID, s.hello.SID) {
		return
	}
	before := f.known[p.UID[:len(s.hello.SID)]]
	switch {
	case before == nil || before.Host != s.hello.Host || before.Name != name:
	case before.session != nil:
		before.succeeded = true
	default:
		f.forget(before.SID)
	}
}

func (f *fleet) forget(sid string) {
	delete(f.known, sid)
	f.removed = append(f.removed, sid)
}

// forgetOldest forgets the sender that has been away for longest if there are too many.
func (f *fleet) forgetOldest() {
	if len(f.known) < maxFleet {
		return
	}
	var oldest *known
	for _, k := range f.known {
		if k.session == nil && (oldest == nil || k.Seen.Before(oldest.Seen)) {
			oldest = k
		}
	}
	if oldest != nil {
		f.forget(oldest.SID)
	}
}

func (f *fleet) disconnected(s *session) {
	f.change(s, func(k *known, _ time.Time) {
		if k.session == s {
			k.session, k.Online, k.Waits = nil, false, time.Time{}
			if k.succeeded {
				f.forget(k.SID)
			}
		}
	})
}

// commitStarted notes that lines are on their way into the store; the first of them came to
// the sender at.
func (f *fleet) commitStarted(s *session, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.known[s.hello.SID]; k != nil {
		k.Waits = at
	}
}

// committed notes what the store has.
func (f *fleet) committed(s *session, group []*item, results []Result) {
	f.change(s, func(k *known, now time.Time) {
		last := group[len(group)-1]
		n := 0
		for _, r := range results {
			n += r.New + len(r.Rejected)
		}
		k.Waits = time.Time{}
		k.Line, k.Lag, k.Lines = now, max(0, now.Sub(last.At)), k.Lines+int64(n)
		k.Rate += float64(n) / rateTime.Seconds()
		k.Behind = 0
		if end := last.End(); end < s.hello.Head {
			k.Behind = s.hello.Head - end
		}
		k.Refused, k.Why = time.Time{}, ""
	})
}

func (f *fleet) diverged(s *session) {
	f.change(s, func(k *known, now time.Time) { k.Diverged, k.Waits = now, time.Time{} })
}

// refused notes a sender that is connected, and whose lines are not taken.
func (f *fleet) refused(s *session, why string) {
	f.change(s, func(k *known, now time.Time) {
		if k.Refused.IsZero() {
			k.Refused = now
		}
		k.Why, k.Waits = clipText(why), time.Time{}
	})
}

// rejected notes a sender that did not become a session. Anybody can claim to be
// one, so one that is connected is none.
func (f *fleet) rejected(s *session, e *closeReason) {
	switch e.code {
	case handshake.CloseUnauthenticated, handshake.CloseForbidden, handshake.CloseQuota:
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.known[s.hello.SID]
	switch {
	case k != nil && k.session != nil:
		return
	case k == nil:
		if k = f.unknownSender(s); k == nil {
			return
		}
	}
	now := time.Now()
	if k.Refused.IsZero() {
		k.Refused = now
	}
	k.Seen, k.Why, k.changed = now, clipText(e.msg), true
}

// unknownSender gives the entry of a sender that was never known; nil if there are too many.
func (f *fleet) unknownSender(s *session) *known {
	if k := f.unknown[s.hello.SID]; k != nil {
		return k
	}
	now := time.Now()
	for sid, k := range f.unknown {
		if now.Sub(k.Seen) > unknownTime {
			delete(f.unknown, sid)
		}
	}
	if len(f.unknown) >= maxUnknown {
		return nil
	}
	k := &known{Sender: Sender{SID: s.hello.SID, Host: s.hello.Host, Agent: clipText(s.hello.Agent), First: now}}
	f.unknown[s.hello.SID] = k
	return k
}

// clipText bounds what is kept of a text that a sender chooses.
func clipText(s string) string { return strings.ToValidUTF8(s[:min(len(s), 200)], "") }

// Senders tells of all senders that the receiver knows, those that are away
// included, in no order.
func (r *Receiver) Senders() []Sender {
	f := &r.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	all := make([]Sender, 0, len(f.known)+len(f.unknown))
	for _, k := range f.known {
		all = append(all, k.withBlock(&r.health))
	}
	for _, k := range f.unknown {
		if now.Sub(k.Seen) <= unknownTime {
			all = append(all, k.Sender)
		}
	}
	return all
}

// withBlock is the sender as it is shown: one whose lines the store refuses while it
// works for others is refused, too.
func (k *known) withBlock(h *health) Sender {
	s := k.Sender
	if k.session == nil {
		return s
	}
	if since, err := h.blocked(s.SID); err != nil {
		s.Refused, s.Why = since, clipText(err.Error())
	}
	return s
}

// Report is a sender as people and programs are shown it.
type Report struct {
	State     Standing  `json:"state"`
	Host      string    `json:"host"`
	Name      string    `json:"name,omitempty"`
	LastLine  time.Time `json:"last_line,omitzero"`
	Lag       float64   `json:"lag_seconds"`
	Backlog   uint64    `json:"backlog_lines"`
	Rate      float64   `json:"lines_per_second"`
	Lines     int64     `json:"lines"`
	Version   string    `json:"version,omitempty"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"` // of a state that is no good one
	Why       string    `json:"why,omitempty"`
	SID       string    `json:"sid"`
}

// Reports tells of senders at a moment, those in most trouble first.
func Reports(all []Sender, now time.Time, t Thresholds) []Report {
	all = slices.Clone(all)
	slices.SortFunc(all, MostTrouble(now, t))
	reports := make([]Report, len(all))
	for i := range all {
		s := &all[i]
		r := Report{
			State: s.Standing(now, t), Host: s.Host, Name: s.Name, LastLine: s.Line, Lag: s.LagAt(now).Seconds(),
			Backlog: s.Behind,
			Rate:    s.RateAt(now), Lines: s.Lines, Version: s.Agent, Connected: s.Online, Why: s.Why, SID: s.SID,
		}
		switch r.State {
		case Refused:
			r.Since = s.Refused
		case Diverged:
			r.Since = s.Diverged
		case Silent:
			r.Since = s.last()
		}
		reports[i] = r
	}
	return reports
}
