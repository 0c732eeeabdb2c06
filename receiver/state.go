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
	Connected int       // senders
}

// State tells how things stand.
func (r *Receiver) State() State {
	f := r.counters
	s := State{Since: f.started, Dead: f.rejected.Load()}
	s.Stored = f.fresh.Load() + s.Dead
	s.StoreDown, _, s.StoreErr = r.health.state()
	f.mu.Lock()
	for _, n := range f.gaps {
		s.Lost += n
	}
	f.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range r.streams {
		if st.owner != nil {
			s.Connected++
		}
	}
	return s
}
