package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// TestSelects_AnswersGrafana sends the requests of Grafana's VictoriaLogs data source
// (github.com/VictoriaMetrics/victorialogs-datasource v0.30.1, pkg/plugin), and looks
// for what it reads in the answers.
func TestSelects_AnswersGrafana(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	for i := range 30 {
		s.add(t, sidA, "web1", now.Add(-time.Duration(i)*time.Second),
			fmt.Sprintf(`{"program":"nginx","status":%d,"message":"GET /item-%d"}`, 200+i%2, i))
	}
	s.searchable(t)
	answersGrafana(t, s.URL, now)
}

func answersGrafana(t *testing.T, address string, now time.Time) {
	t.Helper()
	from, to := strconv.FormatInt(now.Add(-time.Hour).Unix(), 10), strconv.FormatInt(now.Add(time.Minute).Unix(), 10)
	for _, c := range []struct {
		of, path string
		args     url.Values
		want     map[string]string // by path of gjson; in JSON lines that of the first
	}{
		{"Save & test", "/select/logsql/query", url.Values{"query": {"*"}, "limit": {"1"}, "start": {"-5m"}}, map[string]string{"_msg": "GET /item-0"}},
		{
			"Explore, logs", "/select/logsql/query",
			url.Values{"query": {"status:200"}, "limit": {"1000"}, "start": {from}, "end": {to}},
			map[string]string{
				"_msg": "GET /item-0", "_time": now.UTC().Format(time.RFC3339Nano),
				"_stream": `{host="web1",program="nginx"}`, "status": "200",
			},
		},
		{
			"a panel of one value", "/select/logsql/stats_query",
			url.Values{
				"query": {"_time:[" + from + ", " + to + "] * | stats by (status) count() n | sort by (status)"},
				"time":  {to},
			},
			map[string]string{
				"status": "success", "data.resultType": "vector", "data.result.#": "2",
				"data.result.0.metric.__name__": "n", "data.result.0.metric.status": "200",
				"data.result.0.value.1": "15",
			},
		},
		{
			"a graph", "/select/logsql/stats_query_range",
			url.Values{
				"query": {"* | stats count() n"}, "start": {from}, "end": {to}, "step": {"1h"},
				"offset": {"1h"},
			},
			map[string]string{"status": "success", "data.resultType": "matrix", "data.result.0.metric.__name__": "n"},
		},
		{
			"the bars above logs", "/select/logsql/hits",
			url.Values{"query": {"*"}, "start": {from}, "end": {to}, "step": {"24h"}, "field": {"level"}},
			map[string]string{
				"hits.#": "1", "hits.0.total": "30",
				"hits.0.timestamps.0": now.Add(-time.Hour).UTC().Truncate(24 * time.Hour).Format(time.RFC3339),
			},
		},
		{
			"names of fields", "/select/logsql/field_names",
			url.Values{"query": {"*"}, "start": {from}, "end": {to}},
			map[string]string{`values.#(value=="status").hits`: "30"},
		},
		{
			"values of a field", "/select/logsql/field_values",
			url.Values{
				"query": {"*"}, "field": {"status"}, "limit": {"10"}, "start": {from}, "end": {to},
				"extra_filters": {`host:="web1"`},
			},
			map[string]string{"values.#": "2", `values.#(value=="201").hits`: "15"},
		},
		{
			"streams", "/select/logsql/streams",
			url.Values{"query": {"*"}, "start": {from}, "end": {to}},
			map[string]string{"values.0.value": `{host="web1",program="nginx"}`, "values.0.hits": "30"},
		},
		{
			"names of streams' fields", "/select/logsql/stream_field_names",
			url.Values{"query": {"*"}, "start": {from}, "end": {to}, "extra_stream_filters": {`{program="nginx"}`}},
			map[string]string{"values.#": "2", `values.#(value=="program").hits`: "30"},
		},
		{
			"values of streams' fields", "/select/logsql/stream_field_values",
			url.Values{"query": {"*"}, "field": {"host"}, "start": {from}, "end": {to}},
			map[string]string{"values.#": "1", "values.0.value": "web1"},
		},
		{"tenants", "/select/tenant_ids", nil, map[string]string{"#": "1"}},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} { // its settings say which; all is in the address
			status, body := askAs(t, method, address+c.path+"?"+c.args.Encode())
			if status != http.StatusOK {
				t.Errorf("%s, %s: got %d, %s", c.of, method, status, body)
				continue
			}
			for path, want := range c.want {
				if got := gjson.Get(body, path).String(); got != want {
					t.Errorf("%s, %s: %s is %q, want %q, in %.500s", c.of, method, path, got, want, body)
				}
			}
		}
	}
	tailsForGrafana(t, address)
	if status, body := askAs(t, http.MethodGet, address+"/select/vmui/"); status != http.StatusOK || body == "" {
		t.Errorf("the link to the engine's page: got %d", status)
	}
	if status, body := askAs(t, http.MethodGet, address+"/select/logsql/query?query="+url.QueryEscape(`"`)); status != http.StatusBadRequest || body == "" {
		t.Errorf("a wrong query: got %d, %q", status, body)
	}
}

func askAs(t *testing.T, method, address string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// tailsForGrafana reads the first line of a live view.
func tailsForGrafana(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost,
		address+"/select/logsql/tail?"+url.Values{"query": {"status:200"}, "start_offset": {"1h"}}.Encode(),
		http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	line, err := bufio.NewReader(answer.Body).ReadString('\n')
	if err != nil || gjson.Get(line, "_time").String() == "" || gjson.Get(line, "status").String() != "200" {
		t.Errorf("a live view: got %q, %v", line, err)
	}
}
