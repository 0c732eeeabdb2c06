package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

func TestSession_EndsWithTheCodeForABadMessage(t *testing.T) {
	for name, tt := range map[string]struct {
		kind int
		msg  string
		want int
	}{
		"binary":       {websocket.BinaryMessage, "x", websocket.CloseUnsupportedData},
		"not a frame":  {websocket.TextMessage, "hello?", handshake.CloseBadFrame},
		"out of place": {websocket.TextMessage, string(handshake.Encode(&handshake.Auth{MAC: "00"})), websocket.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := openQueue(t)
				appendLines(t, q, 1, 10)
				code := make(chan int, 1)
				r := connect(t, q, Options{}, func(p *peer) {
					p.greet()
					_ = p.WriteMessage(tt.kind, []byte(tt.msg))
					code <- p.closed()
				})
				stop := run(t, r)
				if got := <-code; got != tt.want {
					t.Errorf("closed with %d, want %d", got, tt.want)
				}
				stop()
			})
		})
	}
}

func TestSession_ByeDrainsReceiptsAndComesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueueIn(t, t.TempDir(), codec.Raw), &store{}
		for range 4 {
			appendLine(t, q, 3, long)
		}
		left, back := make(chan time.Time, 1), make(chan time.Time, 1)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			a, one := p.data()
			b, two := p.data()
			p.send(&handshake.Bye{Why: "shutdown", AfterMS: 50})
			st.commit(a.Seq, one)
			st.commit(b.Seq, two)
			p.ack(a.B, 4)
			time.Sleep(5 * time.Second)
			p.ack(b.B, 7)
			if _, msg, err := p.ReadMessage(); closeCode(err) != websocket.CloseNormalClosure {
				p.fail("got %.80q and %v, want the close", msg, err)
			}
			left <- time.Now()
		}, func(p *peer) {
			back <- time.Now()
			p.greet()
			if p.hello.Acked != 7 {
				t.Errorf("acked is %d, want 7", p.hello.Acked)
			}
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 13)
		if away := (<-back).Sub(<-left); away > 50*time.Millisecond {
			t.Errorf("came back after %v, want 50 ms at most", away)
		}
		st.check(t, 13, long)
		if st.dups != 0 {
			t.Errorf("%d lines came twice", st.dups)
		}
	})
}

func TestSession_ComesBackInTimeAfterAByeThatDidNotDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueueIn(t, t.TempDir(), codec.Raw), &store{}
		appendLine(t, q, 3, long)
		appendLine(t, q, 3, long)
		var left, back time.Time
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			d, payload := p.data()
			p.data()
			p.send(&handshake.Bye{Why: "shutdown", AfterMS: 50})
			st.commit(d.Seq, payload)
			p.ack(d.B, 4)
			left = time.Now()
			p.close(websocket.CloseServiceRestart)
		}, func(p *peer) {
			back = time.Now()
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 7)
		if away := back.Sub(left); away > 50*time.Millisecond {
			t.Errorf("came back after %v, want 50 ms at most", away)
		}
		st.check(t, 7, long)
	})
}

func TestSession_TheGoodbyeOfAPeerThatDoesNotReadIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		appendLines(t, q, 1, 10)
		r := connect(t, q, Options{Ping: time.Hour}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.HB = time.Hour.Milliseconds() })
			p.data()
			<-t.Context().Done() // reads no more
		})
		start := time.Now()
		run(t, r)
		for r.Status().State != StateWaiting {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("the session ended after %v, want ack_to and no more than a second", took)
		}
	})
}

func TestSession_WaitsForTheAnswerToItsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		appendLines(t, q, 1, 10)
		answer := make(chan error, 1)
		r := connect(t, q, Options{}, func(p *peer) {
			p.SetCloseHandler(func(code int, _ string) error {
				time.Sleep(100 * time.Millisecond)
				answer <- p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""),
					time.Now().Add(time.Second))
				return nil
			})
			p.greet()
			p.receive(st)
		})
		run(t, r)
		if err := <-answer; err != nil {
			t.Errorf("the answer did not get through: %v", err)
		}
	})
}

func TestSession_ClosesWhenIdleAndOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		var log logged
		codes := make(chan int, 2)
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			codes <- p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		start := time.Now()
		if got, want := <-codes, websocket.CloseNormalClosure; got != want {
			t.Errorf("closed with %d, want %d", got, want)
		}
		if idle := time.Since(start); idle != defaultIdleClose {
			t.Errorf("closed after %v, want %v", idle, defaultIdleClose)
		}
		synctest.Wait()
		if got := r.Status().State; got != StateIdle {
			t.Errorf("state is %s, want idle", got)
		}
		time.Sleep(time.Hour) // nobody dials without need
		end = appendLines(t, q, 1, 10)
		waitAcked(t, q, end)
		if log.count("msg=connected") != 2 || log.count("disconnected") != 0 {
			t.Errorf("log:\n%s", log.text())
		}
		st.check(t, end, line)
	})
}

func TestSession_NoticesASilentReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		r := connect(t, q, Options{IdleClose: time.Hour}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.HB = 8000 })
			d, payload := p.data()
			st.commit(d.Seq, payload)
			p.ack(d.B, end)
			// The line is up, but nothing comes: not even pongs.
			for {
				if _, err := p.net.Read(make([]byte, 1)); err != nil {
					return
				}
			}
		}, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		start := time.Now()
		for r.Status().State == StateConnected {
			time.Sleep(100 * time.Millisecond)
		}
		if dead := time.Since(start).Round(time.Second); dead != 20*time.Second {
			t.Errorf("noticed after %v, want 2.5 x 8 s", dead)
		}
	})
}

func TestSession_PingsKeepItAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		var log logged
		r := connect(t, q, Options{IdleClose: time.Hour, Log: log.logger()}, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		time.Sleep(50 * time.Minute)
		if r.Status().State != StateConnected || log.count("disconnected") != 0 {
			t.Errorf("status %+v, log:\n%s", r.Status(), log.text())
		}
	})
}

func TestRelay_EndsAtOnceWhateverThePeerDoes(t *testing.T) {
	for name, play := range map[string]script{
		"no welcome": func(p *peer) {
			p.readHello()
			if _, msg, err := p.ReadMessage(); err == nil {
				p.fail("sent without a welcome: %.80q", msg)
			}
		},
		"stops reading": func(p *peer) { p.greet(); <-p.t.(*testing.T).Context().Done() },
		"no receipt":    func(p *peer) { p.greet(); p.closed() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := openQueue(t)
				appendLine(t, q, 9, long)
				r := connect(t, q, Options{}, play)
				stop := run(t, r)
				synctest.Wait()
				start := time.Now()
				stop()
				if took := time.Since(start); took > usualPace.goodbye {
					t.Errorf("Run ended after %v, want %v at most", took, usualPace.goodbye)
				}
			})
		})
	}
}
