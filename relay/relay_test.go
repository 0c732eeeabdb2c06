package relay

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wsrelay/handshake"
)

// refusing dials nothing and counts.
func refusing(times chan<- time.Time) netDial {
	return func(context.Context, string, string) (net.Conn, error) {
		times <- time.Now()
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
}

func TestRun_BacksOffWhileRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		appendLines(t, q, 1, 1)
		var log logged
		times := make(chan time.Time, 1000)
		r := connect(t, q, Options{Log: log.logger()}, func(*peer) {})
		r.net = refusing(times)
		stop := run(t, r)
		time.Sleep(time.Hour)
		if got := r.Status(); got.State != StateWaiting || got.Attempts < 2 ||
			!strings.Contains(got.LastError, "refused") || got.Hint == "" || time.Until(got.NextAt) <= 0 {
			t.Errorf("status is %+v", got)
		}
		stop()
		close(times)
		var last time.Time
		n := 0
		for at := range times {
			if gap := at.Sub(last); n > 0 && gap > 30*time.Second {
				t.Errorf("attempt %d came %v after the one before", n, gap)
			}
			last = at
			n++
		}
		// 15 s on average once the backoff has grown, with a deviation of 9 attempts.
		if n < 190 || n > 300 {
			t.Errorf("%d attempts in an hour", n)
		}
		if log.count("msg=disconnected") != 1 || log.count("\n") > 61 || log.count("still disconnected") < 30 {
			t.Errorf("%d lines are logged:\n%.2000s", log.count("\n"), log.text())
		}
		if log.count("suppressed=0") == log.count("\n") {
			t.Errorf("no line says what was suppressed:\n%s", log.text())
		}
	})
}

func TestRun_SaysOnceThatItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		var log logged
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			p.receive(st)
		}, func(p *peer) {
			p.greet() // a receiver that comes and goes is not back
		}, func(p *peer) {
			p.greet()
		}, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		l := r.net
		var conn net.Conn
		r.net = func(ctx context.Context, n, a string) (c net.Conn, err error) {
			conn, err = l(ctx, n, a)
			return conn, err
		}
		run(t, r)
		waitAcked(t, q, end)
		conn.Close()
		synctest.Wait()
		end = appendLines(t, q, 1, 10)
		waitAcked(t, q, end)
		synctest.Wait() // the log comes after the receipt
		for what, want := range map[string]int{
			"msg=connected": 1, "msg=disconnected": 1, "msg=reconnected": 1, "attempts=3 down=": 1, "backlog=0": 1,
		} {
			if got := log.count(what); got != want {
				t.Errorf("%q is logged %d times, want %d", what, got, want)
			}
		}
		if t.Failed() {
			t.Log(log.text())
		}
		if got := r.Status(); got.Attempts != 0 || got.LastError != "" {
			t.Errorf("status is %+v", got)
		}
	})
}

func TestRun_AReceiptResetsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		end := appendLines(t, q, 1, 10)
		cut := make(chan struct{})
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.ack(d.B, end)
			<-cut
		})
		there := r.net
		var up atomic.Bool
		times := make(chan time.Time, 1000)
		r.net = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if up.Load() {
				return there(ctx, network, addr)
			}
			return refusing(times)(ctx, network, addr)
		}
		run(t, r)
		time.Sleep(time.Hour) // by now it waits 30 s on average
		up.Store(true)
		waitAcked(t, q, end)
		up.Store(false)
		appendLines(t, q, 1, 1)
		for len(times) > 0 {
			<-times
		}
		close(cut)
		first := <-times
		for range 3 {
			<-times
		}
		if took := time.Since(first); took > 14*time.Second {
			t.Errorf("three more tries took %v, want 2 + 4 + 8 s at most", took)
		}
	})
}

func TestRun_TriesTheNextURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			p.data()
			p.close(handshake.CloseForbidden) // holds, but there are others
		}, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		r.o.URLs = []string{"ws://one", "ws://two", "ws://three"}
		l := r.net
		var asked []string
		r.net = func(ctx context.Context, n, a string) (net.Conn, error) {
			asked = append(asked, a)
			if a == "two:80" {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return l(ctx, n, a)
		}
		start := time.Now()
		run(t, r)
		waitAcked(t, q, end)
		if got, want := strings.Join(asked, " "), "one:80 two:80 three:80"; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if got, want := r.Status().URL, "ws://three/relay"; got != want {
			t.Errorf("status has %s, want %s", got, want)
		}
	})
}

func TestRun_StaysDisconnectedAsLongAsTheCloseMeans(t *testing.T) {
	for _, tt := range []struct {
		name     string
		code     int
		said     *handshake.Err
		min, max time.Duration
	}{
		{name: "over, without a bye", code: 1000, max: time.Second},
		{name: "going away", code: 1001, max: time.Second},
		{name: "protocol error", code: 1002, min: 30 * time.Second, max: 90 * time.Second},
		{name: "no such data", code: 1003, min: 30 * time.Second, max: 90 * time.Second},
		{name: "not UTF-8", code: 1007, min: 30 * time.Second, max: 90 * time.Second},
		{name: "not allowed", code: 1008, min: 30 * time.Second, max: 90 * time.Second},
		{name: "too big", code: 1009, max: time.Second},
		{name: "trouble", code: 1011, max: time.Second},
		{name: "restart", code: 1012, max: time.Second},
		{name: "try again", code: 1013, max: time.Second},
		{name: "bad frame", code: handshake.CloseBadFrame, min: 30 * time.Second, max: 90 * time.Second},
		{name: "unauthenticated", code: handshake.CloseUnauthenticated, min: 30 * time.Second, max: 90 * time.Second},
		{name: "forbidden", code: handshake.CloseForbidden, min: 30 * time.Second, max: 90 * time.Second},
		{name: "handshake timeout", code: handshake.CloseHandshakeTimeout, max: time.Second},
		{name: "superseded", code: handshake.CloseSuperseded, max: time.Second},
		{name: "record too big", code: handshake.CloseRecordTooBig, min: 30 * time.Second, max: 90 * time.Second},
		{name: "version", code: handshake.CloseVersion, min: 30 * time.Second, max: 90 * time.Second},
		{
			name: "quota", code: handshake.CloseQuota, said: &handshake.Err{
				Code: handshake.CloseQuota, Msg: "enough",
				AfterMS: 20000,
			},
			min: 20 * time.Second, max: 25 * time.Second,
		},
		{name: "store down", code: handshake.CloseStoreDown, max: time.Second},
		{name: "unheard of", code: 4999, max: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, st := openQueue(t), &store{}
				end := appendLines(t, q, 1, 10)
				var log logged
				r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
					p.greet()
					p.data()
					if tt.said != nil {
						p.send(tt.said)
					}
					p.close(tt.code)
				}, func(p *peer) {
					p.greet()
					p.receive(st)
				})
				start := time.Now()
				run(t, r)
				waitAcked(t, q, end)
				if away := time.Since(start); away < tt.min || away > tt.max {
					t.Errorf("stayed away %v, want %v to %v", away, tt.min, tt.max)
				}
				if log.count("close code") != 1 || log.count("effect=") != 1 {
					t.Errorf("log:\n%s", log.text())
				}
				st.check(t, end, line)
			})
		})
	}
}

func TestRun_ComesBackSpreadOutAfterALostSession(t *testing.T) {
	// Of many relays that lose one receiver, few may come at once.
	var aways []time.Duration
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			q, st := openQueue(t), &store{}
			appendLines(t, q, 1, 1)
			r := connect(t, q, Options{}, func(p *peer) {
				p.greet()
				d, _ := p.data()
				p.ack(d.B, 2)
			}, func(p *peer) {
				p.greet()
				p.receive(st)
			})
			run(t, r)
			waitAcked(t, q, 2)
			start := time.Now()
			end := appendLines(t, q, 1, 1)
			waitAcked(t, q, end)
			aways = append(aways, time.Since(start))
		})
	}
	early := 0
	for _, a := range aways {
		if a > usualPace.first {
			t.Errorf("stayed away %v", a)
		}
		if a < usualPace.first/2 {
			early++
		}
	}
	if early == 0 || early == len(aways) { // one in 500,000
		t.Errorf("%d of %d come in the first half of %v", early, len(aways), usualPace.first)
	}
}

func TestRun_RefusesOptionsThatCannotWork(t *testing.T) {
	for _, urls := range [][]string{nil, {"http://h"}} {
		if err := New(openQueue(t), Options{URLs: urls}).Run(t.Context()); err == nil {
			t.Errorf("%v: Run did not return", urls)
		}
	}
}
