package receiver

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
)

// keeper is a store that keeps senders in a file.
type keeper struct {
	memStore
	path string

	mu     sync.Mutex // guards writes
	writes int
}

func (k *keeper) Senders(context.Context) ([]Sender, error) { return ReadSenders(k.path) }

func (k *keeper) KeepSenders(_ context.Context, all, _ []Sender, _ []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes++
	return WriteSenders(k.path, all)
}

// helloOf is what a sender of this host and stream says.
func helloOf(host, sid string, acked, head uint64) *handshake.Hello {
	h := hello(acked)
	h.Host, h.SID, h.Head, h.Agent = host, sid, head, "wsrelay/1"
	return h
}

// reported waits until the sender of a stream is as wanted.
func reported(t *testing.T, r *Receiver, sid, what string, want func(s *Sender) bool) Sender {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		all := r.Senders()
		i := slices.IndexFunc(all, func(s Sender) bool { return s.SID == sid })
		if i >= 0 && want(&all[i]) {
			return all[i]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never came: %+v", what, all)
		}
	}
}

// A sender that is away is known, with its last line, also to a receiver that starts
// after it has gone: else nobody would see that a host has fallen silent.
func TestFleet_KnowsSendersThatAreDisconnected(t *testing.T) {
	store := &keeper{path: filepath.Join(t.TempDir(), "senders")}
	r, url := serve(t, store, Options{})
	p := dial(t, url)
	p.control(helloOf("web1", sid, 1, 4))
	want[*handshake.Welcome](p)
	reported(t, r, sid, "what waits at the sender", func(s *Sender) bool { return s.Behind == 3 && s.Online && s.Line.IsZero() })
	p.lines(1, "a", "b")
	p.wantAck(3)
	s := reported(t, r, sid, "its lines", func(s *Sender) bool { return s.Lines == 2 && s.Behind == 1 })
	if s.Host != "web1" || s.Agent != "wsrelay/1" || time.Since(s.Line) > time.Minute || s.Lag < 24*time.Hour ||
		s.Rate <= 0 {
		t.Errorf("got %+v", s)
	}
	p.conn.Close()
	reported(t, r, sid, "its absence", func(s *Sender) bool { return !s.Online })
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r.KeepSenders(ctx)

	again := New(store, Options{})
	if len(again.Senders()) != 0 {
		t.Fatal("it knows senders before it has read any")
	}
	again.KeepSenders(ctx)
	s = reported(t, again, sid, "the sender, after a restart", func(s *Sender) bool { return s.Lines == 2 })
	if got := s.Standing(s.Line.Add(61*time.Minute), Thresholds{}); got != Silent {
		t.Errorf("an hour later it is %s, want silent", got)
	}
	if got := s.Standing(s.Line.Add(61*time.Minute), Thresholds{
		Silent: 2 * time.Hour,
		Late:   1 << 62,
	}); got != Delivering {
		t.Errorf("with a threshold of two hours it is %s, want delivering", got)
	}
	var m metrics.Text
	again.Metrics(&m)
	for _, want := range []string{
		`wsreceive_sender_last_line_timestamp_seconds{host="web1",sid="` + sid + `"} `,
		`wsreceive_sender_lag_seconds{host="web1",sid="` + sid + `"} `, `wsreceive_senders{state="late"} 1`,
	} {
		if !strings.Contains(string(m.Bytes()), want) {
			t.Errorf("no %s in\n%s", want, m.Bytes())
		}
	}
	again.KeepSenders(ctx)
	if store.writes != 1 {
		t.Errorf("written %d times, want once: nothing has changed since", store.writes)
	}
}

// One that has proved nothing is shown, and cannot make another look bad that is
// connected.
func TestFleet_NamesWhoIsRefused(t *testing.T) {
	keys := handshake.Secrets{{Name: "web1", Value: []byte(strings.Repeat("k", 32))}}
	r, url := serve(t, &memStore{}, Options{})
	p := dial(t, url)
	p.control(helloOf("web1", sid, 1, 1))
	want[*handshake.Welcome](p)
	reported(t, r, sid, "the sender", func(s *Sender) bool { return s.Online })
	impostor := &session{hello: helloOf("web1", sid, 1, 1)}
	r.fleet.rejected(impostor, &closeReason{code: handshake.CloseUnauthenticated, msg: "no"})
	if s := reported(t, r, sid, "the sender", func(*Sender) bool { return true }); !s.Refused.IsZero() {
		t.Errorf("a stranger has made it look refused: %+v", s)
	}
	p.conn.Close()
	reported(t, r, sid, "its absence", func(s *Sender) bool { return !s.Online })

	r.SetAccess(Access{Keys: keys, Unbound: true})
	const other = "fedcba9876543210"
	for _, id := range []string{sid, other} {
		p := dial(t, url)
		p.control(helloOf("web1", id, 1, 1))
		p.wantClose(handshake.CloseUnauthenticated)
		s := reported(t, r, id, "the refusal", func(s *Sender) bool { return !s.Refused.IsZero() })
		if got := s.Standing(time.Now(), Thresholds{}); got != Refused || !strings.Contains(s.Why, "wants a key") {
			t.Errorf("%s: it is %s, %q", id, got, s.Why)
		}
	}
	r.SetAccess(Access{})
	p = dial(t, url)
	p.control(helloOf("web1", other, 1, 1))
	want[*handshake.Welcome](p)
	reported(t, r, other, "the sender, after all", func(s *Sender) bool { return s.Refused.IsZero() && s.Online })
	if n := len(r.Senders()); n != 2 {
		t.Errorf("%d senders, want 2: %+v", n, r.Senders())
	}
}

// A sender whose stream has diverged is shown so until it comes back under another:
// then the old stream is nobody's any more, and must not be taken for a silent host.
func TestFleet_FollowsASenderToItsNewStream(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{})
	p := connect(t, url)
	p.lines(1, "a")
	p.wantAck(2)
	p.conn.Close()
	reported(t, r, sid, "its absence", func(s *Sender) bool { return !s.Online })
	p = connect(t, url)
	p.lines(1, "other")
	p.wantNak(handshake.NakDiverged, 1)
	s := reported(t, r, sid, "the divergence", func(s *Sender) bool { return !s.Diverged.IsZero() })
	if got := s.Standing(time.Now(), Thresholds{}); got != Diverged {
		t.Errorf("it is %s", got)
	}
	const next = "fedcba9876543210"
	h := helloOf("web1", next, 1, 1)
	h.Proof = &handshake.Proof{Seq: 2, UID: handshake.UID(sid, 1)}
	q := dial(t, url)
	q.control(h)
	want[*handshake.Welcome](q)
	reported(t, r, next, "the new stream", func(s *Sender) bool { return s.Online })
	p.conn.Close()
	for deadline := time.Now().Add(20 * time.Second); len(r.Senders()) != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want the new stream alone", r.Senders())
		}
	}
}

// While the store takes nothing, the lag of a sender grows.
func TestFleet_ALineThatWaitsForTheStoreMakesItsSenderLate(t *testing.T) {
	store, fails := newFailingStore()
	r, url := serve(t, store, Options{})
	p := dial(t, url)
	p.control(helloOf("web1", sid, 1, 2))
	want[*handshake.Welcome](p)
	p.lines(1, "of 2023")
	s := reported(t, r, sid, "the lag", func(s *Sender) bool { return !s.Waits.IsZero() })
	if got := s.Standing(time.Now(), Thresholds{}); got != Late {
		t.Errorf("it is %s, want late", got)
	}
	fails.Store(false)
	p.wantAck(2)
	s = reported(t, r, sid, "the line", func(s *Sender) bool { return s.Waits.IsZero() && s.Lines == 1 })
	if lag := s.LagAt(time.Now().Add(2 * lagHolds)); lag != 0 {
		t.Errorf("the lag is %v when nothing has waited for a while", lag)
	}
}

// The list stays bounded, and orders senders by trouble.
func TestFleet_IsBoundedAndOrdered(t *testing.T) {
	r := New(&memStore{}, Options{})
	for i := range maxUnknown + 50 {
		s := &session{hello: helloOf(fmt.Sprintf("host%d", i), fmt.Sprintf("%016x", i), 1, 1)}
		r.fleet.rejected(s, &closeReason{code: handshake.CloseForbidden, msg: strings.Repeat("x", 1000)})
	}
	all := r.Senders()
	if len(all) != maxUnknown || len(all[0].Why) != 200 {
		t.Errorf("%d strangers are remembered, the reason with %d bytes", len(all), len(all[0].Why))
	}
	now := time.Now()
	mk := func(host string, line time.Duration, change func(*Sender)) Sender {
		s := Sender{Host: host, SID: host, First: now.Add(-24 * time.Hour), Seen: now, Line: now.Add(-line)}
		if change != nil {
			change(&s)
		}
		return s
	}
	reports := Reports([]Sender{
		mk("fine", 0, nil), mk("silent2h", 2*time.Hour, nil), mk("late", 0, func(s *Sender) { s.Lag = time.Hour }),
		mk("silent3h", 3*time.Hour, nil),
		mk("refused", 0, func(s *Sender) { s.Refused = now }), mk("diverged", 0, func(s *Sender) { s.Diverged = now }),
	}, now, Thresholds{})
	var order []string
	for _, r := range reports {
		order = append(order, r.Host+"="+string(r.State))
	}
	if got, want := strings.Join(order, " "), "refused=refused diverged=diverged silent3h=silent silent2h=silent late=late fine=delivering"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
