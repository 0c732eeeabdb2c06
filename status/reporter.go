package status

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"wsrelay/buffer"
	"wsrelay/relay"
)

// Options say what a Reporter cannot ask anybody.
type Options struct {
	Instance, QueueDir string
	Version            string
	DrainRate          int64               // bytes a second; 0: no limit
	Relay              func() relay.Status // what the relay does
	Keeper             func() Keeper       // what the keeper has seen; nil: there is none
	Problem            *Problem            // why nothing is delivered, if the configuration is to blame
}

// Keeper is what a keeper has seen of its workers.
type Keeper struct {
	Workers uint64 // that it has started; 0: there is no keeper
	Last    string // how the one before this ended
}

// Rates are means over the last minute, from samples that are so far apart.
const (
	rateOver    = time.Minute
	sampleEvery = 5 * time.Second
)

// Reporter knows a running relay. Its methods may be called concurrently; Run
// once.
type Reporter struct {
	o       Options
	q       *buffer.Queue
	started time.Time

	mu      sync.Mutex // guards the fields below
	watch   *buffer.Watch
	samples []sample // the oldest first
	lost    map[string]uint64
}

// sample is how far a queue was.
type sample struct {
	at      time.Time
	in, out uint64
}

// NewReporter begins to count the time. Whoever made it closes it.
func NewReporter(q *buffer.Queue, o Options) *Reporter {
	r := &Reporter{o: o, q: q, started: time.Now(), watch: buffer.NewWatch(q), lost: map[string]uint64{}}
	r.note(q.Stats())
	return r
}

// Close lets go of the files that it looked into.
func (r *Reporter) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watch.Close()
}

// Run takes samples until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.note(r.q.Stats())
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reporter) note(s buffer.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.samples) > 1 && now.Sub(r.samples[1].at) >= rateOver {
		r.samples = r.samples[1:]
	}
	r.samples = append(r.samples, sample{now, s.Head, s.Cursor})
}

// Snapshot asks everybody.
func (r *Reporter) Snapshot() Snapshot {
	st, now := r.q.Stats(), time.Now()
	re := r.o.Relay()
	s := Snapshot{
		Instance: r.o.Instance, QueueDir: r.o.QueueDir, At: now,
		PID: os.Getpid(), Version: r.o.Version, StartedAt: r.started,
		State: re.State, Since: re.Since, URL: re.URL, FailedAttempts: re.Attempts, Sessions: re.Sessions, Failures: re.Failures,
		DrainRate: r.o.DrainRate,
		SentLines: re.SentLines, SentBytes: re.SentBytes, SentAgainLines: re.SentAgain, DeadLetterLines: re.Rejected,
		ReceiptAt: re.ReceiptAt,
	}
	s.queue(st)
	if r.o.Keeper != nil {
		s.keeper(r.o.Keeper())
	}
	r.mu.Lock()
	s.DiskLimitBytes = r.watch.Limit()
	oldest, _ := r.watch.Oldest() // what cannot be read, the relay reports
	s.lost(r.watch.Lost(), re.Lost, r.lost)
	s.rates(r.samples[0], sample{now, st.Head, st.Cursor})
	r.mu.Unlock()
	s.age(oldest)
	s.judge(&re, st)
	if r.o.Problem != nil {
		s.State = Holding
		s.problem(*r.o.Problem)
	}
	return s
}

// queue takes what a queue tells of itself.
func (s *Snapshot) queue(st buffer.Stats) {
	s.SID, s.LinesIn, s.LinesDone = st.SID, st.Durable-1, st.Cursor-1
	s.BacklogLines, s.BacklogBytes, s.DiskBytes = st.Head-st.Cursor, st.PendingBytes, st.DiskBytes
	s.ReceiptSeq, s.ReceiptUID = st.Receipt.Seq, st.Receipt.UID
	s.Healthy, s.Problems, s.Lost = true, []Problem{}, []Lost{}
}

func (s *Snapshot) keeper(k Keeper) {
	if s.Keeper = k.Workers > 0; s.Keeper {
		s.WorkerRestarts, s.LastWorker = k.Workers-1, k.Last
	}
}

func (s *Snapshot) age(oldest time.Time) {
	if s.OldestAt = oldest; !oldest.IsZero() {
		s.LagSeconds = max(0, s.At.Sub(oldest).Seconds())
	}
}

func (s *Snapshot) rates(from, to sample) {
	if d := to.at.Sub(from.at).Seconds(); d >= 1 {
		s.RateSeconds = d
		s.InRate, s.OutRate = float64(to.in-from.in)/d, float64(to.out-from.out)/d
	}
}

// lost adds up what the receiver knows of and what it does not, which is no
// backlog. A loss that is just becoming known is in neither: a sum is never less
// than it was before.
func (s *Snapshot) lost(untold []buffer.Lost, told, before map[string]uint64) {
	sums := map[string]Lost{}
	for why, n := range told {
		sums[why] = Lost{why, n, n}
	}
	for _, l := range untold {
		s.BacklogLines -= min(l.Len(), s.BacklogLines)
		sum := sums[l.Why]
		sums[l.Why] = Lost{l.Why, sum.Lines + l.Len(), sum.Told}
	}
	for why, n := range before {
		sums[why] = Lost{why, max(n, sums[why].Lines), sums[why].Told}
	}
	for why, l := range sums {
		if before != nil {
			before[why] = l.Lines
		}
		s.Lost = append(s.Lost, l)
	}
	slices.SortFunc(s.Lost, func(a, b Lost) int { return cmp.Compare(a.Why, b.Why) })
}

func (s *Snapshot) problem(p Problem) {
	s.Healthy, s.Problems = false, append(s.Problems, p)
}

// judge says what is wrong. A receiver that went away is no matter as long as
// there is nothing to send.
func (s *Snapshot) judge(re *relay.Status, st buffer.Stats) {
	if re.LastError != "" && st.Cursor < st.Head {
		s.problem(Problem{re.LastError, re.Effect, re.Hint})
	}
	if st.Trouble != "" {
		s.problem(Problem{
			"cannot write to the queue: " + st.Trouble,
			"no line is lost: wsrelay stops reading, and syslog-ng holds what comes, as its flow control is set", st.Hint,
		})
	}
	if s.DrainRate > 0 && s.LagSeconds > rateOver.Seconds() && s.State == relay.StateConnected && s.InRate > s.OutRate {
		s.problem(Problem{
			fmt.Sprintf("the backlog grows: --drain-rate lets %.0f lines a second through, and %.0f come", s.OutRate, s.InRate),
			"no line is lost while the queue has room", "raise --drain-rate",
		})
	}
}
