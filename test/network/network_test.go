package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// plan is how long everything takes.
type plan struct {
	length           time.Duration
	cycle            time.Duration // there is a blackhole in each
	dark             [2]time.Duration
	calm             time.Duration // between kills, at most
	backlogs         int           // how often a long queue is made to drain
	backlog          uint64        // lines of it
	killsWhileDrains int
}

func plans() plan {
	if harness.Long() {
		return plan{
			length: 30 * time.Minute, cycle: time.Minute, dark: [2]time.Duration{5 * time.Second, 40 * time.Second},
			calm: 15 * time.Second, backlogs: 4, backlog: 300_000, killsWhileDrains: 5,
		}
	}
	return plan{
		length: 35 * time.Second, cycle: 15 * time.Second, dark: [2]time.Duration{2 * time.Second, 5 * time.Second},
		calm: 5 * time.Second, backlogs: 1, backlog: 30_000, killsWhileDrains: 2,
	}
}

// TestNetwork_CostsNoLine is the whole of it.
func TestNetwork_CostsNoLine(t *testing.T) {
	p := plans()
	s := newScene(t)
	s.startReceiver()
	s.startRelay()
	ctx, cancel := context.WithTimeout(t.Context(), p.length)
	defer cancel()
	var m meter
	var beside sync.WaitGroup
	watch, stopWatch := context.WithCancel(t.Context())
	beside.Go(func() { m.run(watch, s) })
	beside.Go(func() { s.storms(ctx, p) })
	for k := range p.backlogs {
		part, done := context.WithTimeout(ctx, time.Until(s.begun.Add(p.length*time.Duration(k+1)/time.Duration(p.backlogs+1))))
		s.killings(part, p)
		done()
		s.drainings(ctx, p)
	}
	s.killings(ctx, p)
	<-ctx.Done()
	s.deliver()
	stopWatch()
	beside.Wait()

	f, err := os.Open(s.path("lines"))
	harness.Must(t, err)
	defer f.Close()
	v, err := judge(f, s.lives)
	harness.Must(t, err)
	again := s.sentAgain()
	t.Logf("%v: %s", time.Since(s.begun).Round(time.Second), v)
	t.Logf("%d lines fed, %d sent again; killed: %d workers, %d keepers with their workers, %d receivers, %d of all while a long queue drained; %d blackholes",
		s.next(), again, s.killed.workers, s.killed.keepers, s.killed.receivers, s.killed.draining, s.blackholes.Load())
	t.Logf("nothing was stored for %v at most while network and receiver were there, %v at most in all; CPU %.0f %% of one core; %d packets, %d MB, %d dropped by a full wire",
		m.idle.Round(100*time.Millisecond), m.standstill.Round(100*time.Millisecond),
		100*cpu().Seconds()/time.Since(s.begun).Seconds(),
		s.wire.packets.Load(), s.wire.bytes.Load()/1e6, s.wire.dropped.Load())
	if !v.ok() {
		t.Errorf("lives %+v\n%s\n%s", s.lives, s.tail("wsrelay.log"), s.tail("wsreceive.log"))
	}
	if gaps, err := os.ReadFile(s.path("lines.gaps")); err == nil && len(gaps) > 0 {
		t.Errorf("lines were dropped:\n%s", gaps)
	}
	if again == 0 || s.killed.workers == 0 || s.killed.receivers == 0 || s.blackholes.Load() == 0 {
		t.Error("nothing was tested")
	}
}

// storms makes a blackhole in each cycle: nothing arrives, and neither end learns it.
func (s *scene) storms(ctx context.Context, p plan) {
	for ctx.Err() == nil {
		over := time.Now().Add(p.cycle)
		dark := p.dark[0] + rand.N(p.dark[1]-p.dark[0])
		sleep(ctx, rand.N(p.cycle-dark))
		if ctx.Err() == nil {
			s.blackholes.Add(1)
			err := s.weather(blackhole)
			sleep(ctx, dark)
			if err := errors.Join(err, s.weather(lossy)); err != nil {
				s.t.Error(err)
			}
		}
		sleep(ctx, time.Until(over))
	}
}

// killings kills something now and then until ctx is over.
func (s *scene) killings(ctx context.Context, p plan) {
	for {
		sleep(ctx, rand.N(p.calm))
		if ctx.Err() != nil {
			return
		}
		s.killSomething(ctx)
	}
}

func (s *scene) killSomething(ctx context.Context) {
	switch k := rand.IntN(10); {
	case k < 5:
		s.killWorker(ctx)
	case k < 9:
		s.restartReceiver(ctx)
	default:
		s.killKeeper()
	}
}

// drainings takes wsreceive away until a long queue waits, and kills both
// again and again while it drains.
func (s *scene) drainings(ctx context.Context, p plan) {
	s.killReceiver()
	for waits := func() bool { return s.fed()-s.stored() < p.backlog }; ctx.Err() == nil && waits(); {
		sleep(ctx, 50*time.Millisecond)
	}
	s.startReceiver()
	for range p.killsWhileDrains {
		for was := s.stored(); ctx.Err() == nil && s.stored() == was; { // it drains
			sleep(ctx, 10*time.Millisecond)
		}
		if s.fed()-s.stored() < p.backlog/10 || ctx.Err() != nil {
			return
		}
		sleep(ctx, rand.N(500*time.Millisecond))
		s.killSomething(ctx)
		s.killed.draining++
	}
}

// meter watches how the file grows.
type meter struct {
	standstill time.Duration // the longest time without growth
	idle       time.Duration // the same, while network and receiver were there
}

func (m *meter) run(ctx context.Context, s *scene) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	grown, up, told := time.Now(), time.Now(), time.Now()
	for most := uint64(0); ctx.Err() == nil; <-tick.C {
		now, stored := time.Now(), s.stored()
		if stored > most {
			most, grown = stored, now
		}
		if !s.served.Load() || !s.clear.Load() || grown.After(up) {
			up = now
		}
		m.standstill, m.idle = max(m.standstill, now.Sub(grown)), max(m.idle, now.Sub(up))
		if harness.Long() && now.Sub(told) > 10*time.Second {
			told = now
			fmt.Printf("%v: %d stored, receiver %t, network %t, %d blackholes, longest recovery %v\n",
				time.Since(s.begun).Round(time.Second),
				stored, s.served.Load(), s.clear.Load(), s.blackholes.Load(), m.idle.Round(100*time.Millisecond))
		}
	}
}

// cpu is what this program and those that it started have used.
func cpu() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}
