package status

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"wsrelay/buffer"
	"wsrelay/internal/cli"
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
}

// sample is how far a queue was.
type sample struct {
	at      time.Time
	in, out uint64
}

// NewReporter starts to count the time. The caller closes it.
func NewReporter(q *buffer.Queue, o Options) *Reporter {
	r := &Reporter{o: o, q: q, started: time.Now(), watch: buffer.NewWatch(q)}
	r.note(q.Stats())
	return r
}

// Close releases the files that it looked into.
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
		State: re.State, Since: re.Since, URL: re.URL, FailedAttempts: re.Attempts, NextAttemptAt: re.NextAt,
		Sessions: re.Sessions, Failures: re.Failures,
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
	s.lost(r.watch.Lost())
	s.rates(r.samples[0], sample{now, st.Head, st.Cursor})
	r.mu.Unlock()
	s.age(oldest)
	s.findProblems(&re, st)
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
// backlog.
func (s *Snapshot) lost(all []buffer.Lost) {
	sums, last := map[string]Lost{}, time.Time{}
	for _, l := range all {
		sum := sums[l.Why]
		sum.Why, sum.Lines = l.Why, sum.Lines+l.Len()
		if l.Acknowledged {
			sum.Told += l.Len()
		} else {
			s.BacklogLines -= min(l.Len(), s.BacklogLines)
		}
		sums[l.Why] = sum
		if l.Why == "damaged" && l.At.After(last) {
			last = l.At
		}
	}
	s.Lost = slices.SortedFunc(maps.Values(sums), func(a, b Lost) int { return cmp.Compare(a.Why, b.Why) })
	if s.Lost == nil {
		s.Lost = []Lost{}
	}
	if n := sums["damaged"].Lines; n > 0 {
		s.problem(Problem{
			fmt.Sprintf("%s lost: damaged on disk, or in files that were removed; the last on %s",
				cli.Count(n, "line is", "lines are"), last.UTC().Format("2 January 2006 15:04 UTC")),
			"each of them is in a gap document, or will be",
			fmt.Sprintf("look into the log for the reason, and at the disk's health; this is reported for %d days after the loss", buffer.KeepLosses/(24*time.Hour)),
		})
	}
}

func (s *Snapshot) problem(p Problem) {
	s.Healthy, s.Problems = false, append(s.Problems, p)
}

// findProblems says what is wrong. A receiver that went away is no matter as long as
// there is nothing to send.
func (s *Snapshot) findProblems(re *relay.Status, st buffer.Stats) {
	if re.LastError != "" && st.Cursor < st.Head {
		s.problem(Problem{re.LastError, re.Effect, re.Hint})
	}
	if st.Trouble != nil {
		s.problem(Problem(*st.Trouble))
	}
	if s.DrainRate > 0 && s.LagSeconds > rateOver.Seconds() && s.State == relay.StateConnected && s.InRate > s.OutRate {
		s.problem(Problem{
			fmt.Sprintf("the backlog grows: --drain-rate lets %.0f lines a second through, and %.0f come", s.OutRate,
				s.InRate),
			"no line is lost while the queue has space", "raise --drain-rate",
		})
	}
}
