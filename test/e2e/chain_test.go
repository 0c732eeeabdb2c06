package e2e

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

// outage is how long the receiver is away, three times: SOAK, or one second.
func outage(t *testing.T) time.Duration {
	soak, set := os.LookupEnv("SOAK")
	if !set {
		return time.Second
	}
	d, err := time.ParseDuration(soak)
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	return d
}

func TestChain_DeliversAllLinesOnceAndInOrderThroughOutages(t *testing.T) {
	need(t, "syslog-ng")
	const rate = 5000
	s := newSandbox(t, built(t))
	r, err := s.NewReceiver()
	must(t, err)
	startReceiver(t, r)
	sample, err := s.Sample(r.URL())
	must(t, err)
	syslogNG := start(t, s, sample, AccessSocket, LocalSocket)
	f, err := s.Feed(rate)
	must(t, err)
	t.Cleanup(func() { must(t, f.Stop()) })
	away := int(outage(t).Seconds() * rate)
	for _, end := range []func(){
		func() { must(t, r.Stop()) },
		func() { r.Kill() },
		func() { // with receipts outstanding for sure
			must(t, r.Signal(syscall.SIGSTOP))
			must(t, f.WaitSent(t.Context(), rate/10))
			r.Kill()
		},
	} {
		must(t, f.WaitSent(t.Context(), rate/2))
		end()
		must(t, f.WaitSent(t.Context(), away))
		startReceiver(t, r)
		waitStored(t, r, f.Sent())
	}
	must(t, f.Stop())
	waitStored(t, r, f.Sent())
	stop(t, s, syslogNG)

	v, err := Check(r.Documents(t.Context()), f.Sent())
	if err != nil || !v.OK() {
		t.Errorf("after three outages: %+v, %v; want every line once, in order", v, err)
	}
	again, err := s.SentAgain()
	if err != nil || again == 0 {
		t.Errorf("sent again: %d, %v; want some, else the outages have tested nothing", again, err)
	}
	t.Logf("%+v, %d sent again", v, again)
}

func startReceiver(t *testing.T, r *Receiver) {
	t.Helper()
	must(t, r.Start(t.Context()))
	t.Cleanup(func() { r.Kill() })
}

func waitStored(t *testing.T, r *Receiver, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must(t, r.WaitStored(ctx, n))
}
