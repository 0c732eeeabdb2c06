package elastic

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// scripted is an engine in memory: it creates and finds documents as the real
// one does, except where a test puts a fault in the way.
type scripted struct {
	*httptest.Server

	mu    sync.Mutex
	root  string            // its answer to GET /; "": that of OpenSearch
	docs  map[place]string  // source
	bulks []int             // documents in each bulk
	proof map[string]string // what the store writes to see whether this is an engine

	// before may answer a bulk itself; after may spoil the answer to one that
	// was carried out; item may answer one document. They are called with mu
	// held; n counts the bulks from 1.
	before   func(w http.ResponseWriter, n int, body []byte) (answered bool)
	after    func(w http.ResponseWriter, n int, answer string) (answered bool)
	item     func(n int, at place, source string) (answer string)
	lookup   func(at place) (answer string)
	create   func() (refusal string)   // of an index
	move     func(index string) string // what an ingest pipeline makes of it
	strict   bool                      // no index is made automatically
	halfDown bool                      // searches miss the shard that has the dead letters
	made     []string                  // indices, in the order of their creation
	told     int                       // bytes of the answers to look-ups
	stream   *scriptedStream           // nil: there is none
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	e := &scripted{docs: make(map[place]string), proof: make(map[string]string)}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.Close)
	return e
}

func (e *scripted) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case e.stream != nil && e.serveStream(w, r, body):
	case r.URL.Path == "/_bulk" && bytes.HasPrefix(body, []byte(`{"create":{"_index":"wsrelay-probe"`)):
		e.serveProof(w, body)
	case r.URL.Path == "/_mget" && gjson.GetBytes(body, "docs.0._index").Str == "wsrelay-probe":
		id := gjson.GetBytes(body, "docs.0._id").Str
		fmt.Fprintf(w, `{"docs":[{"_id":%q,"found":true,"_source":%s}]}`, id, e.proof[id])
	case r.Method == http.MethodPut && r.URL.Path == "/wsrelay-probe", r.Method == http.MethodDelete:
		fmt.Fprint(w, `{}`)
	case r.URL.Path == "/_bulk":
		e.serveBulk(w, body)
	case r.URL.Path == "/_mget":
		e.serveLookup(w, body, r.URL.Query().Get("_source_includes"))
	case strings.HasSuffix(r.URL.Path, "/_search"):
		if e.halfDown && r.URL.Query().Get("allow_partial_search_results") == "false" {
			answerWith(w, http.StatusServiceUnavailable, `{"error":{"type":"search_phase_execution_exception","reason":"Search rejected due to missing shards"}}`)
			return
		}
		e.serveDead(w, body)
	case r.Method == http.MethodPut && e.create != nil:
		if refusal := e.create(); refusal != "" {
			answerWith(w, cmp.Or(int(gjson.Get(refusal, "status").Int()), http.StatusBadRequest), refusal)
			return
		}
		fmt.Fprint(w, `{}`)
	case r.Method == http.MethodPut:
		e.made = append(e.made, r.URL.Path[1:])
		fmt.Fprint(w, `{"acknowledged":true}`)
	case strings.HasSuffix(r.URL.Path, "/_refresh"):
		fmt.Fprint(w, `{"acknowledged":true}`)
	case r.URL.Path == "/":
		fmt.Fprint(w, cmp.Or(e.root, `{"version":{"number":"2.19.1","distribution":"opensearch"}}`))
	}
}

func (e *scripted) serveProof(w http.ResponseWriter, body []byte) {
	action, source, _ := bytes.Cut(body, []byte{'\n'})
	id, status := gjson.GetBytes(action, "create._id").Str, 201
	if e.proof[id] != "" {
		status = 409
	}
	e.proof[id] = string(source)
	fmt.Fprintf(w, `{"items":[{"create":{"_id":%q,"status":%d}}]}`, id, status)
}

func (e *scripted) serveBulk(w http.ResponseWriter, body []byte) {
	lines := bytes.Split(bytes.TrimSuffix(body, []byte{'\n'}), []byte{'\n'})
	if gjson.GetBytes(lines[0], "delete").Exists() && !gjson.GetBytes(lines[0], "delete.if_seq_no").Exists() {
		for _, line := range lines { // probes
			delete(e.docs, place{gjson.GetBytes(line, "delete._index").Str, gjson.GetBytes(line, "delete._id").Str})
		}
		fmt.Fprint(w, `{"errors":false}`)
		return
	}
	e.bulks = append(e.bulks, len(lines)/2)
	n := len(e.bulks)
	if e.before != nil && e.before(w, n, body) {
		return
	}
	var items []string
	for i := 0; i < len(lines); i += 2 {
		create := gjson.GetBytes(lines[i], "create")
		if gone := gjson.GetBytes(lines[i], "delete"); gone.Exists() {
			delete(e.docs, place{gone.Get("_index").Str, gone.Get("_id").Str})
			i--
			continue
		}
		at := place{create.Get("_index").Str, create.Get("_id").Str}
		answer := ""
		if e.item != nil {
			asked := at
			if shard := create.Get("routing").Str; shard != "" { // a probe for the shard of this document
				asked.id = shard
			}
			answer = e.item(n, asked, string(lines[i+1]))
		}
		if e.stream != nil && at.index == e.stream.name {
			at.index = e.stream.writes()
			answer = cmp.Or(answer, e.stream.refusal(at.index, lines[i+1]))
		}
		if answer == "" && e.strict && !slices.Contains(e.made, at.index) {
			answer = refuse(404, "index_not_found_exception", "no such index")
		}
		if e.move != nil {
			at.index = e.move(at.index)
		}
		if answer == "" {
			answer = fmt.Sprintf(`"status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists","index":%q}`, at.index)
			if _, taken := e.docs[at]; !taken {
				e.docs[at] = string(lines[i+1])
				answer = `"status":201`
			}
		}
		items = append(items, fmt.Sprintf(`{"create":{"_index":%q,"_id":%q,%s}}`, at.index, at.id, answer))
	}
	answer := `{"items":[` + strings.Join(items, ",") + `]}`
	if e.after == nil || !e.after(w, n, answer) {
		fmt.Fprint(w, answer)
	}
}

func (e *scripted) serveLookup(w http.ResponseWriter, body []byte, includes string) {
	var docs []string
	if !gjson.GetBytes(body, "docs.0").Exists() {
		answerWith(w, http.StatusBadRequest, `{"error":{"type":"action_request_validation_exception","reason":"Validation Failed: 1: no documents to get;"}}`)
		return
	}
	for _, d := range gjson.GetBytes(body, "docs").Array() {
		at := place{d.Get("_index").Str, d.Get("_id").Str}
		answer := ""
		if e.lookup != nil {
			answer = e.lookup(at)
		}
		if answer == "" {
			answer = `"found":false`
			if !e.exists(at.index) {
				answer = `"error":{"type":"index_not_found_exception","reason":"no such index"}`
			}
			if source, ok := e.docs[at]; ok {
				answer = `"found":true,"_source":` + filtered(source, d.Get("_source"), includes)
			}
		}
		docs = append(docs, fmt.Sprintf(`{"_index":%q,"_id":%q,%s}`, at.index, at.id, answer))
	}
	n, _ := fmt.Fprint(w, `{"docs":[`+strings.Join(docs, ",")+`]}`)
	e.told += n
}

func (e *scripted) exists(index string) bool {
	for at := range e.docs {
		if at.index == index {
			return true
		}
	}
	return slices.Contains(e.made, index)
}

// filtered is what a look-up asks for of a document: alone, or as includes
// has it for all.
func filtered(source string, own gjson.Result, includes string) string {
	if own.Exists() {
		includes = strings.NewReplacer(`"`, "", "[", "", "]", "").Replace(own.Raw)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(source), &all); err != nil {
		panic(err)
	}
	part := make(map[string]any)
	for path := range strings.SplitSeq(includes, ",") {
		name, inner, _ := strings.Cut(path, ".")
		switch object, ok := all[name].(map[string]any); {
		case inner == "" || inner == "*":
			part[name] = all[name]
		case ok:
			part[name] = map[string]any{inner: object[inner]}
		}
	}
	text, _ := json.Marshal(part)
	return string(text)
}

// serveDead answers the searches of a replay.
func (e *scripted) serveDead(w http.ResponseWriter, body []byte) {
	after := gjson.GetBytes(body, "search_after.0").Str
	var ids []string
	for at := range e.docs {
		if e.halfDown {
			break
		}
		if at.index == testDead && at.id > after {
			ids = append(ids, at.id)
		}
	}
	slices.Sort(ids)
	var hits []string
	for _, id := range ids[:min(len(ids), int(gjson.GetBytes(body, "size").Int()))] {
		hits = append(hits, fmt.Sprintf(`{"_index":%q,"_id":%q,"_seq_no":1,"_primary_term":1,"sort":[%[2]q],"_source":%s}`, testDead, id, e.docs[place{testDead, id}]))
	}
	fmt.Fprint(w, `{"hits":{"hits":[`+strings.Join(hits, ",")+`]}}`)
}

// refuse makes item answers.
func refuse(status int, kind, reason string) string {
	text, _ := json.Marshal(reason)
	return fmt.Sprintf(`"status":%d,"error":{"type":%q,"reason":%s}`, status, kind, text)
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.Close()
	return true
}

func answerWith(w http.ResponseWriter, status int, body string) bool {
	w.WriteHeader(status)
	fmt.Fprint(w, body)
	return true
}

func openAt(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = time.Millisecond
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var testDay = time.Date(2026, 11, 22, 23, 59, 59, 7e6, time.UTC)

const (
	testIndex = "wsrelay-logs-2026.11.22"
	testDead  = "wsrelay-dead-2026.11"
)

func batchOf(sid string, seq uint64, lines ...string) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: testDay}
	for _, l := range lines {
		b.Lines = append(b.Lines, []byte(l))
	}
	return b
}

// linesFrom makes n lines that differ.
func linesFrom(seq uint64, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"n":%d,"message":"line %[1]d of a test"}`, seq+uint64(i))
	}
	return lines
}

// mustCommit commits one batch.
func mustCommit(t *testing.T, s *Store, b receiver.Batch) receiver.Result {
	t.Helper()
	results, err := s.Commit(t.Context(), []receiver.Batch{b})
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return results[0]
}

func checkCounts(t *testing.T, r receiver.Result, new, dup, rejected int) {
	t.Helper()
	if r.New != new || r.Dup != dup || len(r.Rejected) != rejected {
		t.Errorf("got %d new, %d dup, %d rejected, want %d, %d, %d", r.New, r.Dup, len(r.Rejected), new, dup, rejected)
	}
}

// checkStored wants exactly these lines of the stream in the main index.
func (e *scripted) checkStored(t *testing.T, sid string, seq uint64, lines []string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, l := range lines {
		source, ok := e.docs[place{testIndex, handshake.UID(sid, seq+uint64(i))}]
		if !ok || gjson.Get(source, "wsrelay.crc").Str != handshake.CRC([]byte(l)) {
			t.Fatalf("seq %d: got %q (there: %v), want line %q", seq+uint64(i), source, ok, l)
		}
	}
	if len(e.docs) != len(lines) {
		t.Errorf("%d documents, want %d", len(e.docs), len(lines))
	}
}
