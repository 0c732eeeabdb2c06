package elastic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const testStream = "logs-wsrelay-default"

// scriptedStream is a data stream in memory. Like an engine's it does not know
// ids across its backing indices, and finds by search what was refreshed.
type scriptedStream struct {
	name       string
	generation int
	lax        bool // no template of setup
	pins       map[string]bool
	sealed     map[string]bool
	visible    map[place]bool
	blocks     int // requests for a block
	searches   int
}

func newScriptedStream(t *testing.T) *scripted {
	e := newScripted(t)
	e.stream = &scriptedStream{
		name: testStream, generation: 1, pins: make(map[string]bool),
		sealed: make(map[string]bool), visible: make(map[place]bool),
	}
	return e
}

func (s *scriptedStream) index(generation int) string {
	return fmt.Sprintf(".ds-%s-2026.11.22-%06d", s.name, generation)
}

func (s *scriptedStream) writes() string { return s.index(s.generation) }

// refusal is what the backing index says of a document, if it does not take it.
func (s *scriptedStream) refusal(index string, source []byte) (answer string) {
	switch {
	case s.sealed[index]:
		return refuse(403, "cluster_block_exception", "index ["+index+"] blocked by: [FORBIDDEN/8/index write (api)];")
	case !gjson.GetBytes(source, `\@timestamp`).Exists():
		return refuse(400, "illegal_argument_exception", "data stream timestamp field [@timestamp] is missing")
	}
	gjson.GetBytes(source, "wsrelay.pin").ForEach(func(pin, _ gjson.Result) bool {
		if !s.lax && !s.pins[index+" "+pin.Str] {
			answer = refuse(400, "strict_dynamic_mapping_exception", "mapping set to strict, dynamic introduction of ["+pin.Str+"] within [wsrelay.pin] is not allowed")
		}
		return true
	})
	return answer
}

// serveStream answers what is asked about the stream and its backing indices.
func (e *scripted) serveStream(w http.ResponseWriter, r *http.Request, body []byte) bool {
	s, path := e.stream, strings.TrimPrefix(r.URL.Path, "/")
	name, action, _ := strings.Cut(path, "/")
	indices := strings.Split(name, ",")
	switch {
	case path == "_resolve/index/"+s.name:
		var all []string
		for g := range s.generation {
			all = append(all, `"`+s.index(g+1)+`"`)
		}
		fmt.Fprintf(w, `{"data_streams":[{"name":%q,"backing_indices":[%s]}]}`, s.name, strings.Join(all, ","))
	case action == "_mapping" && r.Method == http.MethodPut:
		gjson.GetBytes(body, "properties.wsrelay.properties.pin.properties").ForEach(func(pin, _ gjson.Result) bool {
			s.pins[name+" "+pin.Str] = true
			return true
		})
		fmt.Fprint(w, `{"acknowledged":true}`)
	case action == "_mapping":
		dynamic, pins := `"strict"`, `"000000":{}`
		if s.lax {
			dynamic = "true"
		}
		for pin := range s.pins {
			if index, key, _ := strings.Cut(pin, " "); index == name {
				pins += `,"` + key + `":{}`
			}
		}
		fmt.Fprintf(w, `{%q:{"mappings":{"properties":{"wsrelay":{"properties":{"pin":{"dynamic":%s,"properties":{%s}}}}}}}}`, name, dynamic, pins)
	case strings.HasPrefix(action, "_settings/"):
		var all []string
		for _, index := range indices {
			all = append(all, fmt.Sprintf(`%q:{"settings":{"index.blocks.write":"%v"}}`, index, s.sealed[index]))
		}
		fmt.Fprint(w, "{"+strings.Join(all, ",")+"}")
	case action == "_block/write":
		s.blocks++
		for _, index := range indices {
			s.sealed[index] = true
		}
		fmt.Fprint(w, `{"acknowledged":true}`)
	case action == "_refresh":
		for at := range e.docs {
			s.visible[at] = s.visible[at] || slices.Contains(indices, at.index)
		}
		fmt.Fprint(w, `{"_shards":{"failed":0}}`)
	case name == s.name && action == "_search":
		s.searches++
		e.serveStreamSearch(w, body)
	case action == "_search_shards":
		fmt.Fprint(w, `{"shards":[[{"shard":0}]]}`)
	default:
		return false
	}
	return true
}

func (e *scripted) serveStreamSearch(w http.ResponseWriter, body []byte) {
	sid := gjson.GetBytes(body, "query.bool.filter.0.term").Get(`wsrelay\.sid`).Str
	span := gjson.GetBytes(body, "query.bool.filter.1.range").Get(`wsrelay\.seq`)
	var hits []string
	for at, source := range e.docs {
		own := gjson.Get(source, "wsrelay")
		if seq := own.Get("seq").Uint(); e.stream.visible[at] && own.Get("sid").Str == sid &&
			seq >= span.Get("gte").Uint() && seq <= span.Get("lte").Uint() {
			hits = append(hits, fmt.Sprintf(`{"_index":%q,"_id":%q,"_source":{"wsrelay":{"crc":%q}}}`, at.index, at.id,
				own.Get("crc").Str))
		}
	}
	fmt.Fprint(w, `{"hits":{"hits":[`+strings.Join(hits, ",")+`]}}`)
}

func openStream(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, Options{DataStream: testStream})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = time.Millisecond
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// checkOnce wants each line of the stream in one document, in whatever index.
func (e *scripted) checkOnce(t *testing.T, sid string, lines int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	in := make(map[string][]string)
	for at := range e.docs {
		if strings.HasPrefix(at.id, probeID) {
			t.Errorf("the probe %v was left", at)
			continue
		}
		in[at.id] = append(in[at.id], at.index)
	}
	for seq := range uint64(lines) {
		if id := handshake.UID(sid, seq+1); len(in[id]) != 1 {
			t.Errorf("line %d is in %v", seq+1, in[id])
		}
	}
	if len(in) != lines {
		t.Errorf("%d ids, want %d", len(in), lines)
	}
}

func TestStream_ARolloverInMidFlightDoublesNothing(t *testing.T) {
	e := newScriptedStream(t)
	s := openStream(t, e.URL)
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, linesFrom(1, 10)...))
	e.mu.Lock()
	e.after = func(w http.ResponseWriter, _ int, _ string) bool { // it is stored, no caller learns it, and the stream is rolled over
		e.after = nil
		e.stream.generation++
		return hangUp(w)
	}
	e.mu.Unlock()
	checkCounts(t, mustCommit(t, s, batchOf(sid, 11, linesFrom(11, 10)...)), 0, 10, 0)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 21, linesFrom(21, 10)...)), 10, 0, 0)
	other := openStream(t, e.URL)
	e.stream.generation++
	checkCounts(t, mustCommit(t, other, batchOf(sid, 1, linesFrom(1, 30)...)), 0, 30, 0)
	e.checkOnce(t, sid, 30)

	diverged := linesFrom(31, 3)
	mustCommit(t, other, batchOf(sid, 31, diverged...))
	e.stream.generation++
	diverged[1] = "another"
	_, err := openStream(t, e.URL).Commit(t.Context(), []receiver.Batch{batchOf(sid, 31, diverged...)})
	if d := (*receiver.DivergedError)(nil); !errors.As(err, &d) || d.Seq != 32 {
		t.Errorf("error %v, want diverged at 32", err)
	}
}

// While nothing is uncertain no index is sealed, and nothing is searched.
func TestStream_RolloversAloneCostNoSearch(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	e := newScriptedStream(t)
	s := openStream(t, e.URL)
	sid := handshake.NewSID()
	const lines = underWay + 3*maxBulkDocs
	for seq := uint64(1); seq <= lines; seq += maxBulkDocs {
		checkCounts(t, mustCommit(t, s, batchOf(sid, seq, linesFrom(seq, maxBulkDocs)...)), maxBulkDocs, 0, 0)
	}
	if e.stream.blocks+e.stream.searches > 0 {
		t.Errorf("%d blocks, %d searches", e.stream.blocks, e.stream.searches)
	}
}

// A line that does not fit is stored as with indices of days; the probe that
// tells its fault from the engine's is pinned like any document.
func TestStream_LinesThatDoNotFitArrive(t *testing.T) {
	e := newScriptedStream(t)
	e.item = func(_ int, _ place, source string) string {
		if n := gjson.Get(source, "n"); n.Type == gjson.String {
			return refuse(400, "mapper_parsing_exception", "failed to parse field [n] of type [long]")
		}
		return ""
	}
	s := openStream(t, e.URL)
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, `{"n":1}`, `{"n":"a"}`, `{"n":2}`)), 3, 0, 0)
	e.checkOnce(t, sid, 3)

	e.item = func(_ int, at place, source string) string {
		if gjson.Get(source, "message").Str == "no" && at.index != testDead {
			return refuse(400, "illegal_argument_exception", "no")
		}
		return ""
	}
	checkCounts(t, mustCommit(t, s, batchOf(sid, 4, "no")), 0, 0, 1)
	if got := gjson.Get(e.docs[place{testDead, handshake.UID(sid, 4)}], "error.index").Str; got != testStream {
		t.Errorf("the dead letter was for %q", got)
	}
	e.item = nil
	e.stream.generation++
	if r, err := s.Replay(t.Context()); err != nil || r.Stored != 1 || len(r.Left) > 0 {
		t.Errorf("%+v, %v, want one document", r, err)
	}
	e.checkOnce(t, sid, 4)
}

func TestStream_RefusesOneThatItsTemplatesHaveNotMade(t *testing.T) {
	e := newScriptedStream(t)
	e.stream.lax = true
	if _, err := Open(t.Context(), e.URL, Options{DataStream: testStream}); err == nil ||
		!strings.Contains(err.Error(), "wsreceive setup --data-stream "+testStream) {
		t.Errorf("error %v, want one that names setup", err)
	}
	for _, name := range []string{"Logs", "wsrelay-logs", "_a", "a/b", "a*", ".ds-x", "a,b", strings.Repeat("a", 101)} {
		if _, err := Open(t.Context(), e.URL, Options{DataStream: name}); err == nil ||
			!strings.Contains(err.Error(), "data stream") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A document that the engine has diverted to a failure store was refused.
func TestStream_WhatIsDivertedIsNotStored(t *testing.T) {
	e := newScriptedStream(t)
	e.item = func(_ int, _ place, source string) string {
		if gjson.Get(source, "n").Exists() {
			return `"status":201,"failure_store":"used"`
		}
		return ""
	}
	s := openStream(t, e.URL)
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, `{"n":1}`)), 1, 0, 0)
	e.checkOnce(t, sid, 1)
}

// Requests that a receiver has abandoned, and that the engine carries out much
// later; answers that are lost; receivers that are killed; rollovers between any
// two requests: each line is stored once.
func TestStream_LateRequestsAcrossRolloversDoubleNothing(t *testing.T) {
	const batches, perBatch = 12, 3
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		e := newScriptedStream(t)
		r := rand.New(rand.NewPCG(seed, 14))
		var late []func()
		carryOut := func() { // mu is held
			for _, f := range late {
				f()
			}
			late = nil
		}
		e.before = func(w http.ResponseWriter, _ int, body []byte) bool {
			if r.IntN(5) == 0 {
				e.stream.generation++
			}
			if r.IntN(6) == 0 {
				carryOut()
			}
			if r.IntN(3) > 0 {
				return false
			}
			at := e.stream.writes() // the engine has the request, and knows where it goes
			late = append(late, func() { e.createLate(at, body) })
			return hangUp(w)
		}
		e.after = func(w http.ResponseWriter, _ int, _ string) bool { return r.IntN(5) == 0 && hangUp(w) }
		s := openStream(t, e.URL)
		sid := handshake.NewSID()
		for i := range uint64(batches) {
			b := batchOf(sid, 1+i*perBatch, linesFrom(1+i*perBatch, perBatch)...)
			for {
				e.mu.Lock()
				killed := r.IntN(4) == 0
				e.mu.Unlock()
				if killed {
					s = openStream(t, e.URL)
				}
				if _, err := s.Commit(t.Context(), []receiver.Batch{b}); err == nil {
					break
				} else if d := (*receiver.DivergedError)(nil); errors.As(err, &d) {
					t.Fatal(err)
				}
			}
		}
		e.mu.Lock()
		carryOut()
		e.mu.Unlock()
		if e.checkOnce(t, sid, batches*perBatch); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// createLate does what is left of a request in the backing index that the engine
// had chosen for it.
func (e *scripted) createLate(index string, body []byte) {
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		create := gjson.Get(lines[i], "create")
		at := place{index, create.Get("_id").Str}
		if create.Get("_index").Str != testStream || strings.HasPrefix(at.id, probeID) {
			continue
		}
		if _, taken := e.docs[at]; !taken && e.stream.refusal(index, []byte(lines[i+1])) == "" {
			e.docs[at] = lines[i+1]
		}
	}
}
