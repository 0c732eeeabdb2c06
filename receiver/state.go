package receiver

import "time"

// State is a picture of a receiver.
type State struct {
	Since     time.Time // when it began; the figures count from then
	Stored    int64     // documents that the store did not have before
	Dead      int64     // of those, the ones among the dead letters
	Lost      int64     // lines that will never come, as the senders said
	StoreDown time.Time // since when the store does not answer; the zero time: it does
	StoreErr  error     // what it said then
	Senders   []Sender  // that are connected
}

// Sender is a stream whose sender is connected.
type Sender struct {
	Host, SID string
	Since     time.Time     // it is connected
	Lines     int64         // of this session that the store has
	Lag       time.Duration // how old the newest batch was when the store had it
	Blocked   time.Time     // since when the store refuses its lines but works for others; the zero time: it does not
	BlockedBy error         // what the store says then
}

// State tells how things stand.
func (r *Receiver) State() State {
	f := r.figures
	s := State{Since: f.begun, Dead: f.rejected.Load()}
	s.Stored = f.fresh.Load() + s.Dead
	s.StoreDown, s.StoreErr = r.health.state()
	f.mu.Lock()
	for _, n := range f.gaps {
		s.Lost += n
	}
	f.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for sid, st := range r.streams {
		if o := st.owner; o != nil {
			blocked, by := r.health.blocked(sid)
			s.Senders = append(s.Senders, Sender{o.hello.Host, sid, o.start, o.lines.Load(), time.Duration(o.lag.Load()), blocked, by})
		}
	}
	return s
}
