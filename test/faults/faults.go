// Package faults is what the tests against a real engine share: a place in
// front of the engine where requests can be counted, spoilt and cut, the count
// of what is stored in the end, and the row of the fault table that it makes.
package faults

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// Engine is the URL of the real engine. Without one the test is skipped.
func Engine(t testing.TB) string {
	t.Helper()
	url := os.Getenv("ELASTICSEARCH_URL")
	if url == "" {
		t.Skip("needs a real engine: run scripts/engine.sh test opensearch, or set ELASTICSEARCH_URL")
	}
	return url
}

// Ask talks to the engine past what is tested.
func Ask(t testing.TB, method, path, body string) gjson.Result {
	t.Helper()
	req, err := http.NewRequest(method, Engine(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s %v", method, path, res.Status, answer, err)
	}
	return gjson.ParseBytes(answer)
}

// NeedDataStreams skips the test on an engine that has none: in Elasticsearch 7
// they are a part of x-pack, which is not on Maven.
func NeedDataStreams(t testing.TB) {
	t.Helper()
	version := Ask(t, http.MethodGet, "/", "").Get("version")
	if number := version.Get("number").Str; version.Get("distribution").Str != "opensearch" &&
		strings.HasPrefix(number, "7.") {
		t.Skipf("Elasticsearch %s without x-pack has no data streams", number)
	}
}

// NeedProcessors skips the test on an engine that has no node for ingest
// pipelines with these processors. The server of Elasticsearch 9 alone has none.
func NeedProcessors(t testing.TB, types ...string) {
	t.Helper()
	node := Ask(t, http.MethodGet, "/_nodes/ingest", "").Get(`nodes.@values.#(roles.#(=="ingest"))`)
	for _, kind := range types {
		if !node.Get(fmt.Sprintf("ingest.processors.#(type==%q)", kind)).Exists() {
			t.Skipf("needs a node with the role ingest and the processor %s", kind)
		}
	}
}

// MakeDataStream makes the data stream, for which there is a template. The server
// of Elasticsearch alone makes one for a document only. What there is of it goes
// with the test.
func MakeDataStream(t testing.TB, name string) {
	t.Helper()
	t.Cleanup(func() { deleteStream(t, name) })
	if res := do(t, http.MethodPut, "/_data_stream/"+name, ""); res.StatusCode/100 == 2 {
		return
	}
	index := Ask(t, http.MethodPost, "/"+name+"/_bulk", `{"create":{"_id":"first"}}`+"\n"+`{"@timestamp":"2026-11-22T00:00:00Z"}`+"\n").Get("items.0.create._index").Str
	if !strings.HasPrefix(index, ".ds-") {
		t.Fatalf("a document for the data stream went to %q", index)
	}
	Ask(t, http.MethodDelete, "/"+index+"/_doc/first", "")
}

// deleteStream deletes the stream and its templates. The server of Elasticsearch
// alone has no request to delete a stream, and keeps the templates of one that is
// there.
func deleteStream(t testing.TB, name string) {
	for _, path := range []string{
		"/_data_stream/", "/_index_template/wsrelay-",
		"/_component_template/wsrelay-retain-",
	} {
		do(t, http.MethodDelete, path+name, "")
	}
}

// do sends a request whose answer may be anything.
func do(t testing.TB, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, Engine(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

// Stored is what the engine holds of the streams.
type Stored struct {
	Documents, Dead, Local int                 // Local: in the file of dead letters
	AsText                 int                 // documents that have something of their line as text only
	Indices                map[string][]string // by id, where it is
	Lines                  map[string]string   // by id, the checksum of its line
}

// AddFile counts the letters of a file of dead letters, too.
func (s *Stored) AddFile(t testing.TB, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		letter := gjson.ParseBytes(line)
		id := letter.Get("_id").Str
		s.Local++
		s.Indices[id] = append(s.Indices[id], name)
		s.Lines[id] = letter.Get("wsrelay.crc").Str
	}
}

// Count looks every document and dead letter of the streams up.
func Count(t testing.TB, prefix string, sids ...string) Stored {
	t.Helper()
	s := Stored{Indices: make(map[string][]string), Lines: make(map[string]string)}
	for _, sid := range sids {
		Each(t, "wsrelay-"+prefix+"-*,wsrelay-dead-*", fmt.Sprintf(`{"term":{"wsrelay.sid":%q}}`, sid),
			func(index, id string, source gjson.Result) {
				s.Indices[id] = append(s.Indices[id], index)
				s.Lines[id] = source.Get("wsrelay.crc").Str
				if strings.HasPrefix(index, "wsrelay-dead-") {
					s.Dead++
				} else {
					s.Documents++
					if source.Get("wsrelay.why").Exists() {
						s.AsText++
					}
				}
			})
	}
	return s
}

// Each gives every document that matches, of one stream in the order of its
// lines.
func Each(t testing.TB, indices, query string, found func(index, id string, source gjson.Result)) {
	t.Helper()
	Ask(t, http.MethodPost, "/"+indices+"/_refresh", "")
	after := ""
	for {
		hits := Ask(t, http.MethodPost, "/"+indices+"/_search", fmt.Sprintf(
			`{"size":5000,"sort":[{"wsrelay.sid":"asc"},{"wsrelay.seq":"asc"},{"_index":"asc"}],"query":%s%s}`, query,
			after)).Get("hits.hits").Array()
		if len(hits) == 0 {
			return
		}
		for _, hit := range hits {
			found(hit.Get("_index").Str, hit.Get("_id").Str, hit.Get("_source"))
		}
		after = `,"search_after":` + hits[len(hits)-1].Get("sort").Raw
	}
}

// Row is one of the table.
type Row struct {
	Rule, Fault                                                     string
	Lines, Documents, AsText, Dead, Local, Lost, Doubled, SentAgain int
}

// Tell puts the row into the table, the file that FAULT_TABLE names, and wants
// nothing lost and nothing doubled.
func (r Row) Tell(t testing.TB) {
	t.Helper()
	if r.Lost != 0 || r.Doubled != 0 || r.Lines == 0 {
		t.Errorf("%d of %d lines lost, %d doubled", r.Lost, r.Lines, r.Doubled)
	}
	line := fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %d | %d | %d |", r.Rule, r.Fault, r.Lines, r.Documents,
		r.AsText, r.Dead, r.Local, r.Lost, r.Doubled, r.SentAgain)
	t.Log(line)
	name := os.Getenv("FAULT_TABLE")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the line is there, or the next check shows it
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Error(err)
	}
}
