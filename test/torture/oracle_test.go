package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/test/harness"
)

// oracle is what the receivers have stored: which line stands under which
// number. It holds no lines, as they follow from their numbers.
type oracle struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every commit
	streams []*stream     // in the order they came
	next    uint64        // behind the highest line
	altered int
}

// stream is what came under one sid.
type stream struct {
	sid  string
	runs []run // ascending by seq
}

// run is consecutive numbers: of consecutive lines, or of a gap.
type run struct {
	seq, count uint64
	line       uint64 // the first
	why        string // not "": a gap
}

func (r run) end() uint64 { return r.seq + r.count }

func newOracle() *oracle { return &oracle{changed: make(chan struct{})} }

// testReceiver is the receiver that one wsrelay ships to; behind it is the oracle.
type testReceiver struct {
	*oracle
	URL  string
	away atomic.Bool // the store does not answer
	shut bool        // for ever: nobody hears any more what wsrelay says; guarded by mu

	receiver *receiver.Receiver
	server   *httptest.Server
}

func (o *oracle) newDoor() *testReceiver {
	d := &testReceiver{oracle: o}
	d.receiver = receiver.New(d, receiver.Options{Log: slog.New(slog.DiscardHandler), DrainTimeout: time.Millisecond})
	mux := http.NewServeMux()
	mux.Handle("/relay", d.receiver)
	d.server = httptest.NewServer(mux)
	d.URL = "ws" + strings.TrimPrefix(d.server.URL, "http") + "/relay"
	return d
}

// close: from here on nothing is stored, not even what is on its way.
func (d *testReceiver) close() {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
}

// remove ends the receiver; the sender must have ended before.
func (d *testReceiver) remove() {
	d.close()
	d.receiver.Shutdown()
	d.server.Close()
}

// Describe implements receiver.Store.
func (d *testReceiver) Describe() (name, guarantee string) { return "oracle", handshake.ExactlyOnce }

// Begin implements receiver.Store.
func (d *testReceiver) Begin(*handshake.Hello) {}

// Close implements receiver.Store.
func (d *testReceiver) Close() error { return nil }

var errAway = errors.New("the store is away")

// Commit implements receiver.Store.
func (d *testReceiver) Commit(_ context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || d.away.Load() {
		return nil, errAway
	}
	return d.commit(batches)
}

// commit notes what the batches bring; mu is held.
func (o *oracle) commit(batches []receiver.Batch) ([]receiver.Result, error) {
	results := make([]receiver.Result, len(batches))
	for k, b := range batches {
		s := o.stream(b.SID)
		if b.Gap != nil {
			s.put(run{seq: b.Gap.Seq, count: b.Gap.N, why: b.Gap.Why})
			results[k].New++
			continue
		}
		for i, line := range b.Lines {
			n, ok := harness.NumberOf(line)
			if !ok {
				o.altered++
			}
			isNew, err := s.line(b.Seq+uint64(i), n)
			switch {
			case err != nil:
				return nil, err
			case isNew:
				results[k].New++
				o.next = max(o.next, n+1)
			default:
				results[k].Dup++
			}
		}
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return results, nil
}

func (o *oracle) stream(sid string) *stream {
	for _, s := range o.streams {
		if s.sid == sid {
			return s
		}
	}
	o.streams = append(o.streams, &stream{sid: sid})
	return o.streams[len(o.streams)-1]
}

// line notes line n under seq.
func (s *stream) line(seq, n uint64) (isNew bool, err error) {
	k, found := s.find(seq)
	if found {
		if r := s.runs[k]; r.why == "" && r.line+seq-r.seq != n {
			return false, &receiver.DivergedError{SID: s.sid, Seq: seq}
		}
		return false, nil
	}
	if k > 0 {
		if r := &s.runs[k-1]; r.why == "" && r.end() == seq && r.line+r.count == n {
			r.count++
			return true, nil
		}
	}
	s.runs = slices.Insert(s.runs, k, run{seq: seq, count: 1, line: n})
	return true, nil
}

// find is the run that holds seq, or else where one would go.
func (s *stream) find(seq uint64) (k int, found bool) {
	k, found = slices.BinarySearchFunc(s.runs, seq, func(r run, seq uint64) int { return cmp.Compare(r.seq, seq) })
	if !found && k > 0 && seq < s.runs[k-1].end() {
		return k - 1, true
	}
	return k, found
}

// put notes a gap, once.
func (s *stream) put(gap run) {
	k, found := s.find(gap.seq)
	if found && s.runs[k].why != "" && s.runs[k].end() == gap.end() {
		return
	}
	s.runs = slices.Insert(s.runs, k, gap)
}

// wait waits until every line below n was stored or passed over.
func (o *oracle) wait(ctx context.Context, n uint64) error {
	for {
		o.mu.Lock()
		next, changed := o.next, o.changed
		o.mu.Unlock()
		if next >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// life is what one pipe carried: from the first line to the last of which at
// least a byte was written.
type life struct {
	first, end uint64
	promised   uint64 // every line below had been durable when the life ended
	powerCut   bool   // numbers that nothing had promised may be missing in the middle
}

// verdict is what the oracle says about all lives so far.
type verdict struct {
	Fed       uint64 // lines
	Delivered uint64
	Promised  uint64
	Cut       uint64 // at the end of a life, above what was promised, or "unsynced": allowed
	Gaps      uint64 // of these: lines with a gap record
	Lost      uint64 // promised, and not there
	Doubled   uint64 // or out of order
	Altered   uint64
	Damaged   uint64 // lines in gaps of any other reason
	Astray    uint64 // numbers, or lines, that no record and no rule accounts for
}

func (v verdict) ok() bool { return v.Lost+v.Doubled+v.Altered+v.Damaged+v.Astray == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("fed %d, promised %d, delivered %d, cut %d (in gap records %d), lost %d, doubled %d, altered %d, damaged %d, astray %d",
		v.Fed, v.Promised, v.Delivered, v.Cut, v.Gaps, v.Lost, v.Doubled, v.Altered, v.Damaged, v.Astray)
}

// judge compares what was stored with the lives, which follow one another.
func (o *oracle) judge(lives []life) (v verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v.Altered = uint64(o.altered)
	var line, gap uint64 // the next line; the length of the gap records before it
	if len(lives) > 0 {
		line = lives[0].first
	}
	for _, s := range o.streams {
		for k, r := range s.runs {
			if k > 0 && r.seq != s.runs[k-1].end() {
				v.Astray += max(r.seq, s.runs[k-1].end()) - min(r.seq, s.runs[k-1].end())
			}
			switch {
			case r.why == "unsynced":
				gap += r.count
				v.Gaps += r.count
			case r.why != "":
				gap += r.count
				v.Damaged += r.count
			case r.line < line:
				v.Doubled += min(r.count, line-r.line)
			default:
				v.missing(lives, line, r.line, gap)
				v.Delivered += r.count
				line, gap = r.line+r.count, 0
			}
		}
	}
	for _, l := range lives {
		v.Fed += l.end - l.first
		v.Promised += l.promised - l.first
	}
	if len(lives) > 0 {
		v.missing(lives, line, lives[len(lives)-1].end, gap)
	}
	return v
}

// missing judges the lines from from to to, which are not there; records speak
// of gap of them.
func (v *verdict) missing(lives []life, from, to, gap uint64) {
	var middle, tails uint64
	for _, l := range lives {
		a, b := max(from, l.first), min(to, l.end)
		if a >= b {
			continue
		}
		if a < l.promised {
			v.Lost += min(b, l.promised) - a
			a = min(b, l.promised)
		}
		if b < l.end { // a line of this life follows
			middle += b - a
		} else {
			tails += b - a
		}
		if !l.powerCut && gap > 0 {
			v.Astray += gap
		}
	}
	v.Cut += middle + tails
	if gap < middle || gap > middle+tails {
		v.Astray += max(gap, middle) - min(gap, middle)
	}
}

func TestOracle_SeesEachFault(t *testing.T) {
	lives := []life{{first: 0, end: 100, promised: 50, powerCut: true}, {first: 100, end: 200, promised: 200}}
	whole := []run{{seq: 1, count: 60, line: 0}, {seq: 61, count: 100, line: 100}}
	for name, c := range map[string]struct {
		runs []run
		want string
	}{
		"nothing wrong": {whole, "cut 40 (in gap records 0), lost 0, doubled 0, altered 0, damaged 0, astray 0"},
		"a promised line": {
			[]run{{seq: 1, count: 49, line: 0}, {seq: 50, count: 100, line: 100}},
			"cut 50 (in gap records 0), lost 1, doubled 0, altered 0, damaged 0, astray 0",
		},
		"a line in the middle": {[]run{{seq: 1, count: 60, line: 0}, {seq: 61, count: 9, line: 61}, {seq: 70, count: 100, line: 100}}, "cut 31 (in gap records 0), lost 0, doubled 0, altered 0, damaged 0, astray 1"},
		"with a record": {
			[]run{
				{seq: 1, count: 60, line: 0},
				{seq: 61, count: 1, why: "unsynced"},
				{seq: 62, count: 9, line: 61},
				{seq: 71, count: 100, line: 100},
			},
			"cut 31 (in gap records 1), lost 0, doubled 0, altered 0, damaged 0, astray 0",
		},
		"a record of too much": {
			[]run{
				{seq: 1, count: 60, line: 0},
				{seq: 61, count: 2, why: "unsynced"},
				{seq: 63, count: 9, line: 61},
				{seq: 72, count: 100, line: 100},
			},
			"cut 31 (in gap records 2), lost 0, doubled 0, altered 0, damaged 0, astray 1",
		},
		"damage": {[]run{{seq: 1, count: 50, line: 0}, {seq: 51, count: 10, why: "damaged"}, {seq: 61, count: 100, line: 100}}, "cut 50 (in gap records 0), lost 0, doubled 0, altered 0, damaged 10, astray 0"},
		"a line twice": {
			append(slices.Clone(whole), run{seq: 161, count: 1, line: 7}),
			"cut 40 (in gap records 0), lost 0, doubled 1, altered 0, damaged 0, astray 0",
		},
		"a number without a say": {[]run{{seq: 1, count: 60, line: 0}, {seq: 62, count: 100, line: 100}}, "cut 40 (in gap records 0), lost 0, doubled 0, altered 0, damaged 0, astray 1"},
		"the last line": {
			[]run{{seq: 1, count: 60, line: 0}, {seq: 61, count: 99, line: 100}},
			"cut 40 (in gap records 0), lost 1, doubled 0, altered 0, damaged 0, astray 0",
		},
	} {
		o := &oracle{streams: []*stream{{sid: "s", runs: c.runs}}}
		if _, got, _ := strings.Cut(o.judge(lives).String(), "delivered "); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestOracle_RefusesAnotherLineUnderANumber(t *testing.T) {
	o := newOracle()
	commit := func(seq uint64, numbers ...uint64) error {
		b := receiver.Batch{SID: "s", Seq: seq}
		for _, n := range numbers {
			line := harness.AppendLine(nil, n)
			b.Lines = append(b.Lines, line[:len(line)-1])
		}
		_, err := o.commit([]receiver.Batch{b})
		return err
	}
	harness.Must(t, commit(1, 10, 11, 12))
	harness.Must(t, commit(2, 11, 12, 13))
	var diverged *receiver.DivergedError
	if err := commit(3, 13); !errors.As(err, &diverged) {
		t.Errorf("commit of another line: %v", err)
	}
	if got, want := o.streams[0].runs, []run{{seq: 1, count: 4, line: 10}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
