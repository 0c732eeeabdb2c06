package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

func TestRelay_DeliversEachLineOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 50, 100)
		r := connect(t, q, Options{Host: "h", Agent: "a", Boot: "b"}, func(p *peer) {
			p.greet()
			if p.hello.Host != "h" || p.hello.Agent != "a" || p.hello.Boot != "b" || p.hello.Acked != 1 || p.hello.Head != end {
				t.Errorf("hello is %+v", p.hello)
			}
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		end = appendLines(t, q, 10, 10) // while the session is waiting
		waitAcked(t, q, end)
		synctest.Wait() // the status comes after the receipt
		st.check(t, end, line)
		if st.dups != 0 {
			t.Errorf("%d lines came twice", st.dups)
		}
		got := r.Status()
		if got.State != StateConnected || got.SentLines != end-1 || got.SentAgain != 0 || got.ReceiptedLines != end-1 {
			t.Errorf("status is %+v", got)
		}
		if want := handshake.UID(q.Stats().SID, end-1); got.Receipt.Seq != end || got.Receipt.UID != want {
			t.Errorf("receipt is %+v, want uid %s", got.Receipt, want)
		}
	})
}

func TestRelay_SendsAgainWhatHadNoReceipt(t *testing.T) {
	for name, cut := range map[string]script{
		"before hello":   func(p *peer) {},
		"after hello":    func(p *peer) { p.readHello() },
		"after welcome":  func(p *peer) { p.greet() },
		"before receipt": func(p *peer) { p.greet(); p.data() },
		"amid a frame":   func(p *peer) { p.greet(); _, _ = p.net.Read(make([]byte, 100)) },
		"amid a receipt": func(p *peer) { p.greet(); p.data(); _, _ = p.net.Write([]byte{0x81, 0x7e, 0x01}) },
		"after a receipt": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.ack(d.B, d.Seq+uint64(d.N))
			p.data()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, st := openQueue(t), &store{}
				appendLines(t, q, 1, 2)
				r := connect(t, q, Options{}, func(p *peer) { cut(p) }, func(p *peer) {
					p.greet()
					p.receive(st)
				})
				appendLine(t, q, 4, long)
				appendLine(t, q, 4, long)
				run(t, r)
				waitAcked(t, q, q.Stats().Head)
				if len(st.wrong) > 0 || st.lines[3] != "" && st.lines[3] != long(3) {
					t.Errorf("wrong lines: %v", st.wrong)
				}
				if last := q.Stats().Head - 1; st.lines[last] != long(last) {
					t.Errorf("line %d did not arrive", last)
				}
			})
		})
	}
}

// long is a line of 100 kB, so that blocks are not joined.
func long(seq uint64) string {
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = byte('a' + (uint64(i)*7+seq)%26)
	}
	return string(b)
}

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

func TestSession_SendsARefusedBatchAgainThenDecodedThenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t)
		appendLines(t, q, 1, 1000)
		var log logged
		encs := make(chan string, 10)
		code := make(chan int, 1)
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.Enc = []string{handshake.EncRaw, handshake.EncZstd, handshake.EncS2} })
			for range refusalsEnd {
				d, _ := p.data()
				if d.Seq != 1 {
					p.fail("data begins with %d, want 1", d.Seq)
				}
				encs <- d.Enc
				p.send(&handshake.Nak{B: d.B, Code: handshake.NakCRC, Expect: 1})
			}
			code <- p.closed()
		})
		stop := run(t, r)
		if got, want := <-code, websocket.CloseNormalClosure; got != want {
			t.Errorf("closed with %d, want %d", got, want)
		}
		synctest.Wait()
		stop()
		for i, want := range []string{handshake.EncZstd, handshake.EncZstd, handshake.EncZstd, handshake.EncRaw} {
			if got := <-encs; got != want {
				t.Errorf("try %d was %s, want %s", i, got, want)
			}
		}
		if log.count("level=ERROR msg=disconnected") != 1 || r.Status().SentAgain != 3000 {
			t.Errorf("sent again %d; log:\n%s", r.Status().SentAgain, log.text())
		}
		if got := q.Stats().Cursor; got != 1 {
			t.Errorf("the cursor is at %d, want 1", got)
		}
	})
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
			p.greet(func(w *handshake.Welcome) { w.Enc = []string{handshake.EncRaw, handshake.EncZstd} })
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

func TestSession_HonoursTheReceiversLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 3, 4000)
		r := connect(t, q, Options{}, func(p *peer) {
			p.SetReadLimit(4096)
			p.greet(func(w *handshake.Welcome) { w.Max, w.Win.Batches = 4096, 0 })
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		st.check(t, end, line)
	})
}

func TestSession_HoldsWhatTheReceiverCannotTake(t *testing.T) {
	for name, refuse := range map[string]script{
		"a line over max_raw": func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.MaxRaw = 5000 })
			p.closed()
		},
		"a single line too big": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakTooBig, Expect: d.Seq})
			p.closed()
		},
		"diverged": func(p *peer) {
			p.greet()
			d, _ := p.data()
			p.send(&handshake.Nak{B: d.B, Code: handshake.NakDiverged, Expect: d.Seq})
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
				if away := time.Since(start); away < usualPace.hold/2 {
					t.Errorf("tried again after %v, want at least %v", away, usualPace.hold/2)
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

func TestSession_SendsABatchInOneFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueueIn(t, t.TempDir(), buffer.CompressNone)
		appendLine(t, q, 10, long)
		head := make(chan []byte, 1)
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			b := make([]byte, 10) // RFC 6455, 5.2
			_, _ = io.ReadFull(p.net, b)
			head <- b
		})
		stop := run(t, r)
		b := <-head
		stop()
		if size := binary.BigEndian.Uint64(b[2:]); b[0] != 0x82 || b[1] != 0xff || size < 10*100_000 {
			t.Errorf("the frame begins % x: want FIN, binary, and all of the batch", b)
		}
	})
}

func TestSession_HonoursAWindowThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueueIn(t, t.TempDir(), buffer.CompressNone)
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
		q := openQueueIn(t, t.TempDir(), buffer.CompressNone)
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
		q, st := openQueueIn(t, t.TempDir(), buffer.CompressNone), &store{}
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

func TestSession_SendsAGapForWhatIsDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := damagedQueue(t), &store{}
		var gap *handshake.Gap
		r := connect(t, q, Options{}, func(p *peer) {
			p.greet()
			for p.next < 31 {
				kind, msg, err := p.ReadMessage()
				if err != nil {
					p.fail("%v", err)
				}
				if kind == websocket.BinaryMessage {
					d, payload := p.checked(msg)
					st.commit(d.Seq, payload)
					p.next = d.Seq + uint64(d.N)
					p.ack(d.B, p.next)
					continue
				}
				f, _ := handshake.Decode(msg)
				gap, _ = f.(*handshake.Gap)
				id := handshake.GapID(p.hello.SID, gap.Seq, gap.N)
				p.next = gap.Seq + gap.N
				p.send(&handshake.Ack{Seq: p.next, B: gap.B, UID: &handshake.UIDs{First: id, Last: id}})
			}
			p.closed()
		})
		run(t, r)
		waitAcked(t, q, 31)
		if gap == nil || gap.Seq != 11 || gap.N != 10 || gap.Why != handshake.GapDamaged || gap.At == 0 {
			t.Errorf("the gap is %+v", gap)
		}
		if len(st.lines) != 20 || st.lines[10] != line(10) || st.lines[21] != line(21) {
			t.Errorf("the store has %v", st.lines)
		}
	})
}

// damagedQueue holds three blocks of ten lines, the second of which cannot be
// read any more.
func damagedQueue(t *testing.T) *buffer.Queue {
	t.Helper()
	dir := t.TempDir()
	q := openQueueIn(t, dir, buffer.CompressNone)
	appendLines(t, q, 3, 10)
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	segs, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range segs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte(line(15))); at > 0 {
			b[at]++
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return openQueueIn(t, dir, buffer.CompressNone)
}

func TestSession_ServesOneStreamAndThenTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := t.TempDir(), filepath.Join(t.TempDir(), "copy")
		q := openQueueIn(t, here, buffer.CompressZstd)
		appendLines(t, q, 3, 10)
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(there, os.DirFS(here)); err != nil {
			t.Fatal(err)
		}
		// A queue that finds itself copied gives a new sid to what comes.
		q, st := openQueueIn(t, there, buffer.CompressZstd), &store{}
		appendLines(t, q, 3, 10)
		sids := make(chan string, 2)
		codes := make(chan int, 2)
		var log logged
		r := connect(t, q, Options{Log: log.logger()}, func(p *peer) {
			p.greet()
			sids <- p.hello.SID
			codes <- p.receive(st)
		})
		start := time.Now()
		run(t, r)
		waitAcked(t, q, 61)
		if first, second := <-sids, <-sids; first == second {
			t.Errorf("both sessions have sid %s", first)
		}
		if got := <-codes; got != websocket.CloseNormalClosure || time.Since(start) > time.Second || log.count("disconnected") != 0 {
			t.Errorf("the first closed with %d; it took %v; log:\n%s", got, time.Since(start), log.text())
		}
		st.check(t, 61, line)
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

func TestSession_GivesUpWithoutAReceiptAndSendsLess(t *testing.T) {
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
			t.Errorf("gave up after %v, want 30 s or more", away)
		}
		if first, second := <-sizes, <-sizes; second > first*2/3 {
			t.Errorf("the first batch had %d bytes, after that %d", first, second)
		}
		st.check(t, 10, long)
	})
}

func TestSession_ByeDrainsReceiptsAndComesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueueIn(t, t.TempDir(), buffer.CompressNone), &store{}
		for range 4 {
			appendLine(t, q, 3, long)
		}
		var left, back time.Time
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
			left = time.Now()
		}, func(p *peer) {
			back = time.Now()
			p.greet()
			if p.hello.Acked != 7 {
				t.Errorf("acked is %d, want 7", p.hello.Acked)
			}
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 13)
		if away := back.Sub(left); away > 50*time.Millisecond {
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
		q, st := openQueueIn(t, t.TempDir(), buffer.CompressNone), &store{}
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
				answer <- p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
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
