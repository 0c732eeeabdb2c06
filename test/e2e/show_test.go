package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/elastic/setup"
	"wsrelay/test/faults"
)

// showConf runs nginx in the sandbox with the shipped log format.
const showConf = `
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log warn;
events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include wsrelay-log.conf;
    server {
        listen ADDR;
        location /orders { return 200 "an order\n"; }
        location /moved { return 301 /orders; }
        location /missing { return 404 "nothing here\n"; }
        location /broken { return 500 "no\n"; }
        location /probe { return 204; }
    }
}
`

const showBurst = 100 // requests of one run of ab

// show is the chain from nginx, by syslog-ng, wsrelay and wsreceive, to a store.
type show struct {
	*testing.T
	s     *Sandbox
	store shown
	nginx string // host:port

	mu    sync.Mutex // guards the two below
	asked int        // requests
	paths map[string]int

	found []time.Duration // by probe: how long until it was found
}

// shown is a store that can be asked for what nginx has logged.
type shown interface {
	start(c *show, r *Receiver)                       // starts wsreceive
	count(c *show, path string) int                   // lines; of one path, if it is not empty
	by(c *show, field string) (counts map[string]int) // lines by "status" or "path"
}

// Every request that syslog-ng has heard of is a document of the engine, with its
// fields, and can be searched for soon. SHOW_REQUESTS are sent, SHOW_RATE a second.
func TestShow_NginxToEngine(t *testing.T) {
	if os.Getenv("SHOW") == "" {
		t.Skip("a show, not a test: scripts/engine.sh show opensearch")
	}
	faults.Engine(t)
	e := &shownEngine{"show-" + handshake.NewSID()}
	t.Cleanup(func() {
		faults.Ask(t, http.MethodDelete, "/wsrelay-"+e.prefix+"-*", "")
		faults.Ask(t, http.MethodDelete, "/_index_template/wsrelay-"+e.prefix, "")
	})
	t.Logf("refresh interval %v", setup.Refresh)
	runShow(t, e, 100_000)
}

// The same for the log database; a few requests are a test, SHOW_REQUESTS a show.
func TestShow_NginxToLogDatabase(t *testing.T) { runShow(t, &shownLogs{}, 2000) }

func runShow(t *testing.T, store shown, requests int) {
	t.Helper()
	need(t, "syslog-ng", "nginx", "ab", "syslog-ng-ctl")
	c := &show{T: t, store: store, s: newSandbox(t, built(t)), paths: make(map[string]int)}
	must(t, os.Chmod(c.s.Dir, 0o711)) // nginx's workers drop root
	c.start()
	start := time.Now()
	c.load(setting("SHOW_REQUESTS", requests), setting("SHOW_RATE", 1000))
	took := time.Since(start)

	heard := c.heard()
	log, err := os.ReadFile(c.s.Path("nginx.log"))
	must(t, err)
	dropped := bytes.Count(log, []byte("send() to syslog failed"))
	documents := c.waitDocuments(heard)
	t.Logf("%d requests in %.0f s; nginx dropped %d lines (its error log), syslog-ng received %d; %d documents",
		c.asked, took.Seconds(), dropped, heard, documents)
	if documents != heard || heard+dropped != c.asked {
		t.Errorf("these do not add up")
	}
	c.aggregate(documents, dropped)
	if len(c.found) == 0 {
		t.Fatal("no probe was found")
	}
	slices.Sort(c.found)
	at := func(p int) time.Duration {
		return c.found[min(len(c.found)*p/100, len(c.found)-1)].Round(time.Millisecond)
	}
	t.Logf("from the request to its being found, %d probes: p50 %v, p99 %v, longest %v", len(c.found), at(50), at(99),
		c.found[len(c.found)-1].Round(time.Millisecond))
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func (c *show) start() {
	c.Helper()
	r, err := c.s.NewReceiver()
	must(c.T, err)
	c.store.start(c, r)
	c.Cleanup(func() { must(c.T, r.Stop()) })
	must(c.T, r.waitReady(c.Context(), func() bool { return answers(r.Addr) }))
	body, err := c.s.Sample(r.URL())
	must(c.T, err)
	start(c.T, c.s, body, AccessSocket, LocalSocket)

	c.nginx = someAddr(c.T)
	example, err := os.ReadFile(filepath.Join(c.s.root, "examples/nginx/wsrelay-log.conf"))
	must(c.T, err)
	logConf, err := replaceOnce(string(example), "/run/nginx-access.sock", c.s.Path(AccessSocket))
	must(c.T, err)
	must(c.T, os.WriteFile(c.s.Path("wsrelay-log.conf"), []byte(logConf), 0o600))
	must(c.T, os.WriteFile(c.s.Path("nginx.conf"), []byte(strings.Replace(strings.TrimSpace(showConf), "ADDR", c.nginx,
		1)), 0o600))
	p, err := c.s.Start("nginx", "nginx", "-p", c.s.Dir, "-e", "nginx.log", "-c", "nginx.conf")
	must(c.T, err)
	c.Cleanup(func() { must(c.T, p.Stop()) })
	must(c.T, p.waitReady(c.Context(), func() bool { return answers(c.nginx) }))
}

// load sends n requests with ab, in bursts, and probes.
func (c *show) load(n, rate int) {
	ctx, stop := context.WithCancel(c.Context())
	var probing sync.WaitGroup
	probing.Go(func() { c.probe(ctx) })
	pace := time.NewTicker(showBurst * time.Second / time.Duration(rate))
	defer pace.Stop()
	paths := []string{
		"/orders/1", "/orders/2", "/orders/3?q=x", "/orders/1", "/moved", "/missing", "/orders/2",
		"/broken",
	}
	for i := range n / showBurst {
		path := paths[i%len(paths)]
		out, err := exec.Command("ab", "-q", "-n", strconv.Itoa(showBurst), "-c", "1",
			"http://"+c.nginx+path).CombinedOutput()
		if err != nil || !bytes.Contains(out, fmt.Appendf(nil, "Complete requests:      %d", showBurst)) {
			c.Fatalf("ab: %v\n%s", err, out)
		}
		plain, _, _ := strings.Cut(path, "?")
		c.ask(plain, showBurst)
		<-pace.C
	}
	stop()
	probing.Wait()
}

// ask notes requests.
func (c *show) ask(path string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[path] += n
	c.asked += n
}

// probe sends requests one after the other and looks how long each takes until
// a search finds it. One that nginx dropped is never found.
func (c *show) probe(ctx context.Context) {
	for i := 0; ; i++ {
		select {
		case <-time.After(rand.N(setup.Refresh)): // or it would keep step with the refreshes
		case <-ctx.Done():
			return
		}
		path := fmt.Sprintf("/probe/%d", i)
		start := time.Now()
		res, err := http.Get("http://" + c.nginx + path)
		if err != nil {
			c.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		c.ask(path, 1)
		for time.Since(start) < 30*time.Second {
			if c.store.count(c, path) > 0 {
				c.found = append(c.found, time.Since(start))
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

var processed = regexp.MustCompile(`(?m)^source;s_nginx_access;.*;processed;([0-9]+)$`)

// heard is how many lines syslog-ng says it has received from nginx.
func (c *show) heard() int {
	c.Helper()
	out, err := exec.Command("syslog-ng-ctl", "stats", "--control="+c.s.Path("syslog-ng.ctl")).CombinedOutput()
	must(c.T, err)
	found := processed.FindSubmatch(out)
	if found == nil {
		c.Fatalf("syslog-ng does not count what nginx sends:\n%s", out)
	}
	n, err := strconv.Atoi(string(found[1]))
	must(c.T, err)
	return n
}

func (c *show) waitDocuments(n int) (there int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	_ = poll(ctx, func() (bool, error) { // what is missing is reported by the caller
		there = c.store.count(c, "")
		return there >= n, nil
	})
	return there
}

// aggregate adds up by status and by path.
func (c *show) aggregate(documents, dropped int) {
	c.Helper()
	for _, field := range []string{"status", "path"} {
		sum, words := 0, []string(nil)
		for key, n := range c.store.by(c, field) {
			sum += n
			if !strings.HasPrefix(key, "/probe") {
				words = append(words, fmt.Sprintf("%s: %d", key, n))
			}
			if want := c.paths[key]; field == "path" && (n > want || n < want-dropped) {
				c.Errorf("%d documents for %d requests of %s", n, want, key)
			}
		}
		slices.Sort(words)
		c.Logf("by %s: %s; in all %d", field, strings.Join(words, ", "), sum)
		if sum != documents {
			c.Errorf("the documents by %s are %d, want %d", field, sum, documents)
		}
	}
}
