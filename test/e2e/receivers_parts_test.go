package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// engine is as much of Elasticsearch as a receiver needs: it creates documents
// by id and looks them up. Each of its answers may be one of an engine in
// trouble.
type engine struct {
	mu        sync.Mutex
	docs      map[string]string // id → document
	requests  int
	complaint string // about a receiver that did what it must not
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	body, err := io.ReadAll(r.Body)
	switch trouble := e.requests % 23; {
	case err != nil: // nginx was killed
	case trouble == 3:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/_bulk":
		answer := e.bulk(body, trouble == 11)
		if trouble == 19 {
			panic(http.ErrAbortHandler) // stored, but nobody hears of it
		}
		_, _ = w.Write(answer)
	case strings.HasSuffix(r.URL.Path, "/_mget"):
		_, _ = w.Write(e.mget(body))
	default:
		e.complaint = "a request to " + r.URL.Path
	}
}

// bulk creates what is new. With full it takes only every other document.
func (e *engine) bulk(body []byte, full bool) []byte {
	var items []string
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		var action struct {
			Create struct {
				ID string `json:"_id"`
			}
		}
		if json.Unmarshal([]byte(lines[i]), &action) != nil || !json.Valid([]byte(lines[i+1])) {
			e.complaint = fmt.Sprintf("not NDJSON: %.200q", lines[i:i+2])
		}
		id, status := action.Create.ID, http.StatusCreated
		old, there := e.docs[id]
		switch {
		case full && i/2%2 == 1:
			status = http.StatusTooManyRequests
		case there && old != lines[i+1]:
			e.complaint = "another document under id " + id
		case there:
			status = http.StatusConflict
		default:
			e.docs[id] = lines[i+1]
		}
		items = append(items, fmt.Sprintf(`{"create":{"_id":%q,"status":%d}}`, id, status))
	}
	return []byte(`{"items":[` + strings.Join(items, ",") + `]}`)
}

func (e *engine) mget(body []byte) []byte {
	var want struct{ IDs []string }
	if err := json.Unmarshal(body, &want); err != nil {
		e.complaint = fmt.Sprintf("_mget: %v", err)
	}
	docs := make([]string, len(want.IDs))
	for i, id := range want.IDs {
		doc, found := e.docs[id]
		if docs[i] = fmt.Sprintf(`{"_id":%q,"found":false}`, id); found {
			docs[i] = fmt.Sprintf(`{"_id":%q,"found":true,"_source":%s}`, id, doc)
		}
	}
	return []byte(`{"docs":[` + strings.Join(docs, ",") + `]}`)
}

// lines gives the documents' lines in the order of their ids.
func (e *engine) lines() [][]byte { return e.linesWith("") }

// linesWith gives those whose documents contain the text. It does not hold up
// the documents that come meanwhile.
func (e *engine) linesWith(text string) [][]byte {
	e.mu.Lock()
	docs := maps.Clone(e.docs)
	e.mu.Unlock()
	maps.DeleteFunc(docs, func(_, doc string) bool { return !strings.Contains(doc, text) })
	var lines [][]byte
	for _, id := range slices.Sorted(maps.Keys(docs)) {
		var doc struct {
			Message string
			Wsrelay struct {
				Raw, CRC string
			}
		}
		_ = json.Unmarshal([]byte(docs[id]), &doc) // bulk has looked at it
		line := []byte(doc.Message)
		if doc.Wsrelay.Raw != "" {
			line, _ = base64.StdEncoding.DecodeString(doc.Wsrelay.Raw)
		}
		lines = append(lines, line)
	}
	return lines
}

// cable is a TCP forwarder that can be cut. Muted, it loses what the receiver
// says.
type cable struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	muted bool
	lost  bool // since muted
	done  sync.WaitGroup
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cable{Listener: l, to: to}
	c.done.Go(c.accept)
	t.Cleanup(func() {
		l.Close()
		c.cut()
		c.done.Wait()
	})
	return c
}

func (c *cable) accept() {
	for {
		near, err := c.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.to)
		if err != nil { // the receiver is away
			near.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, near, far)
		c.mu.Unlock()
		c.done.Go(func() { _, _ = io.Copy(far, near); far.Close() })
		c.done.Go(func() { c.back(near, far); near.Close() })
	}
}

func (c *cable) back(near, far net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		muted := c.muted
		c.lost = muted
		c.mu.Unlock()
		if muted {
			continue
		}
		if _, err := near.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (c *cable) mute() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.muted = true
}

func (c *cable) hasLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns, c.muted, c.lost = nil, false, false
}

// peer is a sender without a queue.
type peer struct {
	*testing.T
	*websocket.Conn
}

func dial(t *testing.T, o *other) *peer {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, WriteBufferSize: 64 << 10} // one frame for a message
	conn, resp, err := d.DialContext(t.Context(), "ws://"+o.addr+"/relay", nil)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != handshake.Subprotocol {
		t.Errorf("subprotocol %q", got)
	}
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	return &peer{t, conn}
}

func (p *peer) say(kind int, message []byte) {
	p.Helper()
	must(p.T, p.WriteMessage(kind, message))
}

// open is a session that has got its welcome.
func open(t *testing.T, o *other, h handshake.Hello) *peer {
	t.Helper()
	p := dial(t, o)
	p.hello(h)
	hear[*handshake.Welcome](p)
	return p
}

func (p *peer) hello(h handshake.Hello) {
	p.Helper()
	h.V = handshake.Version
	p.say(websocket.TextMessage, handshake.Encode(&h))
}

func (p *peer) lines(b, seq uint64, lines ...string) {
	p.Helper()
	payload := []byte(strings.Join(lines, "\n") + "\n")
	p.say(websocket.BinaryMessage, handshake.AppendData(nil, handshake.Data{
		B: b, Seq: seq, N: len(lines), At: 1767323045678, Enc: handshake.EncRaw, Raw: len(payload),
		C: handshake.CRC(payload),
	}, payload))
}

// hear reads the next frame, which is to be an F.
func hear[F handshake.Frame](p *peer) F {
	p.Helper()
	_, message, err := p.ReadMessage()
	must(p.T, err)
	frame, err := handshake.Decode(message)
	must(p.T, err)
	f, ok := frame.(F)
	if !ok {
		p.Fatalf("got %s, want a %T", message, f)
	}
	return f
}

// closed reads up to the Close, which is to have this code.
func (p *peer) closed(code int) {
	p.Helper()
	for {
		if _, _, err := p.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, code) {
				p.Fatalf("%v, want Close %d", err, code)
			}
			return
		}
	}
}
