package relay

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/zstd"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// keeper keeps what the relay puts aside.
type keeper map[string]string

func (k keeper) keep(sid string, seq uint64, line []byte, _ string) (string, error) {
	where := handshake.UID(sid, seq)
	k[where] = string(line)
	return where, nil
}

// picky takes batches and gaps like receive, but for those that refuse gives a
// nak for. It gives the encodings that it refused and the gaps.
func (p *peer) picky(st *store, refuse func(handshake.Data, []byte) *handshake.Nak) (encs []string, gaps []*handshake.Gap) {
	p.t.Helper()
	for {
		kind, msg, err := p.ReadMessage()
		if err != nil {
			return encs, gaps
		}
		if kind == websocket.TextMessage {
			f, err := handshake.Decode(msg)
			if g, ok := f.(*handshake.Gap); err == nil && ok && g.Seq == p.next {
				gaps = append(gaps, g)
				p.next += g.N
				p.ack(g.B, p.next)
			}
			continue
		}
		d, payload := p.checked(msg)
		if d.Seq != p.next {
			continue // after a nak
		}
		if n := refuse(d, payload); n != nil {
			encs = append(encs, d.Enc)
			n.B, n.Expect = d.B, d.Seq
			p.send(n)
			continue
		}
		p.next += uint64(d.N)
		if d.Enc == "zstd" {
			if payload, err = unzstd.DecodeAll(payload, nil); err != nil {
				p.fail("%v", err)
			}
		}
		st.commit(d.Seq, payload)
		p.ack(d.B, p.next)
	}
}

var unzstd, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))

func TestSession_DropsTheLinesThatAreRefusedAgainAndAgain(t *testing.T) {
	for _, code := range []string{handshake.NakCRC, handshake.NakDecode} {
		for _, bad := range [][]uint64{{1}, {2}, {1000}, {300, 302, 700}} {
			t.Run(fmt.Sprint(code, bad), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q, st := openQueue(t), &store{}
					end := appendLines(t, q, 2, 500)
					aside := keeper{}
					var log logged
					var encs []string
					var gaps []*handshake.Gap
					left := make(chan struct{})
					r := connect(t, q, Options{Log: log.logger(), Quarantine: aside.keep}, func(p *peer) {
						defer close(left)
						p.greet(func(w *handshake.Welcome) { w.Enc = []string{"zstd"} })
						encs, gaps = p.picky(st, func(d handshake.Data, _ []byte) *handshake.Nak {
							if slices.ContainsFunc(bad, func(seq uint64) bool { return d.Seq <= seq && seq < d.Seq+uint64(d.N) }) {
								return &handshake.Nak{Code: code}
							}
							return nil
						})
					})
					stop := run(t, r)
					waitAcked(t, q, end)
					stop()
					<-left
					if len(gaps) != len(bad) || len(aside) != len(bad) || log.count("level=ERROR") != len(bad) {
						t.Fatalf("gaps %+v, aside %q, want %d; log:\n%s", gaps, aside, bad, log.text())
					}
					for i, seq := range bad {
						uid := handshake.UID(q.Stats().SID, seq)
						if g := gaps[i]; g.Seq != seq || g.N != 1 || g.Why != handshake.GapDamaged || !g.Maybe ||
							aside[uid] != line(seq) || log.count("uid="+uid) != 1 {
							t.Errorf("gap %+v, aside %q, want %d; log:\n%s", g, aside, seq, log.text())
						}
						st.lines[seq] = line(seq)
					}
					if encs[len(encs)-1] != handshake.EncRaw {
						t.Errorf("refused %q, want the last to be raw", encs)
					}
					st.check(t, end, line)
				})
			})
		}
	}
}

func TestSession_DropsNoMoreWhereNothingIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		end := appendLines(t, q, 1, 100)
		aside := keeper{}
		var log logged
		var gaps []uint64
		var mu sync.Mutex // guards gaps
		var left sync.WaitGroup
		left.Add(2)
		broken := func(p *peer) {
			defer left.Done()
			p.greet()
			_, g := p.picky(st, func(handshake.Data, []byte) *handshake.Nak { return &handshake.Nak{Code: handshake.NakCRC} })
			mu.Lock()
			defer mu.Unlock()
			for _, g := range g {
				gaps = append(gaps, g.Seq) // once more after each break: the cursor moves by blocks
			}
		}
		r := connect(t, q, Options{Log: log.logger(), Quarantine: aside.keep}, broken, broken, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, end)
		left.Wait()
		if fmt.Sprint(gaps) != "[1 1]" || len(aside) != 1 || log.count("level=ERROR msg=\"a line") != 1 ||
			log.count("repeatedly") == 0 {
			t.Errorf("gaps %d, aside %q; log:\n%s", gaps, aside, log.text())
		}
		st.lines[1] = line(1)
		st.check(t, end, line)
	})
}

func TestSession_MakesALineThatIsTooLongAGap(t *testing.T) {
	for name, tt := range map[string]struct {
		greet  func(*handshake.Welcome)
		refuse bool
	}{
		"over max_raw":     {greet: func(w *handshake.Welcome) { w.MaxRaw = fairLine }},
		"over max":         {greet: func(w *handshake.Welcome) { w.Max = fairLine + headerRoom }},
		"refused, too_big": {greet: func(*handshake.Welcome) {}, refuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, st := openQueueIn(t, t.TempDir(), codec.Raw), &store{}
				text := func(seq uint64) string {
					if seq == 4 || seq == 5 || seq == 12 {
						return long(seq)
					}
					return line(seq)
				}
				appendLine(t, q, 10, text)
				appendLine(t, q, 1, text)
				appendLine(t, q, 1, text)
				end := q.Stats().Head
				aside := keeper{}
				var gaps []*handshake.Gap
				left := make(chan struct{})
				r := connect(t, q, Options{Quarantine: aside.keep}, func(p *peer) {
					defer close(left)
					p.greet(tt.greet)
					_, gaps = p.picky(st, func(_ handshake.Data, payload []byte) *handshake.Nak {
						for l := range bytes.Lines(payload) {
							if len(l) > fairLine && tt.refuse {
								return &handshake.Nak{Code: handshake.NakTooBig}
							}
						}
						return nil
					})
				})
				stop := run(t, r)
				waitAcked(t, q, end)
				stop()
				<-left
				var at []uint64
				for _, g := range gaps {
					at = append(at, g.Seq)
					if g.N != 1 || g.Why != handshake.GapOversize || g.At == 0 {
						t.Errorf("gap %+v", g)
					}
					st.lines[g.Seq] = aside[handshake.UID(q.Stats().SID, g.Seq)]
				}
				if got, want := fmt.Sprint(at), "[4 5 12]"; got != want {
					t.Errorf("gaps at %s, want %s", got, want)
				}
				st.check(t, end, text)
			})
		})
	}
}

func TestSession_KeepsALineThatCannotBePutAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		appendLine(t, q, 1, long)
		full := func(string, uint64, []byte, string) (string, error) { return "", errors.New("no space left") }
		var log logged
		r := connect(t, q, Options{Quarantine: full, Log: log.logger()}, func(p *peer) {
			p.greet(func(w *handshake.Welcome) { w.MaxRaw = fairLine })
			if _, gaps := p.picky(st, func(handshake.Data, []byte) *handshake.Nak { return nil }); gaps != nil {
				p.fail("gaps %+v, want none", gaps)
			}
		}, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 2)
		st.check(t, 2, long)
		if log.count("that the receiver refuses: no space left") != 1 {
			t.Errorf("log:\n%s", log.text())
		}
	})
}

func TestSession_BelievesNoReceiverThatTakesTooLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, st := openQueue(t), &store{}
		appendLine(t, q, 1, func(uint64) string { return "a line like any other" })
		refuses := func(p *peer) {
			p.greet()
			p.data()
			p.send(&handshake.Nak{B: 1, Code: handshake.NakTooBig, Expect: 1})
			p.closed()
		}
		r := connect(t, q, Options{Quarantine: func(string, uint64, []byte, string) (string, error) {
			t.Error("the line is dropped")
			return "", nil
		}}, refuses, func(p *peer) {
			p.greet()
			p.receive(st)
		})
		run(t, r)
		waitAcked(t, q, 2)
		st.check(t, 2, func(uint64) string { return "a line like any other" })
	})
}
