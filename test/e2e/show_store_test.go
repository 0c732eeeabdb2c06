package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"

	"github.com/tidwall/gjson"

	"wsrelay/test/faults"
)

// shownEngine is the indices of a prefix in Elasticsearch or OpenSearch.
type shownEngine struct{ prefix string }

const nginxLines = `{"term":{"process.name":"nginx"}}`

func (e *shownEngine) start(c *show, r *Receiver) {
	c.Helper()
	out, err := exec.Command(r.Program(), "setup", "--to", faults.Engine(c), "--index", e.prefix).CombinedOutput()
	if err != nil {
		c.Fatalf("setup: %v\n%s", err, out)
	}
	r.Process, err = c.s.Start("wsreceive", r.Program(), "--listen", r.Addr, "--to", faults.Engine(c), "--index",
		e.prefix)
	must(c.T, err)
}

// count asks the engine; an index that is just being made has nothing yet.
func (e *shownEngine) count(c *show, path string) int {
	c.Helper()
	query := nginxLines
	if path != "" {
		query = fmt.Sprintf(`{"term":{"url.path":%q}}`, path)
	}
	res, err := http.Post(faults.Engine(c)+"/wsrelay-"+e.prefix+"-*/_count", "application/json",
		strings.NewReader(`{"query":`+query+`}`))
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatal(err)
	}
	return int(gjson.GetBytes(answer, "count").Int())
}

func (e *shownEngine) by(c *show, field string) map[string]int {
	c.Helper()
	name := map[string]string{"status": "http.response.status_code", "path": "url.path"}[field]
	found := faults.Ask(c, http.MethodPost, "/wsrelay-"+e.prefix+"-*/_search?size=0",
		`{"query":`+nginxLines+`,"aggs":{"by":{"terms":{"field":"`+name+`","size":10000}}}}`)
	counts := map[string]int{}
	for _, b := range found.Get("aggregations.by.buckets").Array() {
		counts[b.Get("key").String()] += int(b.Get("doc_count").Int())
	}
	return counts
}

// shownLogs is the log database of a wsreceive, asked by the query API.
type shownLogs struct{ addr string }

func (l *shownLogs) start(c *show, r *Receiver) {
	c.Helper()
	l.addr = r.Addr
	must(c.T, r.Start(c.Context()))
}

func (l *shownLogs) count(c *show, path string) (n int) {
	c.Helper()
	filter := "program:=nginx"
	if path != "" {
		filter += fmt.Sprintf(" fields.path:=%q", path)
	}
	l.ask(c, filter+" | stats count() n", func(row gjson.Result) { n = int(row.Get("n").Int()) })
	return n
}

func (l *shownLogs) by(c *show, field string) map[string]int {
	c.Helper()
	counts := map[string]int{}
	l.ask(c, `program:=nginx | stats by (fields.`+field+`) count() n`, func(row gjson.Result) {
		key, _, _ := strings.Cut(row.Get(`fields\.`+field).String(), "?")
		counts[key] += int(row.Get("n").Int())
	})
	return counts
}

func (l *shownLogs) ask(c *show, query string, f func(row gjson.Result)) {
	c.Helper()
	res, err := http.PostForm("http://"+l.addr+"/select/logsql/query", url.Values{"query": {query}})
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		c.Fatalf("%s: %s, %v, %s", query, res.Status, err, answer)
	}
	gjson.ForEachLine(string(answer), func(row gjson.Result) bool {
		f(row)
		return true
	})
}
