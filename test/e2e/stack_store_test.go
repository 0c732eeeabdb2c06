package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"wsrelay/test/faults"
)

// stackLogs is the log database of a wsreceive.
type stackLogs struct{}

func (l *stackLogs) start(c *stack) error { return c.r.Start(c.Context()) }

func (l *stackLogs) faults() []fault { return nil }

func (l *stackLogs) documents(c *stack) (lines [][]byte) {
	c.Helper()
	for line, err := range c.r.Documents(c.Context()) {
		must(c.T, err)
		lines = append(lines, line)
	}
	return lines
}

func (l *stackLogs) stored(c *stack) int {
	c.Helper()
	n, err := c.r.Stored(c.Context())
	must(c.T, err)
	return n
}

func (l *stackLogs) count(c *stack, id string) int {
	res, err := http.PostForm("http://"+c.r.Addr+"/select/logsql/query",
		url.Values{"query": {fmt.Sprintf("program:=nginx fields.request_id:=%q | limit 1", id)}})
	if err != nil {
		return 0 // it was killed
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return 0
	}
	return strings.Count(string(answer), "\n")
}

// story asks with the tutorial's own command.
func (l *stackLogs) story(c *stack, id string) (lines []string) {
	c.Helper()
	for _, answer := range c.tutorial("wsreceive search --to logs:/var/lib/wsreceive/logs 'fields.request_id:=", id) {
		d := gjson.Parse(answer)
		if !d.Get("_time").Exists() { // the count by program
			continue
		}
		lines = append(lines, storyLine(d.Get("_time").Str, d.Get("program").Str, d.Get("level").Str,
			d.Get("_msg").Str))
	}
	return lines
}

func storyLine(at, program, level, message string) string {
	return fmt.Sprintf("%-30s %-11s %-7s %.160s", at, program, level, strings.ReplaceAll(message, "\n", "⏎"))
}

// stackEngine is the indices of a prefix in Elasticsearch or OpenSearch.
type stackEngine struct {
	prefix string
	ready  bool // setup has run
}

func (e *stackEngine) indices() string { return "wsrelay-" + e.prefix + "-*" }

func (e *stackEngine) start(c *stack) error {
	if !e.ready {
		if out, err := exec.Command(c.r.Program(), "setup", "--to", faults.Engine(c), "--index",
			e.prefix).CombinedOutput(); err != nil {
			return fmt.Errorf("setup: %w: %s", err, out)
		}
		e.ready = true
	}
	p, err := c.s.Start("wsreceive", c.r.Program(), "--listen", c.r.Addr, "--to", faults.Engine(c), "--index", e.prefix)
	if err != nil {
		return err
	}
	c.r.Process = p
	return p.waitReady(c.Context(), func() bool { return answers(c.r.Addr) })
}

// faults are the engine's end and its new start, if it is ours.
func (e *stackEngine) faults() []fault {
	dir := os.Getenv("ENGINE_DIR")
	if dir == "" {
		return nil
	}
	return []fault{{"the engine is killed, and started again", func(c *stack) {
		for _, verb := range []string{"kill", "restart"} {
			c.run(filepath.Join(c.s.root, "scripts/engine.sh"), verb, dir)
		}
	}}}
}

func (e *stackEngine) documents(c *stack) (lines [][]byte) {
	c.Helper()
	faults.Each(c, e.indices(), `{"match_all":{}}`, func(_, _ string, source gjson.Result) {
		lines = append(lines, []byte(source.Get("event.original").Str))
	})
	return lines
}

func (e *stackEngine) stored(c *stack) int {
	c.Helper()
	return int(faults.Ask(c, http.MethodPost, "/"+e.indices()+"/_count", "").Get("count").Int())
}

func (e *stackEngine) count(c *stack, id string) int {
	query := fmt.Sprintf(`{"query":{"bool":{"filter":[{"term":{"process.name":"nginx"}},{"term":{"fields.request_id":%q}}]}}}`, id)
	res, err := http.Post(faults.Engine(c)+"/"+e.indices()+"/_count", "application/json", strings.NewReader(query))
	if err != nil {
		return 0 // it was killed
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0
	}
	return int(gjson.GetBytes(answer, "count").Int())
}

// story asks as Kibana does for fields.request_id : "…", sorted by time.
func (e *stackEngine) story(c *stack, id string) (lines []string) {
	c.Helper()
	query := fmt.Sprintf(`{"size":100,"sort":["@timestamp"],"query":{"match_phrase":{"fields.request_id":%q}}}`, id)
	for _, hit := range faults.Ask(c, http.MethodPost, "/"+e.indices()+"/_search",
		query).Get("hits.hits.#._source").Array() {
		lines = append(lines, storyLine(hit.Get("@timestamp").Str, hit.Get("process.name").Str,
			hit.Get("log.level").Str, hit.Get("message").Str))
	}
	return lines
}

// stackOpenResty is nginx with Lua, the receiver of examples/openresty, and an
// engine of ours behind it that refuses, breaks off and is full now and then.
type stackOpenResty struct{ *other }

func (o *stackOpenResty) start(c *stack) error {
	if o.other == nil {
		o.other = newOpenResty(c.T, newSandbox(c.T, c.s.bin))
		c.r.Addr = o.addr
	}
	o.run(c.T)
	c.r.Process = o.Process
	return nil
}

func (o *stackOpenResty) faults() []fault { return nil }

func (o *stackOpenResty) documents(*stack) [][]byte { return o.other.stored() }

func (o *stackOpenResty) stored(*stack) int { return len(o.other.stored()) }

func (o *stackOpenResty) count(_ *stack, id string) (n int) {
	for _, line := range o.with(id) {
		if d := gjson.ParseBytes(line); d.Get("program").Str == "nginx" && d.Get("fields.request_id").Str == id {
			n++
		}
	}
	return n
}

func (o *stackOpenResty) story(_ *stack, id string) (lines []string) {
	for _, line := range o.with(id) {
		if d := gjson.ParseBytes(line); d.Get("fields.request_id").Str == id {
			lines = append(lines, storyLine(d.Get("timestamp").Str, d.Get("program").Str, d.Get("severity").Str,
				d.Get("message").Str))
		}
	}
	slices.Sort(lines)
	return lines
}
