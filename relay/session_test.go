package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

func TestRelay_DeliversEachLineOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 50, 100)
		r := connect(t, q, Options{Host: "h", Agent: "a", Boot: "b"}, func(p *peer) {
			p.greet()
			if p.hello.Host != "h" || p.hello.Agent != "a" || p.hello.Boot != "b" || p.hello.Acked != 1 ||
				p.hello.Head != end {
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
		if want := handshake.UID(q.Stats().SID, end-1); q.Stats().Receipt.Seq != end || q.Stats().Receipt.UID != want {
			t.Errorf("receipt is %+v, want uid %s", q.Stats().Receipt, want)
		}
	})
}

func TestRelay_SendsAgainWhatHadNoReceipt(t *testing.T) {
	for name, cut := range map[string]script{
		"before hello":   func(*peer) {},
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

func TestSession_SendsABatchInOneFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueueIn(t, t.TempDir(), codec.Raw)
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
	q := openQueueIn(t, dir, codec.Raw)
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
	return openQueueIn(t, dir, codec.Raw)
}

func TestSession_ServesOneStreamAndThenTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := t.TempDir(), filepath.Join(t.TempDir(), "copy")
		q := openQueueIn(t, here, codec.Zstd)
		appendLines(t, q, 3, 10)
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(there, os.DirFS(here)); err != nil {
			t.Fatal(err)
		}
		// A queue that finds itself copied gives a new sid to what comes.
		q, st := openQueueIn(t, there, codec.Zstd), &store{}
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
		if got := <-codes; got != websocket.CloseNormalClosure || time.Since(start) > time.Second ||
			log.count("disconnected") != 0 {
			t.Errorf("the first closed with %d; it took %v; log:\n%s", got, time.Since(start), log.text())
		}
		st.check(t, 61, line)
	})
}
