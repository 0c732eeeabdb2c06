package receiver

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
)

// counters are what a receiver counts, from its beginning on.
type counters struct {
	started        time.Time
	fresh          atomic.Int64 // documents that the store has now
	again          atomic.Int64 // that it had
	rejected       atomic.Int64 // that are among the dead letters
	batches        atomic.Int64 // committed
	refusedBatches atomic.Int64
	refusedSenders atomic.Int64
	commits, lag   *metrics.Histogram // seconds

	mu   sync.Mutex       // guards gaps
	gaps map[string]int64 // lines that will never come, by why
}

func newCounters() *counters {
	return &counters{
		started: time.Now(), gaps: map[string]int64{},
		commits: metrics.NewHistogram(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
		lag:     metrics.NewHistogram(.05, .1, .5, 1, 5, 10, 60, 300, 1800, 3600, 6*3600, 24*3600),
	}
}

// whys are the reasons that a gap is counted under; senders may name others.
var whys = []string{
	handshake.GapOverflow, handshake.GapExpired, handshake.GapDamaged, handshake.GapUnsynced, handshake.GapOversize,
	handshake.GapPurged, "other",
}

// committed counts a group that the store has.
func (f *counters) committed(group []*item, results []Result, took time.Duration) {
	f.commits.Observe(took.Seconds())
	f.batches.Add(int64(len(group)))
	for _, r := range results {
		f.fresh.Add(int64(r.New))
		f.again.Add(int64(r.Dup))
		f.rejected.Add(int64(len(r.Rejected)))
	}
	now := time.Now()
	for i := range group {
		age := max(0, now.Sub(group[i].At))
		if g := group[i].Gap; g != nil {
			f.gap(g)
		} else {
			f.lag.Observe(age.Seconds())
		}
	}
}

func (f *counters) gap(g *handshake.Gap) {
	why := "other"
	if slices.Contains(whys, g.Why) {
		why = g.Why
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gaps[why] += int64(g.N)
}

// Metrics writes what there is to know for Prometheus. Counters begin with the
// receiver, at wsreceive_start_time_seconds; what it counts is what it said in
// receipts, so a line that was sent again counts again, as a duplicate.
func (r *Receiver) Metrics(t *metrics.Text) {
	f := r.counters
	t.Histogram("wsreceive_lag_seconds", "From when the first line of a batch came to its sender until the store had it; the hosts' clocks differ.", f.lag)
	const docs = "wsreceive_documents_total"
	const help = "Documents, one for each line or gap, that the store answered for: new, duplicate (it had them), or dead_letter (refused, and kept with the reason)."
	t.Counter(docs, help, float64(f.fresh.Load()), "result", "new")
	t.Counter(docs, help, float64(f.again.Load()), "result", "duplicate")
	t.Counter(docs, help, float64(f.rejected.Load()), "result", "dead_letter")
	f.mu.Lock()
	for _, why := range whys {
		t.Counter("wsreceive_gap_lines_total", "Lines that will never come, as their senders said, by reason.",
			float64(f.gaps[why]), "why", why)
	}
	f.mu.Unlock()
	t.Counter("wsreceive_batches_total", "Batches that the store has.", float64(f.batches.Load()))
	t.Counter("wsreceive_refused_batches_total", "Batches that were answered with nak.",
		float64(f.refusedBatches.Load()))
	t.Counter("wsreceive_refused_senders_total", "Senders that did not become a session.",
		float64(f.refusedSenders.Load()))
	t.Flag("wsreceive_ready", "1: lines would be stored now, as /readyz says.", r.Ready() == nil)
	t.Flag("wsreceive_store_up", "0: the store has not answered since it was last tried.", !r.health.down.Load())
	t.Counter("wsreceive_store_failures_total", "Tries that the store did not answer, or with an error.",
		float64(r.health.failures.Load()))
	t.Histogram("wsreceive_commit_seconds", "How long the store took for a group of batches, tries that failed included.", f.commits)
	r.senders(t)
	t.Time("wsreceive_start_time_seconds", "When the receiver started.", f.started)
}

// senders writes about all that are known. A stream has one owner, so nothing is
// there twice. Of each there are two figures, so that some thousand senders are no
// burden; more are there only of those in trouble.
func (r *Receiver) senders(t *metrics.Text) {
	r.mu.Lock()
	t.Gauge("wsreceive_sessions", "WebSocket sessions, unauthenticated ones included.", float64(len(r.sessions)))
	r.mu.Unlock()
	now, all := time.Now(), r.Senders()
	slices.SortFunc(all, func(a, b Sender) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.SID, b.SID)) })
	n := map[Standing]int{}
	for i := range all {
		n[all[i].Standing(now, r.opts.Trouble)]++
	}
	for _, standing := range Standings {
		t.Gauge("wsreceive_senders", "Known senders by state, disconnected ones included: wsreceive senders lists them.", float64(n[standing]), "state", string(standing))
	}
	for i := range all {
		s := &all[i]
		t.Time("wsreceive_sender_last_line_timestamp_seconds", "When the store had the newest line of a sender, by the receiver's clock; also of one that is not connected.", s.Line, "host", s.Host, "sid", s.SID)
	}
	for i := range all {
		s := &all[i]
		t.Gauge("wsreceive_sender_lag_seconds", "How old the oldest line is that a sender has and the store has not, as far as the receiver knows; also of one that is not connected. 0: it knows of none.",
			s.LagAt(now).Seconds(), "host", s.Host, "sid", s.SID)
	}
	for i := range all {
		if s := &all[i]; !s.Refused.IsZero() {
			t.Gauge("wsreceive_sender_refused_seconds", "How long a sender, or its lines, have been refused; only of those that are.", now.Sub(s.Refused).Seconds(), "host", s.Host, "sid", s.SID)
		}
	}
}
