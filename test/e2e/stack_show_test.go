package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/test/faults"
)

// asked is a request that was answered.
type asked struct {
	id, path    string
	referrer    string // of this request alone
	status      int
	from, until time.Time
}

// stackStore is a store that the stack ends in.
type stackStore interface {
	start(c *stack) error                 // starts wsreceive
	faults() []fault                      // of the store itself
	stored(c *stack) int                  // how many
	documents(c *stack) [][]byte          // the lines as they were sent
	count(c *stack, requestID string) int // documents of nginx with this id
	story(c *stack, requestID string) []string
}

// The shop under load: what each program says it has logged, and what is in the
// store. STACK_REQUESTS are sent, STACK_RATE a second; STACK_FAULTS=1 kills and
// restarts meanwhile; STACK_FILES=1 has syslog-ng read files only.
func TestShow_Stack(t *testing.T) {
	if os.Getenv("STACK_REQUESTS") == "" {
		t.Skip("a show, not a test: make show-stack")
	}
	need(t, "syslog-ng", "nginx", "strace", "curl", "redis-server",
		"supervisord", "socat", "setpriv", "psql", "/usr/bin/python3")
	if os.Geteuid() != 0 {
		t.Fatal("the shop's programs run as different users: only root can start them")
	}
	c := newStack(t, built(t), stackVenv(t))
	c.store = &stackLogs{}
	switch {
	case os.Getenv("STACK_STORE") == "openresty":
		c.store = &stackOpenResty{}
	case os.Getenv("ELASTICSEARCH_URL") != "":
		e := &stackEngine{prefix: "stack-" + handshake.NewSID()}
		c.store = e
		t.Cleanup(func() {
			faults.Ask(t, http.MethodDelete, "/"+e.indices(), "")
			faults.Ask(t, http.MethodDelete, "/_index_template/wsrelay-"+e.prefix, "")
		})
	}
	c.faulty = os.Getenv("STACK_FAULTS") != ""
	if os.Getenv("STACK_FILES") != "" {
		c.withFiles()
	}
	c.asked, c.probes = make(map[string]asked), make(map[string]time.Duration)
	c.start()
	n, rate := setting("STACK_REQUESTS", 20_000), setting("STACK_RATE", 150)
	began := time.Now()
	ctx, stopProbing := context.WithCancel(t.Context())
	var probing sync.WaitGroup
	for range 2 {
		probing.Go(func() { c.probe(ctx) })
	}
	c.load(n, rate)
	took := time.Since(began)
	stopProbing()
	probing.Wait()
	c.settle()

	rows := c.table()
	t.Logf("%d requests in %.0f s (%.0f a second), %d probes", len(c.asked), took.Seconds(),
		float64(len(c.asked))/took.Seconds(), len(c.probes))
	t.Log(c.print(rows))
	if c.faulty {
		t.Log(c.costs(rows))
	}
	t.Log(c.delays(rows[0]))
	c.judge(rows)
	c.stories()
}

// paths are what the client asks for, as often as they stand here.
var stackPaths = []string{
	"/order?item=tea", "/order?item=tea", "/order?item=%22coffee%22", "/order?item=tea", "/missing", "/order?item=tea",
	"/order?item=milk",
	"/slow", "/order?item=tea", "/broken", "/order?item=tea", "/report", "/order?item=tea", "/missing",
	"/order?item=tea", "/refund",
	"/order?item=tea", "/order?item=tea", "/order?item=cake", "/order?item=tea",
}

func (c *stack) load(n, rate int) {
	plan := c.planFaults(n)
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	const atOnce = 32
	turns := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i := range n {
		if f, ok := plan[i]; ok {
			running.Go(func() { c.strike(f) })
		}
		turns <- struct{}{}
		running.Go(func() {
			c.ask(stackPaths[i%len(stackPaths)])
			<-turns
		})
		<-pace.C
	}
	running.Wait()
}

// ask sends a request and notes the answer; "" if there was none.
func (c *stack) ask(path string) (id string) {
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, "http://"+c.nginx+path, http.NoBody)
	must(c.T, err)
	referrer := fmt.Sprintf("http://shop.example/%d", c.number.Add(1)) // nginx's error log names the request by it
	req.Header.Set("Referer", referrer)
	from := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Errorf("nginx gave no answer: %v", err)
		return ""
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	id = res.Header.Get("X-Request-ID")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[id] = asked{id, path, referrer, res.StatusCode, from, time.Now()}
	return id
}

// probePatience is how long a probe looks for a request, which nginx may have dropped.
const probePatience = 30 * time.Second

// probe measures how long a request takes until a search finds it.
func (c *stack) probe(ctx context.Context) {
	for {
		select {
		case <-time.After(700 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		start := time.Now()
		id := c.ask("/missing?probe")
		if id == "" {
			continue // there was no answer, which has failed the test
		}
		for c.store.count(c, id) == 0 && time.Since(start) < probePatience {
			time.Sleep(50 * time.Millisecond)
		}
		c.mu.Lock()
		c.probes[id] = time.Since(start)
		c.mu.Unlock()
	}
}

// delays says how long the probes took. A lost request is never found; any other
// that was not found in time counts with all of the time that it was looked for.
func (c *stack) delays(nginx row) string {
	c.Helper()
	lost := make(map[string]bool)
	for _, l := range nginx.gone {
		lost[l.text] = true
	}
	var took []time.Duration
	dropped, late := 0, 0
	for id, d := range c.probes {
		if lost[id] {
			dropped++
			continue
		}
		took = append(took, d)
		if d >= probePatience {
			late++
		}
	}
	if len(took) == 0 {
		c.Fatal("no probe was found")
	}
	slices.Sort(took)
	at := func(p int) time.Duration { return took[(len(took)-1)*p/100].Round(time.Millisecond) }
	return fmt.Sprintf("from the request to its being found, %d probes: p50 %v, p99 %v, longest %v; %d more not found within %v, %d lost",
		len(took)-late, at(50), at(99), at(100), late, probePatience, dropped)
}

// settle waits until the tasks have ended, then ends what still logs, and waits
// until nothing more arrives.
func (c *stack) settle() {
	c.Helper()
	for ended, since := -1, time.Now(); time.Since(since) < 10*time.Second; time.Sleep(time.Second) {
		n, all := c.tasksEnded()
		if all {
			break
		}
		if n != ended {
			ended, since = n, time.Now() // a killed worker's tasks may come after an hour
		}
	}
	c.control("stop", "celery", "beat", "uwsgi")
	last, since := -1, time.Now()
	for time.Since(since) < 6*time.Second { // an entry of several lines waits for two
		if n := c.store.stored(c); n != last {
			last, since = n, time.Now()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (c *stack) print(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-12s %9s %9s %6s %8s %9s %9s  %s\n", "program", "entries", "documents", "lost", "doubled", "levels", "several", "whole")
	total := row{program: "in all"}
	for _, r := range rows {
		total.logged += r.logged
		total.documents += r.documents
		total.lost += r.lost
		total.doubled += r.doubled
		total.levels += r.levels
		total.lines += r.lines
		total.whole += r.whole
	}
	for _, r := range append(rows, total) {
		fmt.Fprintf(&b, "%-12s %9d %9d %6d %8d %9d %9d  %5d", r.program, r.logged, r.documents, r.lost, r.doubled,
			r.levels, r.lines, r.whole)
		for _, by := range []string{byNginx, byUnread, byStream, byTail, byRename, ""} {
			if n := r.lostBy(by); n > 0 {
				fmt.Fprintf(&b, "  %d %s", n, cmp.Or(by, "UNEXPLAINED"))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// judge fails the test for what was doubled, and for what nobody can be proved
// to have lost. In peace, and where syslog-ng reads files only, nothing but a
// socket that is full may lose an entry.
func (c *stack) judge(rows []row) {
	c.Helper()
	show := func(n int) int { return min(n, 5) }
	for _, r := range rows {
		explained := r.lostBy(byNginx)
		if c.faulty {
			explained = r.lost - r.lostBy("")
		}
		if r.lost > explained || r.doubled > 0 {
			c.Errorf("%s: %d lost, of which %d are explained, %d doubled\nlost: %+v\ndoubled: %q", r.program, r.lost,
				explained, r.doubled, r.gone[:show(len(r.gone))], r.more[:show(len(r.more))])
		}
		if r.levels != r.logged-r.lost {
			c.Errorf("%s: %d of %d levels are right", r.program, r.levels, r.logged-r.lost)
		}
	}
}

// stories prints the way of one request whose task fails, and of one that fails itself.
func (c *stack) stories() {
	c.Helper()
	for _, path := range []string{"/refund", "/report", "/order?item=tea"} {
		var first asked
		for _, a := range c.asked {
			if a.path == path && a.status != http.StatusBadGateway && (first.id == "" || a.from.Before(first.from)) {
				first = a
			}
		}
		c.Logf("%s, request %s:\n%s", path, first.id, strings.Join(c.store.story(c, first.id), "\n"))
	}
	if _, ok := c.store.(*stackLogs); ok {
		for _, begin := range []string{"'fields.status", "'level:in(error", "'program:nginx"} {
			c.Logf("%s…:\n%s", begin, strings.Join(c.tutorial("wsreceive search --to logs:/var/lib/wsreceive/logs "+begin, ""), "\n"))
		}
	}
}
