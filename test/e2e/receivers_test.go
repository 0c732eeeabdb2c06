package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/test/harness"
)

// other is a receiver: one in examples/, or wsreceive, so that all are held to
// the same. Its address and what it has stored outlive it.
type other struct {
	addr   string
	start  func(t *testing.T) *Process
	stored func() [][]byte            // the documents, as lines, in the order of the stream
	with   func(text string) [][]byte // those that contain it; nil: this one has no such search

	reloads bool // at SIGHUP

	*Process
}

func (o *other) run(t *testing.T) {
	t.Helper()
	o.Process = o.start(t)
	must(t, o.waitReady(t.Context(), func() bool {
		c, err := net.Dial("tcp", o.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}))
}

func someAddr(t *testing.T) string {
	t.Helper()
	addr, err := freeAddr()
	must(t, err)
	return addr
}

// others are all receivers, started; each subtest has its own.
func others(t *testing.T, test func(t *testing.T, s *Sandbox, o *other)) {
	for name, make := range map[string]func(*testing.T, *Sandbox) *other{
		"wsreceive": newFile, "Python": newPython,
		"OpenResty": newOpenResty,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, built(t))
			o := make(t, s)
			o.run(t)
			t.Cleanup(func() { o.KillGroup() })
			test(t, s, o)
		})
	}
}

// newFile is wsreceive with a file: the store that remembers least.
func newFile(t *testing.T, s *Sandbox) *other {
	o := &other{addr: someAddr(t), reloads: true}
	o.start = func(t *testing.T) *Process {
		p, err := s.Start("wsreceive", filepath.Join(s.bin, "wsreceive"), "--listen", o.addr, "--to",
			"file:"+s.Path("lines"))
		must(t, err)
		return p
	}
	o.stored = func() [][]byte { return append(linesOf(s.Path("lines")), linesOf(s.Path("lines.gaps"))...) }
	return o
}

// linesOf a file, none if it is not there yet.
func linesOf(name string) [][]byte {
	text, _ := os.ReadFile(name)
	return bytes.Split(text, []byte("\n"))[:bytes.Count(text, []byte("\n"))]
}

const debianPython = "/usr/bin/python3"

func newPython(t *testing.T, s *Sandbox) *other {
	if exec.Command(debianPython, "-c", "import websockets").Run() != nil {
		harness.Lack(t, "python3-websockets is not installed")
	}
	o := &other{addr: someAddr(t)}
	o.start = func(t *testing.T) *Process {
		p, err := s.Start("receiver.py", debianPython, filepath.Join(s.root, "examples/python/receiver.py"), "--listen",
			o.addr, s.Path("lines"))
		must(t, err)
		return p
	}
	o.stored = func() [][]byte { return linesOf(s.Path("lines")) }
	return o
}

// newOpenResty is nginx with the shipped configuration, in front of an engine.
func newOpenResty(t *testing.T, s *Sandbox) *other {
	need(t, "nginx")
	for file, debian := range map[string]string{
		"/usr/lib/nginx/modules/ngx_http_lua_module.so": "libnginx-mod-http-lua",
		"/usr/share/lua/5.1/nginx/websocket/server.lua": "lua-nginx-websocket",
		"/usr/share/lua/5.1/cjson/util.lua":             "lua-cjson",
	} {
		if _, err := os.Stat(file); err != nil {
			harness.Lack(t, debian+" is not installed")
		}
	}
	e := &engine{docs: map[string]string{}}
	server := httptest.NewServer(e)
	t.Cleanup(func() {
		server.Close()
		if e.complaint != "" {
			t.Error(e.complaint)
		}
	})
	o := &other{addr: someAddr(t), stored: e.lines, with: e.linesWith, reloads: true}
	writeNginxConf(t, s, o.addr, server.Listener.Addr().String())
	o.start = func(t *testing.T) *Process {
		p, err := s.Start("nginx", "nginx", "-p", s.Dir, "-e", "stderr", "-c", "nginx.conf")
		must(t, err)
		return p
	}
	return o
}

func writeNginxConf(t *testing.T, s *Sandbox, addr, engine string) {
	t.Helper()
	must(t, os.Chmod(s.Dir, 0o711)) // nginx's workers drop root, and may not look into a clone below /root
	example := filepath.Join(s.root, "examples/openresty")
	must(t, os.CopyFS(s.Path("lua"), os.DirFS(filepath.Join(example, "lua"))))
	must(t, os.Chmod(s.Path("lua"), 0o755)) //nolint:gosec // as above
	sample, err := os.ReadFile(filepath.Join(example, "nginx.conf"))
	must(t, err)
	_, port, err := net.SplitHostPort(engine)
	must(t, err)
	conf := string(sample)
	for old, with := range map[string]string{
		"worker_processes auto;":               "worker_processes 2; daemon off;",
		"pid /run/nginx-wsrelay.pid;":          "pid " + s.Path("nginx.pid") + ";",
		"error_log /var/log/nginx/wsrelay.log": "error_log stderr",
		"/etc/nginx/lua/":                      s.Path("lua") + "/",
		"/etc/nginx/wsrelay.secret":            s.Path("secret"),
		"port = 9200":                          "port = " + port,
		"127.0.0.1:8514":                       addr,
		"access_log off;":                      "access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;",
		"user www-data;":                       map[bool]string{true: "user www-data;"}[os.Getuid() == 0],
	} {
		conf, err = replaceOnce(conf, old, with)
		must(t, err)
	}
	must(t, os.WriteFile(s.Path("nginx.conf"), []byte(conf), 0o600))
	must(t, os.WriteFile(s.Path("secret"), []byte("not a secret at all"), 0o600))
}

// oddLine is the n-th line that wsrelay is to ship.
func oddLine(n int) []byte {
	odd := []string{
		"", "plain", "ends in CR\r", "\x00\x01 NUL", "\xff\xfe not UTF-8 \xc3", "{\"json\":\"é\"}",
		"é\u2028\\\"\x7f",
	}
	line := fmt.Sprintf("%06d %s", n, odd[n%len(odd)])
	if n%1500 == 700 {
		line += strings.Repeat("long ", 60_000)
	}
	return []byte(line)
}

// oddFeed writes odd lines to w until stop is closed, and gives their number.
func oddFeed(w io.WriteCloser, stop chan struct{}) (n int, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	to := bufio.NewWriter(w)
	for ; ; n++ {
		if n%10 == 0 {
			select {
			case <-stop:
				if err = to.Flush(); err == nil {
					err = w.Close()
				}
				return n, err
			case <-tick.C:
			}
		}
		if _, err := to.Write(append(oddLine(n), '\n')); err != nil {
			return n, err
		}
	}
}

func TestReceivers_StoreEachLineOnceAndInOrderThroughOutages(t *testing.T) {
	others(t, func(t *testing.T, s *Sandbox, o *other) {
		wire := newCable(t, o.addr)
		must(t, syscall.Mkfifo(s.Path("stdin"), 0o600))
		script := fmt.Sprintf("exec %s/wsrelay ws://%s/relay --drain 100s --log-file %s/wsrelay.log <stdin", s.bin,
			wire.Addr(), s.QueueDir())
		relay, err := s.Start("wsrelay", "sh", "-c", script)
		must(t, err)
		stdin, err := os.OpenFile(s.Path("stdin"), os.O_WRONLY, 0)
		must(t, err)
		stop, fed := make(chan struct{}), make(chan error, 1)
		var sent int
		go func() {
			var err error
			sent, err = oddFeed(stdin, stop)
			fed <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		until := func(ready func() bool) {
			t.Helper()
			if err := relay.waitReady(ctx, ready); err != nil {
				log, _ := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
				t.Fatalf("%v; %d lines are stored; the log:\n%sthe receiver:\n%s", err, len(o.stored()), log,
					o.output())
			}
		}
		more := func(n int) {
			t.Helper()
			goal := len(o.stored()) + n
			until(func() bool { return len(o.stored()) >= goal })
		}
		for range 3 {
			more(500)
			o.KillGroup()
			o.run(t)
		}
		more(500)
		wire.cut()
		more(500)
		wire.mute()
		until(wire.hasLost) // a receipt: what it is for is stored, and sent again
		wire.cut()
		more(500)
		if o.reloads {
			must(t, o.Signal(syscall.SIGHUP))
			more(1000) // what was under way does not reach so far
		}
		close(stop)
		must(t, <-fed)
		select {
		case <-relay.done:
		case <-ctx.Done():
			t.Fatalf("wsrelay does not end:\n%s", relay.output())
		}
		if relay.err != nil {
			t.Fatalf("wsrelay: %v\n%s", relay.err, relay.output())
		}
		stored := o.stored()
		for n := range max(sent, len(stored)) {
			if n >= sent || n >= len(stored) || !bytes.Equal(stored[n], oddLine(n)) {
				t.Fatalf("%d lines sent, %d stored; the first difference is at line %d", sent, len(stored), n)
			}
		}
		again, err := s.SentAgain()
		if err != nil || again == 0 {
			t.Errorf("sent again: %d, %v; want some, else the outages have tested nothing", again, err)
		}
		log, err := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
		if err != nil || !bytes.Contains(log, []byte("connected")) ||
			bytes.Contains(log, []byte("other lines under our numbers")) {
			t.Errorf("%v; the log should say that it connected, and never that a stream has diverged:\n%s", err, log)
		}
		t.Logf("%d lines, %d sent again", sent, again)
	})
}

// vectorSID is the stream of the vectors.
const vectorSID = "c6is56qdhs77ecuh"

func TestReceivers_AnswerAsTheDocumentSays(t *testing.T) {
	others(t, func(t *testing.T, _ *Sandbox, o *other) {
		p := open(t, o, handshake.Hello{SID: vectorSID, Acked: 1, Head: 3}) // and gives more numbers then
		p.lines(1, 1, "one", "two")
		if a := hear[*handshake.Ack](p); a.Seq != 3 || a.B != 1 || a.New != 2 || a.Dup != 0 ||
			a.UID.First != handshake.UID(vectorSID, 1) || a.UID.Last != handshake.UID(vectorSID, 2) {
			t.Errorf("receipt %+v, %+v", a, a.UID)
		}
		p.say(websocket.BinaryMessage, []byte(`{"b":2,"seq":3,"n":1,"enc":"raw","raw":6,"c":"00000000"}`+"\nthree\n"))
		if n := hear[*handshake.Nak](p); n.Code != handshake.NakCRC || n.B != 2 || n.Expect != 3 {
			t.Errorf("nak %+v, want crc, expect 3", n)
		}
		p.lines(3, 4, "ignored without a word")
		p.lines(4, 3, "three")
		if a := hear[*handshake.Ack](p); a.Seq != 4 || a.B != 4 {
			t.Errorf("receipt %+v, want seq 4", a)
		}
		p.say(websocket.TextMessage, handshake.Encode(&handshake.Gap{B: 5, Seq: 4, N: 2, Why: handshake.GapOverflow}))
		if a := hear[*handshake.Ack](p); a.Seq != 6 || a.New != 1 || a.UID.Last != handshake.GapID(vectorSID, 4, 2) {
			t.Errorf("receipt %+v, %+v, want the gap's", a, a.UID)
		}
		p.say(websocket.TextMessage, handshake.Encode(&handshake.Bye{Why: "idle"}))
		p.closed(websocket.CloseNormalClosure)

		p = open(t, o, handshake.Hello{SID: vectorSID, Acked: 2, Head: 7})
		p.lines(1, 1, "below acked")
		if n := hear[*handshake.Nak](p); n.Code != handshake.NakOrder || n.Expect != 2 {
			t.Errorf("nak %+v, want order, expect 2", n)
		}
		p.lines(2, 2, "two", "three")
		if a := hear[*handshake.Ack](p); a.Seq != 4 || a.New != 0 || a.Dup != 2 {
			t.Errorf("receipt %+v, want two that were there", a)
		}
		newer := open(t, o, handshake.Hello{SID: vectorSID, Acked: 1, Head: 3})
		p.closed(handshake.CloseSuperseded)
		newer.lines(1, 1, "another one")
		if n := hear[*handshake.Nak](newer); n.Code != handshake.NakDiverged || n.Expect != 1 {
			t.Errorf("nak %+v, want diverged", n)
		}
		newer.say(websocket.TextMessage, handshake.Encode(&handshake.Bye{Why: "drain"})) // a receiver may have closed already
		newer.closed(websocket.CloseNormalClosure)

		want := []string{"one", "two", "three"}
		stored := o.stored()
		if len(stored) != 4 || string(bytes.Join(stored[:3], []byte(","))) != strings.Join(want, ",") ||
			!bytes.Contains(stored[3], []byte("overflow")) {
			t.Errorf("stored: %q, want %q and a gap", stored, want)
		}
	})
}

func TestReceivers_RefuseWhatTheVectorsRefuse(t *testing.T) {
	type vector struct {
		Name, Code string
		Message    []byte `json:"message_base64"`
		Lenient    bool
	}
	var vectors struct{ Invalid, Refused []vector }
	text, err := os.ReadFile("../../handshake/testdata/data.json")
	must(t, err)
	must(t, json.Unmarshal(text, &vectors))
	others(t, func(t *testing.T, _ *Sandbox, o *other) {
		for _, v := range vectors.Invalid {
			if v.Lenient {
				continue
			}
			p := open(t, o, handshake.Hello{SID: handshake.NewSID(), Acked: 1, Head: 1 << 50})
			p.say(websocket.BinaryMessage, v.Message)
			if e := hear[*handshake.Err](p); e.Code != handshake.CloseBadFrame {
				t.Errorf("%s: %+v", v.Name, e)
			}
			p.closed(handshake.CloseBadFrame)
		}
		for _, v := range vectors.Refused {
			p := open(t, o, handshake.Hello{SID: handshake.NewSID(), Acked: 1, Head: 1 << 50})
			p.say(websocket.BinaryMessage, v.Message)
			if n := hear[*handshake.Nak](p); n.Code != v.Code {
				t.Errorf("%s: nak %s, want %s", v.Name, n.Code, v.Code)
			}
		}
		if len(vectors.Invalid) == 0 || len(vectors.Refused) == 0 || len(o.stored()) > 0 {
			t.Errorf("%d and %d vectors, stored %q", len(vectors.Invalid), len(vectors.Refused), o.stored())
		}
	})
}

func TestReceivers_WriteNumbersWithAllTheirDigits(t *testing.T) {
	others(t, func(t *testing.T, _ *Sandbox, o *other) {
		const seq = handshake.MaxSeq - 1
		p := open(t, o, handshake.Hello{SID: vectorSID, Acked: seq - 1, Head: seq + 2})
		p.lines(1, seq, "the last but one")
		if a := hear[*handshake.Ack](p); a.Seq != seq+1 || a.UID.Last != handshake.UID(vectorSID, seq) {
			t.Errorf("receipt %+v, %+v, want seq %d", a, a.UID, uint64(seq+1))
		}
		p.lines(2, seq, "again")
		if n := hear[*handshake.Nak](p); n.Expect != seq+1 {
			t.Errorf("nak %+v, want expect %d", n, uint64(seq+1))
		}
	})
}

// nginx refuses unless told otherwise: see TestOpenResty_RefusesAProofThatItHasNotGiven.
// wsreceive is the other way round: see TestReceipts_CarryATokenThatTheNextHelloShows
// in receiver.
func TestReceivers_TakeAWrongReceiptWhereTheAdministratorWantsItSo(t *testing.T) {
	for name, make := range map[string]func(*testing.T, *Sandbox) *other{
		"Python": newPython,
		"OpenResty": func(t *testing.T, s *Sandbox) *other {
			o := newOpenResty(t, s)
			conf, err := os.ReadFile(s.Path("nginx.conf"))
			must(t, err)
			text, err := replaceOnce(string(conf), `wrong_receipt = "refuse"`, `wrong_receipt = "log"`)
			must(t, err)
			must(t, os.WriteFile(s.Path("nginx.conf"), []byte(text), 0o600))
			return o
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, built(t))
			o := make(t, s)
			o.run(t)
			t.Cleanup(o.KillGroup)
			p := open(t, o, handshake.Hello{SID: vectorSID, Acked: 1, Head: 3})
			p.lines(1, 1, "one")
			hear[*handshake.Ack](p)
			foreign := &handshake.Proof{Seq: 2, UID: handshake.UID(vectorSID, 1), RT: strings.Repeat("0", 40)}
			p = open(t, o, handshake.Hello{SID: vectorSID, Acked: 2, Head: 3, Proof: foreign})
			p.lines(1, 2, "two")
			if a := hear[*handshake.Ack](p); a.Seq != 3 || a.New != 1 {
				t.Errorf("receipt %+v, want seq 3", a)
			}
		})
	}
}

func TestReceivers_RefuseOtherClients(t *testing.T) {
	others(t, func(t *testing.T, _ *Sandbox, o *other) {
		for status, header := range map[int]http.Header{
			http.StatusUpgradeRequired: {"Sec-Websocket-Protocol": {"mqtt"}},
			http.StatusForbidden: {
				"Sec-Websocket-Protocol": {"mqtt, wsrelay.v1"},
				"Origin":                 {"https://example.com"},
			},
		} {
			_, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+o.addr+"/relay", header)
			if err == nil || resp == nil || resp.StatusCode != status {
				t.Errorf("%v: %v, want status %d", header, err, status)
			}
		}
		for _, h := range []handshake.Hello{
			{SID: "NOT A SID", Acked: 1, Head: 1},
			{SID: vectorSID, Acked: 1, Head: 1, Host: strings.Repeat("h", 256)},
		} {
			p := dial(t, o)
			p.hello(h)
			p.closed(handshake.CloseBadFrame)
		}
		open(t, o, handshake.Hello{SID: vectorSID, Acked: 1, Head: 1, Host: strings.Repeat("h", 255)})
	})
}

func TestOpenResty_RefusesAProofThatItHasNotGiven(t *testing.T) {
	s := newSandbox(t, built(t))
	o := newOpenResty(t, s)
	o.run(t)
	t.Cleanup(func() { o.KillGroup() })

	foreign := &handshake.Proof{Seq: 2, UID: handshake.UID(vectorSID, 1), RT: strings.Repeat("0", 40)}
	p := open(t, o, handshake.Hello{SID: vectorSID, Acked: 1, Head: 3, Proof: foreign}) // it knows nothing of the stream
	var proofs []*handshake.Proof
	for b := range uint64(2) {
		p.lines(b+1, b+1, "a line")
		a := hear[*handshake.Ack](p)
		proofs = append(proofs, &handshake.Proof{Seq: a.Seq, UID: a.UID.Last, RT: a.RT})
	}
	open(t, o, handshake.Hello{SID: vectorSID, Acked: 3, Head: 3, Proof: proofs[1]})
	open(t, o, handshake.Hello{SID: vectorSID, Acked: 2, Head: 3, Proof: proofs[0]}) // the last receipt was lost
	open(t, o, handshake.Hello{SID: vectorSID, Acked: 3, Head: 3})
	for name, h := range map[string]handshake.Hello{
		"forged": {SID: vectorSID, Acked: 3, Head: 3, Proof: foreign},
		"the right uid": {
			SID: vectorSID, Acked: 3, Head: 3,
			Proof: &handshake.Proof{Seq: 3, UID: proofs[1].UID, RT: foreign.RT},
		},
		"of another uid": {SID: vectorSID, Acked: 3, Head: 3, Proof: &handshake.Proof{Seq: 3, UID: proofs[0].UID, RT: proofs[1].RT}},
	} {
		p := dial(t, o)
		p.hello(h)
		if e := hear[*handshake.Err](p); e.Code != handshake.CloseForbidden {
			t.Errorf("%s: %+v, want %d", name, e, handshake.CloseForbidden)
		}
		p.closed(handshake.CloseForbidden)
	}
}
