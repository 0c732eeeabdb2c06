package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/test/faults"
)

// The whole chain on a real engine: scripts/engine.sh test.

// chain is relays, and receivers on one engine, behind a tap.
type chain struct {
	*testing.T
	s         *Sandbox
	prefix    string
	stream    string // the data stream, or "" for daily indices
	tap       *faults.Tap
	receivers []*Receiver
	relays    []*exec.Cmd
	limit     int          // of lines, of each relay; 0: none
	allowed   atomic.Int64 // with limit: how many of them may have come by now
	written   atomic.Int64
	feeding   sync.WaitGroup
	stop      context.CancelFunc // of the feeders
}

func newEngineChain(t *testing.T, receivers int) *chain {
	c := &chain{T: t, tap: faults.NewTap(t), s: newSandbox(t, built(t)), prefix: "test-x" + handshake.NewSID()}
	t.Cleanup(func() { faults.Ask(t, http.MethodDelete, "/wsrelay-"+c.prefix+"-*", "") })
	for range receivers {
		c.addReceiver()
	}
	t.Cleanup(func() {
		for _, r := range c.receivers {
			must(t, r.Stop())
		}
	})
	return c
}

func (c *chain) addReceiver() {
	r, err := c.s.NewReceiver()
	must(c.T, err)
	c.receivers = append(c.receivers, r)
	c.start(r)
}

func (c *chain) start(r *Receiver) {
	c.Helper()
	place := []string{"--index", c.prefix}
	if c.stream != "" {
		place = []string{"--data-stream", c.stream}
	}
	var err error
	r.Process, err = c.s.Start("wsreceive-"+r.Addr, r.Program(),
		append([]string{"--listen", r.Addr, "--to", c.tap.URL}, place...)...)
	must(c.T, err)
	must(c.T, r.waitReady(c.Context(), func() bool { return answers(r.Addr) }))
}

// feed starts relays that get rate lines a second, each.
func (c *chain) feed(relays, rate int, url string) {
	ctx, stop := context.WithCancel(c.Context())
	c.stop = stop
	for i := range relays {
		relay := exec.Command(filepath.Join(c.s.bin, "wsrelay"), "--queue-dir", c.queue(i), "--drain", "10m", url)
		relay.Env = c.s.env
		stdin, err := relay.StdinPipe()
		must(c.T, err)
		must(c.T, relay.Start())
		c.relays = append(c.relays, relay)
		c.feeding.Go(func() { c.written.Add(int64(c.writeNumbered(ctx, stdin, i, rate))) })
	}
}

func (c *chain) queue(relay int) string { return c.s.Path(fmt.Sprintf("queue-%d", relay)) }

func relayLine(relay, n int) string { return fmt.Sprintf("relay %d line %07d", relay, n) }

func (c *chain) writeNumbered(ctx context.Context, w io.WriteCloser, relay, rate int) (n int) {
	defer w.Close()
	out := bufio.NewWriter(w)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && (c.limit == 0 || n < c.limit) {
		for range rate / 50 {
			if c.limit > 0 && n >= int(c.allowed.Load()) {
				break
			}
			fmt.Fprintln(out, relayLine(relay, n))
			n++
		}
		if out.Flush() != nil {
			return n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return n
}

// flow waits until n more documents were on their way to the engine.
func (c *chain) flow(n int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 3*time.Minute)
	defer cancel()
	start := c.tap.Documents()
	must(c.T, poll(ctx, func() (bool, error) { return c.tap.Documents() >= start+n, nil }))
}

// finish ends the input, waits until all is delivered, and counts.
func (c *chain) finish(rule, fault string) {
	c.stop()
	c.feeding.Wait()
	for _, relay := range c.relays {
		if err := relay.Wait(); err != nil {
			c.Errorf("wsrelay: %v", err)
		}
	}
	r := faults.Row{Rule: rule, Fault: fault, Lines: int(c.written.Load())}
	there := make(map[string]int)
	last := make(map[string]string) // by stream: the line before
	faults.Each(c, cmp.Or(c.stream, "wsrelay-"+c.prefix+"-*"), `{"match_all":{}}`,
		func(_, _ string, source gjson.Result) {
			line, sid := source.Get("message").Str, source.Get("wsrelay.sid").Str
			there[line]++
			if last[sid] >= line {
				c.Errorf("%q stands behind %q", line, last[sid])
			}
			last[sid] = line
			r.Documents++
		})
	r.Lost, r.Doubled, r.SentAgain = r.Lines-len(there), r.Documents-len(there), c.tap.Documents()-r.Lines
	r.Tell(c)
}

func TestEngine_KilledRelayAndReceiverLoseAndDoubleNothing(t *testing.T) {
	faults.Engine(t)
	c := newEngineChain(t, 1)
	c.feed(1, 1000, c.receivers[0].URL())
	times := 5
	if testing.Short() {
		times = 2
	}
	for range times {
		c.flow(500)
		must(t, syscall.Kill(waitWorker(t, c.queue(0)), syscall.SIGKILL))
		c.flow(500)
		c.receivers[0].Kill()
		c.start(c.receivers[0])
	}
	c.finish("R1", fmt.Sprintf("relay and receiver killed -9 in turn, %d times each", times))
}

// sharedConf runs nginx in front of two receivers of one store.
const sharedConf = `
daemon off;
worker_processes 2;
worker_shutdown_timeout 50ms;
pid shared.pid;
error_log shared.log;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream receivers { random; server RECEIVER0; server RECEIVER1; }
    server {
        listen ADDR;
        location = /relay {
            proxy_pass http://receivers;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 120s;
        }
    }
}
`

func TestEngine_TwoReceiversOfOneStoreBehindNginx(t *testing.T) {
	faults.Engine(t)
	need(t, "nginx")
	c := newEngineChain(t, 2)
	addr := someAddr(t)
	conf := strings.NewReplacer("ADDR", addr, "RECEIVER0", c.receivers[0].Addr, "RECEIVER1",
		c.receivers[1].Addr).Replace(sharedConf)
	must(t, os.WriteFile(c.s.Path("shared.conf"), []byte(strings.TrimSpace(conf)), 0o600))
	proxy, err := c.s.Start("shared", "nginx", "-p", c.s.Dir, "-e", "shared.log", "-c", "shared.conf")
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Stop()) })
	must(t, proxy.waitReady(t.Context(), func() bool { return answers(addr) }))

	const relays, moves = 3, 10
	c.feed(relays, 500, "ws://"+addr+"/relay")
	for i := range moves {
		c.flow(500)
		if i%4 == 3 {
			r := c.receivers[rand.IntN(2)]
			r.Kill()
			c.start(r)
		}
		must(t, proxy.Signal(syscall.SIGHUP))
	}
	c.finish("R1", fmt.Sprintf("%d relays between two receivers behind nginx, connections cut", relays))
	first, second := c.sessions(0), c.sessions(1)
	both := 0
	for sid := range first {
		if second[sid] > 0 {
			both++
		}
	}
	t.Logf("sessions by stream: %v at one receiver, %v at the other", first, second)
	if both == 0 {
		t.Error("no relay has moved: nothing is tested")
	}
}

var connected = regexp.MustCompile(` connected .*\bsid=([0-9a-v]+)`)

// sessions counts those of each stream at a receiver.
func (c *chain) sessions(receiver int) map[string]int {
	c.Helper()
	log, err := os.ReadFile(c.receivers[receiver].Log)
	must(c.T, err)
	n := make(map[string]int)
	for _, found := range connected.FindAllSubmatch(log, -1) {
		n[string(found[1])]++
	}
	return n
}
