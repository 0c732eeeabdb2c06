package generic

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidwall/gjson"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/relay"
)

func TestPing_SendsALineAMessageAndTakesThePong(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one", "", `{"x":1}`)
	put(t, q, "not UTF-8 \xff", "é")
	r, _, _ := ship(t, q, serve(t, takes(g, nil)), Options{})
	waitAcked(t, q)
	want := []string{"one", "", `{"x":1}`, "not UTF-8 \xff", "é"}
	if texts := g.all(); !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
	if want := []int{1, 1, 1, 2, 1}; !slices.Equal(g.kinds, want) {
		t.Errorf("kinds %d, want %d", g.kinds, want)
	}
	if s := r.Status(); s.SentLines != 5 || s.ReceiptedLines != 5 || s.SentAgain != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestPing_TakesNoPongThatItHasNotAskedFor(t *testing.T) {
	q := openQueue(t, t.TempDir())
	put(t, q, "one")
	lines := make(chan struct{})
	r, _, _ := ship(t, q, serve(t, func(c *websocket.Conn) {
		pings := 0
		c.SetPingHandler(func(payload string) error {
			deadline := time.Now().Add(time.Second)
			if pings++; pings > 2 {
				return nil
			}
			if pings == 2 { // the one after the line
				k, _ := strconv.Atoi(payload[strings.LastIndexByte(payload, ' ')+1:])
				for _, p := range []string{
					"", "wsrelay", "wsrelay x 1", payload + "x",
					payload[:len(payload)-1] + strconv.Itoa(k+1),
				} {
					_ = c.WriteControl(websocket.PongMessage, []byte(p), deadline)
				}
				close(lines)
				return nil
			}
			return c.WriteControl(websocket.PongMessage, []byte(payload), deadline)
		})
		_, _, _ = c.ReadMessage()
		_, _, _ = c.ReadMessage()
	}), Options{}, func(_ *Plain, o *relay.Options) { o.Ping = time.Second / 2 })
	<-lines
	waitFor(t, r.Status, func(s relay.Status) bool { return s.LastError != "" })
	if got := q.Stats().Cursor; got != 1 {
		t.Errorf("the cursor is at %d, want 1", got)
	}
}

// A server may answer no ping but the latest.
func TestPing_TakesThePongToALaterPing(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one")
	ship(t, q, serve(t, func(c *websocket.Conn) {
		pings := 0
		answer := c.PingHandler()
		c.SetPingHandler(func(payload string) error {
			if pings++; pings == 2 { // the one after the line
				return nil
			}
			return answer(payload)
		})
		takes(g, nil)(c)
	}), Options{}, func(_ *Plain, o *relay.Options) { o.Ping = 50 * time.Millisecond })
	waitAcked(t, q)
	if texts := g.all(); len(texts) != 1 {
		t.Errorf("got %q, want the line once", texts)
	}
}

func TestPing_HoldsWhereNobodyAnswersPings(t *testing.T) {
	q := openQueue(t, t.TempDir())
	put(t, q, "one")
	_, log, _ := ship(t, q, serve(t, func(c *websocket.Conn) {
		c.SetPingHandler(func(string) error { return nil })
		if _, text, err := c.ReadMessage(); err == nil {
			t.Errorf("got %q, want no line", text)
		}
	}), Options{}, func(p *Plain, _ *relay.Options) { p.pace.probe = 50 * time.Millisecond })
	log.wait(t, "does not answer pings")
	if text := log.text(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "hint=\"use --plain-ack") {
		t.Errorf("log:\n%s", text)
	}
}

func TestReceipt_EachLineNeedsItsOwn(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	sid := q.Stats().SID
	put(t, q, "1", "2", "3", "4")
	next := make(chan string)
	_, _, _ = ship(t, q, serve(t, func(c *websocket.Conn) {
		for range 4 {
			kind, text, err := c.ReadMessage()
			if err != nil {
				t.Error(err)
				return
			}
			g.add(kind, text)
		}
		for text := range next {
			_ = c.WriteMessage(websocket.TextMessage, []byte(text))
		}
	}), Options{Ack: AckReceipt, Receipt: "items.#.id"})
	uid := func(seq uint64) string { return handshake.UID(sid, seq) }
	next <- fmt.Sprintf(`{"items":[{"id":%q},{"id":%q},{"id":7}]}`, uid(3), uid(2))
	next <- fmt.Sprintf(`{"items":[{"id":%q},{"id":%q},{"id":%q}]}`, uid(5), uid(4)+"g1",
		handshake.UID(handshake.NewSID(), 1))
	next <- fmt.Sprintf(`{"items":[{"id":%q},{"id":%q}]}`, uid(1), uid(4))
	waitAcked(t, q)
	close(next)
	for i, text := range g.all() {
		if want := fmt.Sprintf(`{"message":"%d","uid":%q}`, i+1, uid(uint64(i+1))); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
	}
	if got := q.Stats().Receipt.UID; got != uid(4) {
		t.Errorf("remembered %s, want %s", got, uid(4))
	}
}

func TestReceipt_WhatIsNoneMovesNothing(t *testing.T) {
	for name, answer := range map[string]string{
		"garbage": "\x00\x1b[2J{{{", "not an object": "7", "no UID": `{"id":"x"}`,
		"another line's": `{"uid":"c6is56qdhs77ecuh0000000000001"}`,
		"a number":       `{"uid":1}`, "JSON twice": `{"uid":"U"}{"uid":"U"}`, "cut": `{"uid":"U"`,
	} {
		t.Run(name, func(t *testing.T) {
			q, g := openQueue(t, t.TempDir()), &got{}
			put(t, q, "one")
			answer := strings.ReplaceAll(answer, "U", handshake.UID(q.Stats().SID, 1))
			_, log, _ := ship(t, q, serve(t, takes(g, func(int, []byte) string { return answer }), takes(g, answerUID)),
				Options{Ack: AckReceipt}, func(p *Plain, _ *relay.Options) { p.pace.receipt = 50 * time.Millisecond })
			waitAcked(t, q)
			if texts := g.all(); len(texts) != 2 || texts[0] != texts[1] {
				t.Errorf("got %q, want the line twice", texts)
			}
			text := log.text()
			if strings.Count(text, "is not a receipt") != 1 || !strings.Contains(text, "hint=") ||
				strings.Contains(text, "{{{") || !strings.Contains(text, "1 messages came") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

func TestReceipt_ARefusedLineIsSentAgain(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one")
	n := 0
	answer := func(kind int, text []byte) string {
		if n++; n == 1 {
			return `{"status":503}`
		}
		return `{"status":201,` + answerUID(kind, text)[1:]
	}
	_, log, _ := ship(t, q, serve(t, takes(g, answer)), Options{Ack: AckReceipt, If: "status=201"})
	waitAcked(t, q)
	if texts := g.all(); len(texts) != 2 || !strings.Contains(log.text(), "refuses a line") {
		t.Errorf("got %q; log:\n%s", texts, log.text())
	}
}

func TestReceipt_InOrder(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one", "two", "three")
	half := func(c *websocket.Conn) {
		for k := range 3 {
			kind, text, _ := c.ReadMessage()
			g.add(kind, text)
			if k < 2 {
				_ = c.WriteMessage(websocket.TextMessage, []byte("ok"))
			}
		}
		leave(c, websocket.CloseGoingAway)
	}
	_, _, _ = ship(t, q, serve(t, half, takes(g, func(int, []byte) string { return "ok" })),
		Options{Ack: AckReceipt, Receipt: InOrder})
	waitAcked(t, q)
	if texts, want := g.all(), []string{"one", "two", "three", "three"}; !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}

func TestShip_SendsAgainOnlyWhatWasNotAcknowledged(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	var lines []string
	for k := range 100 {
		lines = append(lines, strconv.Itoa(k))
	}
	put(t, q, lines...)
	breaks := func(c *websocket.Conn) {
		for k := range 60 {
			kind, text, err := c.ReadMessage()
			if err != nil {
				return
			}
			g.add(kind, text)
			if k < 30 {
				_ = c.WriteMessage(websocket.TextMessage, []byte(answerUID(kind, text)))
			}
		}
		leave(c, websocket.CloseServiceRestart)
	}
	r, _, _ := ship(t, q, serve(t, breaks, takes(g, answerUID)), Options{Ack: AckReceipt})
	waitAcked(t, q)
	texts := g.all()
	if got := gjson.Get(texts[60], "message").Str; len(texts) != 60+70 || got != "30" {
		t.Errorf("%d messages, the second connection began with %s; want 130, 30", len(texts), got)
	}
	if s := r.Status(); s.ReceiptedLines != 100 {
		t.Errorf("status %+v", s)
	}
}

func TestShip_OpensWithTheLastUIDAlsoAfterARestart(t *testing.T) {
	dir, g := t.TempDir(), &got{}
	o := Options{Ack: AckReceipt, Open: []string{`{"last":"{uid}","host":"{host}"}`, "subscribe"}}
	url := serve(t, takes(g, answerUID))
	var uid string
	for range 2 {
		q := openQueue(t, dir)
		put(t, q, "line")
		_, _, stop := ship(t, q, url, o)
		waitAcked(t, q)
		stop()
		uid = q.Stats().Receipt.UID
		must(t, q.Close(t.Context()))
	}
	sid, _, err := handshake.ParseUID(uid)
	must(t, err)
	texts := g.all()
	want := []string{`{"last":"","host":"host-1"}`, "subscribe", `{"message":"line","uid":"` + handshake.UID(sid, 1) +
		`"}`, `{"last":"` + handshake.UID(sid, 1) + `","host":"host-1"}`, "subscribe"}
	if len(texts) != 6 || !slices.Equal(texts[:5], want) {
		t.Errorf("got %q, want %q and a line", texts, want)
	}
}

func TestShip_ClosesWhenIdleAndOpensAgain(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	codes := make(chan int, 10)
	one := func(c *websocket.Conn) {
		c.SetCloseHandler(func(code int, _ string) error { codes <- code; return nil })
		takes(g, nil)(c)
	}
	r, _, _ := ship(t, q, serve(t, one), Options{}, func(_ *Plain,
		o *relay.Options,
	) {
		o.IdleClose = 20 * time.Millisecond
	})
	for n := range 3 {
		put(t, q, "line")
		g.wait(t, n+1)
		if code := <-codes; code != websocket.CloseNormalClosure {
			t.Errorf("closed with %d", code)
		}
		waitFor(t, r.Status, func(s relay.Status) bool { return s.State == relay.StateIdle })
	}
	if s := r.Status(); s.SentAgain != 0 || s.ReceiptedLines != 3 {
		t.Errorf("status %+v", s)
	}
}

func TestShip_SendsHeartbeatsAndAsksForASubprotocol(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "line")
	protocol := make(chan string, 10)
	_, _, _ = ship(t, q, serve(t, func(c *websocket.Conn) {
		protocol <- c.Subprotocol()
		takes(g, nil)(c)
	}), Options{Heartbeat: "alive", Protocol: "logs"}, func(_ *Plain, o *relay.Options) { o.Ping = 300 * time.Millisecond }) // a busy machine is silent for a while
	if got := <-protocol; got != "logs" {
		t.Errorf("subprotocol %q", got)
	}
	if texts := g.wait(t, 3); texts[1] != "alive" || texts[2] != "alive" {
		t.Errorf("got %q", texts)
	}
}

func TestShip_DropsAServerThatHasFallenSilent(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one")
	done := make(chan struct{})
	silent := func(c *websocket.Conn) {
		_, _, _ = c.ReadMessage() // and no more: no pong either
		<-done
	}
	r, _, _ := ship(t, q, serve(t, silent, takes(g, answerUID)), Options{Ack: AckReceipt},
		func(_ *Plain, o *relay.Options) { o.Ping = 50 * time.Millisecond })
	waitAcked(t, q)
	close(done)
	if s := r.Status(); s.SentAgain != 1 {
		t.Errorf("status %+v, want the line to be sent again", s)
	}
}

func TestShip_SendsNoMoreThanTheWindowWithoutAWord(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	for range 3 {
		put(t, q, slices.Repeat([]string{"x"}, windowLines/2)...)
	}
	put(t, q, strings.Repeat("long", windowBytes))
	put(t, q, "after it")
	full := make(chan struct{})
	_, _, _ = ship(t, q, serve(t, func(c *websocket.Conn) {
		for range windowLines {
			kind, text, err := c.ReadMessage()
			if err != nil {
				t.Error(err)
				return
			}
			g.add(kind, text)
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, _, err := c.ReadMessage(); err == nil {
			t.Error("one more line than the window has")
		}
		close(full)
	}, takes(g, answerUID)), Options{Ack: AckReceipt})
	<-full
	waitAcked(t, q)
	if texts := g.all(); gjson.Get(texts[len(texts)-1], "message").Str != "after it" {
		t.Errorf("the last is %.100q", texts[len(texts)-1])
	}
}

func TestShip_ReadsWhileItWrites(t *testing.T) {
	q := openQueue(t, t.TempDir())
	for range 8 {
		put(t, q, strings.Repeat("x", 1<<20))
	}
	var mu sync.Mutex
	n := 0
	_, _, _ = ship(t, q, serve(t, func(c *websocket.Conn) { // an echo that reads nothing while it cannot write
		for {
			kind, text, err := c.ReadMessage()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			for range 3 {
				if c.WriteMessage(kind, text) != nil {
					return
				}
			}
		}
	}), Options{})
	waitAcked(t, q)
	mu.Lock()
	defer mu.Unlock()
	if n != 8 {
		t.Errorf("%d messages, want 8", n)
	}
}

func TestNone_TakesTheWriteForIt(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one", "two")
	deaf := func(c *websocket.Conn) {
		c.SetPingHandler(func(string) error { return nil })
		takes(g, nil)(c)
	}
	_, _, _ = ship(t, q, serve(t, deaf), Options{Ack: AckNone})
	waitAcked(t, q)
	if texts := g.wait(t, 2); !slices.Equal(texts, []string{"one", "two"}) {
		t.Errorf("got %q", texts)
	}
}

func TestProbe_SaysWhatItFinds(t *testing.T) {
	g := &got{}
	url := serve(t, takes(g, nil))
	p, err := New(Options{})
	must(t, err)
	var steps []string
	step, fault := relay.Check(t.Context(), relay.Options{Dialect: p}, url,
		func(step, found string) { steps = append(steps, step+": "+found) })
	if fault != nil || !strings.Contains(strings.Join(steps, "\n"), "plain: it answers pings") || len(g.all()) != 0 {
		t.Errorf("%s %v\n%q; the server got %q", step, fault, steps, g.all())
	}
	url = serve(t, func(c *websocket.Conn) {
		c.SetPingHandler(func(string) error { return nil })
		_, _, _ = c.ReadMessage()
	})
	p.pace.probe = 20 * time.Millisecond
	step, fault = relay.Check(t.Context(), relay.Options{Dialect: p}, url, func(string, string) {})
	if step != "plain" || fault == nil || fault.Hint == "" {
		t.Errorf("%s %v", step, fault)
	}
}

func TestNew_RefusesWhatCannotBe(t *testing.T) {
	for name, o := range map[string]Options{
		"a kind unknown": {Ack: "hope"}, "answers that nobody reads": {Receipt: "uid"}, "no value": {Ack: AckReceipt, If: "status"},
		"no path": {Ack: AckReceipt, If: "=1"}, "in order, with other answers": {Ack: AckReceipt, Receipt: InOrder, Open: []string{"x"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// slow is a queue that gives out one block and no more, as [relay.Paced] does for a
// while.
type slow struct {
	relay.Queue
	given bool
}

func (s *slow) TryNext() (*buffer.Block, error) {
	if s.given {
		return nil, nil
	}
	s.given = true
	return s.Queue.TryNext()
}

func (s *slow) Ready() <-chan struct{} { return nil }

func TestPlain_SendsNoMoreThanItsRelaysQueueGivesOut(t *testing.T) {
	q, g := openQueue(t, t.TempDir()), &got{}
	put(t, q, "one")
	put(t, q, "two")
	p, err := New(Options{})
	must(t, err)
	r := relay.New(&slow{Queue: q}, relay.Options{URLs: []string{serve(t, takes(g, nil))}, Dialect: p})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	must(t, r.Run(ctx))
	if texts := g.all(); !slices.Equal(texts, []string{"one"}) {
		t.Errorf("got %q, want the one line that the queue gave out", texts)
	}
}
