package buffer

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// work is a short life in which each kind of file call occurs: a few segments,
// one written again, a clean restart, acknowledgements. It stops where the
// process dies; how often it opens the queue is bounded.
func work(w *world) {
	if !tryStart(w) {
		return
	}
	for round := range 3 {
		for range 3 {
			w.append(3, 60<<10)
			w.append(5, 100)
			w.wait()
			w.deliver(4)
		}
		w.ack(3 + round)
		w.idle()
		if w.isDead() {
			return
		}
	}
	w.drain1()
	w.ack(len(w.ranges) - 1)
	w.idle()
	if w.isDead() || !w.stop() {
		return
	}
	if !tryStart(w) {
		return
	}
	w.out, w.ranges = w.acked, nil
	w.append(4, 300)
	w.wait()
	w.deliver(2)
}

// tryStart opens the queue, a few times if need be.
func tryStart(w *world) bool {
	for range 40 {
		if _, err := w.start(); err == nil {
			return true
		}
		if w.isDead() {
			return false
		}
		time.Sleep(time.Second)
	}
	w.Fatalf("the queue does not open")
	return false
}

func (w *world) isDead() bool {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	return w.fs.dead
}

// drain1 takes out what can be had now.
func (w *world) drain1() {
	for w.q != nil && w.next() {
	}
}

// smallWorld has segments of 256 KiB.
func smallWorld(t *testing.T, seed uint64) *world {
	w := newWorld(t, seed, Options{Codec: raw})
	w.o.Limit = 2 << 20
	return w
}

// countCalls is how many file calls the work takes.
func countCalls(t *testing.T) (n int) {
	inBubble(t, func() {
		w := smallWorld(t, 1)
		defer w.abandon()
		work(w)
		n = w.fs.calls
	})
	if n < 100 {
		t.Fatalf("the work makes %d file calls", n)
	}
	return n
}

// every tells which calls of n to try: all, or one in some.
func every(n int) int { return max(1, n/amount(n, 20, 4)) }

func TestQueue_SurvivesACrashAtEachFileCall(t *testing.T) {
	total := countCalls(t)
	for n := 1; n <= total; n += every(total) {
		for _, how := range []struct {
			name string
			end  func(*strictFS) *strictFS
		}{{"kill", (*strictFS).kill}, {"power cut", (*strictFS).powerCut}} {
			for again := 0; again <= 60; again += every(200) {
				died := false
				inBubble(t, func() {
					w := smallWorld(t, uint64(n))
					defer w.abandon()
					w.fs.crashAt = n
					work(w)
					if !w.isDead() {
						w.Fatalf("no crash at call %d of %d", n, total)
					}
					died = w.crashAgain(how.end, again)
					w.drain()
					w.restart()
					w.drain()
				})
				if t.Failed() {
					t.Fatalf("%s at call %d, again at %d", how.name, n, again)
				}
				if again > 0 && !died {
					break // the recovery makes fewer calls
				}
			}
		}
	}
}

// crashAgain is crash, and tells whether the recovery was long enough to die.
func (w *world) crashAgain(how func(*strictFS) *strictFS, again int) (died bool) {
	w.Helper()
	w.end1(how)
	if again > 0 {
		w.fs.crashAt = again
		_, _ = w.start()
		died = w.isDead()
		w.end1(how)
	}
	w.resume(w.mustStart())
	return died
}

func TestQueue_SurvivesAFaultAtEachFileCall(t *testing.T) {
	total := countCalls(t)
	for n := 1; n <= total; n += every(total) {
		for _, err := range []error{errInjected, unix.ENOSPC, errShort} {
			for _, calls := range []int{1, 25} {
				for _, end := range []func(*strictFS) *strictFS{(*strictFS).kill, (*strictFS).powerCut} {
					inBubble(t, func() {
						w := smallWorld(t, uint64(n))
						defer w.abandon()
						w.mayFail(func(k int, call, _ string) error {
							if k >= n && k < n+calls && canFail(call, err) {
								return err
							}
							return nil
						})
						work(w)
						w.fs.evict()
						w.drain1()
						w.crash(end, 0)
						w.drain()
						w.restart()
						w.drain()
					})
					if t.Failed() {
						t.Fatalf("%v at call %d, %d times", err, n, calls)
					}
				}
			}
		}
	}
}

func TestRecovery_SurvivesACrashAtEachStepOfTakingOver(t *testing.T) {
	crashInTakeOver(t, func(w *world) { crashBefore(w, "sync") }) // R12
}

func TestRecovery_SurvivesACrashAtEachStepOfWritingAgain(t *testing.T) {
	crashInTakeOver(t, func(w *world) { // F1, and then R12
		failed := 0
		w.setFault(func(n int, call, _ string) error {
			if call == "sync" && failed == 0 {
				failed = n
				return errInjected
			}
			return nil
		})
	})
}

// crashInTakeOver leaves undurable blocks as prepare says, and then crashes at
// the a-th call, and the recovery of that at its b-th.
func crashInTakeOver(t *testing.T, prepare func(*world)) {
	for _, end := range []func(*strictFS) *strictFS{(*strictFS).kill, (*strictFS).powerCut} {
		for a := 1; a < 40; a += amount(1, 1, 7) {
			for b := 0; b < 40; b += every(200) {
				inBubble(t, func() {
					w := newWorld(t, uint64(a*40+b), Options{Codec: raw})
					w.mustStart()
					defer w.abandon()
					w.append(5, 3000)
					w.wait()
					prepare(w)
					w.failed = nil // it may die before
					w.fs.crashAt = w.fs.calls + a
					w.append(5, 3000)
					w.append(5, 3000)
					w.end1((*strictFS).kill)
					w.fs.crashAt = a
					_, _ = w.start()
					synctest.Wait()
					w.crash(end, b)
					w.deliver(2)
					w.crash((*strictFS).powerCut, 0)
					w.append(2, 100)
					w.drain()
				})
				if t.Failed() {
					t.Fatalf("crash at call %d, again at %d", a, b)
				}
			}
		}
	}
}
