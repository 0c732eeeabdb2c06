package receiver

import (
	"cmp"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// party is what the sessions of one sender share: those that have proved one
// name, or where nobody proves one, those that come from one address.
type party struct {
	name     string // for receiver/fair
	sessions int    // guarded by Receiver.mu
	streams  *rate.Limiter
	days     days
}

// How many streams a name may have connected, and may begin within an hour. A
// key that is for certain hosts needs few.
const (
	streamsPerHost = 64
	streamsPerName = 10_000
	maxParties     = 10_000 // that are remembered without having a session
)

// addSession counts s among the sessions of its sender.
func (r *Receiver) addSession(s *session) *closeReason {
	name, proved := "", len(s.who) > 0
	limit := cmp.Or(r.opts.Streams, streamsPerName)
	if proved {
		last := s.who[len(s.who)-1]
		name = last.Name
		if n := len(last.Hosts); n > 0 && r.opts.Streams == 0 {
			limit = n * streamsPerHost
		}
	} else {
		host, _, _ := net.SplitHostPort(s.conn.RemoteAddr().String())
		name = "address " + host // no name has a blank
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parties[name]
	if p == nil {
		if len(r.parties) >= maxParties {
			for name, p := range r.parties {
				if p.sessions == 0 {
					delete(r.parties, name)
				}
			}
		}
		p = &party{name: name, streams: limiter(float64(limit)/3600, float64(limit)), days: newDays()}
		r.parties[name] = p
	}
	if proved && p.sessions >= limit {
		return tooMany("this sender has too many sessions")
	}
	p.sessions++
	s.party = p
	return nil
}

// leaveLocked is the opposite of addSession. Receiver.mu must be held.
func (r *Receiver) leaveLocked(s *session) {
	if s.party != nil {
		s.party.sessions--
	}
}

// allowStream counts a new stream, if the sender may begin one more.
func (p *party) allowStream() bool { return p.streams.Allow() }

// days bounds for how many days a sender may bring lines. A store may keep the
// lines of a day in an index or directory of its own, so a sender that dates each
// line another day could make as many of these as it likes. Lines of a day that
// is one too many wait: a store puts a line where its date says, and were the date
// changed, a line that is sent again would be stored in two places.
type days struct {
	mu    sync.Mutex // guards seen
	seen  map[int64]struct{}
	fresh *rate.Limiter
}

// A sender has a month and more of days at once, and then some each hour: a queue
// that has waited for longer is delivered slowly.
const (
	daysAtOnce  = 40
	daysPerHour = 4
)

func newDays() days {
	return days{seen: map[int64]struct{}{}, fresh: limiter(daysPerHour/3600., daysAtOnce)}
}

// admitDay waits until lines of the day of at may come. False means that the
// session has ended.
func (s *session) admitDay(at time.Time) bool {
	day := at.Unix() / 86400
	if s.party.days.allow(day) {
		return true
	}
	s.log.Warn("sender sends lines of too many days", "day", at.UTC().Format(time.DateOnly),
		"effect", "nothing is lost: lines of further days are taken at "+strconv.Itoa(daysPerHour)+" days an hour",
		"hint", "expected if its queue has waited for more than a month; otherwise its clock, or the sender, is faulty")
	s.daysSince.Store(time.Now().UnixNano())
	defer s.daysSince.Store(0)
	for {
		select {
		case <-time.After(time.Second):
		case <-s.ctx.Done():
			return false
		}
		if s.party.days.allow(day) {
			return true
		}
	}
}

func (d *days) allow(day int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.seen[day]; ok {
		return true
	}
	if !d.fresh.Allow() {
		return false
	}
	d.seen[day] = struct{}{}
	return true
}
