package relay

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

func TestSession_TakesNoReceiptForWhatItHasNotSent(t *testing.T) {
	for name, ack := range map[string]func(p *peer, next uint64){
		"beyond what was sent": func(p *peer, next uint64) { p.ack(1, next+1) },
		"going backward":       func(p *peer, next uint64) { p.ack(1, next); p.ack(1, next-1) },
		"overlong uid": func(p *peer, next uint64) {
			p.send(&handshake.Ack{Seq: next, B: 1, UID: &handshake.UIDs{Last: p.hello.SID + strings.Repeat("0", 1000)}})
		},
		"overlong rt": func(p *peer, next uint64) {
			p.send(&handshake.Ack{Seq: next, B: 1, RT: strings.Repeat("0", 1000)})
		},
		"uid of another stream": func(p *peer, next uint64) {
			p.send(&handshake.Ack{Seq: next, B: 1, UID: &handshake.UIDs{Last: handshake.UID("vvvvvvvvvvvvvvvv", next-1)}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := openQueue(t)
				end := appendLines(t, q, 1, 10)
				code := make(chan int, 1)
				r := connect(t, q, Options{}, func(p *peer) {
					p.greet()
					d, _ := p.data()
					ack(p, d.Seq+uint64(d.N))
					code <- p.closed()
				})
				stop := run(t, r)
				if got, want := <-code, websocket.CloseProtocolError; got != want {
					t.Errorf("closed with %d, want %d", got, want)
				}
				stop()
				if got := q.Stats().Cursor; name != "going backward" && got != 1 || got > end {
					t.Errorf("the cursor is at %d", got)
				}
			})
		})
	}
}

func TestSession_GoesBackAmidABlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 1000)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			d, payload := p.data()
			st.commit(d.Seq, payload[:len(payload)*3/4])
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakOrder, Expect: 751})
			p.next = 751
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		st.check(t, end, line)
		if st.dups != 0 {
			t.Errorf("%d lines came twice", st.dups)
		}
	})
}

func TestSession_SendsSmallerBatchesWhenTheyAreTooBig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 1000)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			for {
				d, payload := p.data()
				if d.Seq != p.next {
					continue // sent before the nak came
				}
				if len(payload) > 1000 {
					p.send(&handshake.Nak{B: d.B, Code: handshake.NakTooBig, Expect: p.next})
					continue
				}
				p.next += uint64(d.N)
				st.commit(d.Seq, payload)
				p.ack(d.B, p.next)
				if p.next == end {
					p.receive(st)
					return
				}
			}
		})
		run(t, r)
		waitAcked(t, q, end)
		st.check(t, end, line)
	})
}

func TestSession_MakesBlocksSmallerWhoseLinesAreTooBig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		for range 3 {
			appendLine(t, q, 2, long) // compressed to a few hundred bytes
		}
		naks := 0
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.Enc = []string{handshake.EncRaw, "zstd"} })
			for p.next < 7 {
				d, payload := p.data()
				switch {
				case d.Seq != p.next:
				case d.Raw > 150_000:
					naks++
					p.send(&handshake.Nak{Code: handshake.NakTooBig, Expect: p.next, Max: 150_000})
				default:
					p.next += uint64(d.N)
					st.commit(d.Seq, payload)
					p.ack(d.B, p.next)
				}
			}
			p.closed()
		})
		run(t, r)
		waitAcked(t, q, 7)
		st.check(t, 7, long)
		if naks != 1 {
			t.Errorf("%d batches were too big, want one to be enough", naks)
		}
	})
}

func TestSession_HoldsWhatTheReceiverCannotTake(t *testing.T) {
	for name, refuse := range map[string]script{
		"a line over max_raw": func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.MaxRaw = 5000 })
			p.closed()
		},
		"diverged where nothing was sent": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakDiverged, Expect: d.Seq + 1})
			p.closed()
		},
		"unknown nak": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.send(&handshake.Nak{B: d.B, Code: "mood", Expect: d.Seq})
			p.closed()
		},
		"a nak beyond what was sent": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakOrder, Expect: d.Seq + 5})
			p.closed()
		},
		"a challenge": func(p *peer) {
			p.readHello()
			p.send(&handshake.Chal{Nonce: "00", Mech: "hmac-sha256", CB: "none"})
			p.closed()
		},
		"forbidden": func(p *peer) { p.greet(); p.data(); p.close(handshake.CloseForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, st := openQueue(t), &store{}
				var log logged
				appendLine(t, q, 1, long)
				r := connect(t, q, Options{Log: log.logger()}, refuse, func(p *peer) {
					p.greet()
					p.receive(st)
				})
				start := time.Now()
				run(t, r)
				waitAcked(t, q, 2)
				if away := time.Since(start); away < usualPace.permanent/2 {
					t.Errorf("tried again after %v, want at least %v", away, usualPace.permanent/2)
				}
				if log.count("level=ERROR msg=disconnected") != 1 {
					t.Errorf("log:\n%s", log.text())
				}
				st.check(t, 2, long)
			})
		})
	}
}

func TestSession_TakesTheReceiptsForWhatCameBeforeALongLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		end := appendLines(t, q, 1, 10)
		appendLine(t, q, 1, long)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.MaxRaw = 5000 })
			d, _ := p.data()
			if bye, ok := p.frame().(*handshake.Bye); !ok {
				p.fail("want bye, got %T", bye)
			}
			time.Sleep(time.Second)
			p.ack(d.B, end)
			p.closed()
		})
		start := time.Now()
		run(t, r)
		waitAcked(t, q, end)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the receipt counted after %v", took)
		}
		synctest.Wait()
		if got := r.Status(); !strings.Contains(got.LastError, "too long") {
			t.Errorf("status is %+v", got)
		}
	})
}

func TestSession_HonoursAWindowThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueueIn(t, t.TempDir(), codec.Raw)
		for range 9 {
			appendLine(t, q, 4, long) // too long to be joined
		}
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.Win.Batches = 1 })
			d, _ := p.data()
			p.send(&handshake.Ack{Seq: d.Seq, Win: &handshake.Win{Bytes: 8 << 20, Batches: 16}}) // acknowledges nothing
			p.data()
			p.ack(d.B, d.Seq+uint64(d.N))
			p.data()
			p.data()
			p.ack(d.B+3, 17)
			p.closed()
		})
		run(t, r)
		waitAcked(t, q, 17)
	})
}

func TestSession_SendsLargerBatchesAgainWithEachReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueueIn(t, t.TempDir(), codec.Raw)
		for range 8 {
			appendLines(t, q, 1, 5000)
		}
		var sizes []int
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			for p.next < 40001 {
				d, payload := p.data()
				sizes = append(sizes, len(payload))
				p.next += uint64(d.N)
				p.ack(d.B, p.next)
			}
			p.closed()
		})
		r.ceiling = minBatch
		run(t, r)
		waitAcked(t, q, 40001)
		if first, last := sizes[0], sizes[len(sizes)-1]; first > minBatch || last < 2*minBatch {
			t.Errorf("batches have %v bytes", sizes)
		}
	})
}

func TestSession_SendsNothingFromBeforeANak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueueIn(t, t.TempDir(), codec.Raw), &store{}
		for range 6 { // more than the window takes: one batch is packed and waits
			appendLine(t, q, 4, long)
		}
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.data()
			synctest.Wait()
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakCRC, Expect: 1})
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 25)
		st.check(t, 25, long)
	})
}

func TestSession_RefusesToGoBackBelowItsReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		appendLine(t, q, 3, long)
		appendLine(t, q, 3, long)
		var log logged
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.ack(d.B, 4)
			p.data()
			p.send(&handshake.Nak{B: 2, Code: handshake.NakOrder, Expect: 2})
			p.closed()
		})
		run(t, r)
		synctest.Wait()
		if log.count("level=ERROR msg=disconnected") != 1 || q.Stats().Cursor != 4 {
			t.Errorf("cursor %d, log:\n%s", q.Stats().Cursor, log.text())
		}
	})
}

func TestSession_BusyRestartsTheReceiptTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		var log logged
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			d, payload := p.data()
			closed := make(chan int)
			go func() { closed <- p.closed() }() // answers pings
			for range 10 {
				time.Sleep(25 * time.Second)
				p.send(&handshake.Busy{MS: 1, Why: "store"})
			}
			st.commit(d.Seq, payload)
			p.ack(d.B, end)
			<-closed
		})
		run(t, r)
		waitAcked(t, q, end)
		if log.count("disconnected") != 0 || log.count("busy") != 1 {
			t.Errorf("log:\n%s", log.text())
		}
	})
}

func TestSession_LeavesAReceiverThatIsBusyWithoutEndIfThereIsAnother(t *testing.T) {
	for urls, want := range map[int]string{1: "connected", 2: "the receiver has been busy for too long: for 10m"} {
		synctest.Test(t, func(t *testing.T) {
			q := openQueue(t)
			appendLines(t, q, 1, 10)
			var log logged
			r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
				p.greet()
				p.data()
				closed := make(chan int)
				go func() { closed <- p.closed() }() // answers pings
				for {
					select {
					case <-closed:
						return
					case <-time.After(25 * time.Second):
						_ = p.WriteMessage(websocket.TextMessage,
							handshake.Encode(&handshake.Busy{MS: 1, Why: "store"}))
					}
				}
			})
			r.o.URLs = slices.Repeat(r.o.URLs, urls)
			stop := run(t, r)
			time.Sleep(time.Hour)
			stop()
			if got := log.text(); !strings.Contains(got, want) || urls == 1 && strings.Contains(got, "disconnected") {
				t.Errorf("%d URLs: log:\n%s", urls, got)
			}
		})
	}
}

func TestSession_EndsWithoutAReceiptAndSendsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		appendLine(t, q, 9, long)
		sizes := make(chan int, 2)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			_, payload := p.data()
			sizes <- len(payload)
			p.closed() // read, and say nothing
		}, func(p *peer) {
			p.greet()
			d, payload := p.data()
			sizes <- len(payload)
			st.commit(d.Seq, payload)
			p.next += uint64(d.N)
			p.ack(d.B, p.next)
			p.receive(st)
		})
		start := time.Now()
		run(t, r)
		waitAcked(t, q, 10)
		if away := time.Since(start); away < 30*time.Second {
			t.Errorf("stopped after %v, want 30 s or more", away)
		}
		if first, second := <-sizes, <-sizes; second > first*2/3 {
			t.Errorf("the first batch had %d bytes, after that %d", first, second)
		}
		st.check(t, 10, long)
	})
}

func TestSession_LinesThatDivergeGoUnderANewStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 10)
		var log logged
		var sids []string
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			sids = append(sids, p.hello.SID)
			d, payload := p.data()
			lines := bytes.SplitAfter(payload, []byte("\n"))
			st.commit(d.Seq, bytes.Join(lines[:4], nil))
			p.ack(d.B, 5)
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakDiverged, Expect: 5})
			p.closed()
		}, func(p *peer) {
			p.greet()
			sids = append(sids, p.hello.SID)
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		st.check(t, end, line)
		// What was below comes again: the cursor moves by whole blocks.
		if len(sids) != 3 || sids[1] != sids[0] || sids[2] == sids[0] {
			t.Errorf("streams %q, want the old one up to seq 4, then a new one", sids)
		}
		if log.count("other lines under our numbers") == 0 {
			t.Errorf("log:\n%s", log.text())
		}
	})
}
