package elastic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/test/faults"
)

// The fault table, against a real engine: scripts/engine.sh test. Each scene
// has indices, and streams, of its own; a tap counts what goes to the engine.

const deadIndex = "wsrelay-dead-2026.11"

var day = time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC)

type scene struct {
	*testing.T
	prefix, deadFile string
	tap              *faults.Tap
	store            *elastic.Store
	ahead            atomic.Int64  // of the store's clock
	step             time.Duration // by which that goes ahead with each error
	sids             []string
	mu               sync.Mutex        // guards lines
	lines            map[string]string // by id, the checksum
	errs             chan string       // what Commit has said, status and type; more than fit are dropped
}

func newScene(t *testing.T) *scene {
	s := &scene{
		T: t, prefix: "test-x" + handshake.NewSID(), tap: faults.NewTap(t), lines: make(map[string]string),
		errs: make(chan string, 10_000),
	}
	s.open()
	clean := s.ask(http.MethodDelete, "/wsrelay-"+s.prefix+"-*,"+deadIndex+"*", "")
	clean() // dead letters of another test
	t.Cleanup(clean)
	return s
}

// index is where lines of the day go.
func (s *scene) index() string { return "wsrelay-" + s.prefix + "-2026.11.22" }

// open makes a new store: a receiver that has just started.
func (s *scene) open() {
	s.Helper()
	var err error
	s.store, err = elastic.Open(s.Context(), s.tap.URL, elastic.Options{Prefix: s.prefix, DeadFile: s.deadFile})
	if err != nil {
		s.Fatal(err)
	}
	s.store.Hasten(func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) })
	store := s.store
	s.Cleanup(func() { _ = store.Close() })
}

// batch notes n lines of a stream as lines that must arrive.
func (s *scene) batch(sid string, seq uint64, n int, line func(i int) string) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: day}
	for i := range n {
		l := []byte(line(i))
		b.Lines = append(b.Lines, l)
		s.mu.Lock()
		s.lines[handshake.UID(sid, seq+uint64(i))] = handshake.CRC(l)
		s.mu.Unlock()
	}
	return b
}

func plain(i int) string { return fmt.Sprintf(`{"n":%d,"message":"line %[1]d of a test"}`, i) }

// commit tries until the store has taken the batch, as a session does.
func (s *scene) commit(b receiver.Batch) receiver.Result {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Minute)
	defer cancel()
	for {
		r, err := s.store.Commit(ctx, []receiver.Batch{b})
		if err == nil {
			return r[0]
		}
		kind := err.Error()
		if e := (*elastic.Error)(nil); errors.As(err, &e) {
			kind = fmt.Sprint(e.Status, " ", e.Type)
		}
		s.ahead.Add(int64(s.step))
		select {
		case s.errs <- kind:
		default:
		}
		select {
		case <-ctx.Done():
			s.Errorf("no receipt: %v", err)
			return receiver.Result{}
		case <-time.After(20 * time.Millisecond): // a session waits here as well
		}
	}
}

// feed commits n lines of a new stream, in batches of 100, in the background.
func (s *scene) feed(n int, line func(i int) string) (wait func()) {
	sid := handshake.NewSID()
	s.sids = append(s.sids, sid)
	var batches []receiver.Batch
	for i := 0; i < n; i += 100 {
		batches = append(batches, s.batch(sid, uint64(i+1), min(100, n-i), func(j int) string { return line(i + j) }))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, b := range batches {
			s.commit(b)
		}
	})
	return wg.Wait
}

// awaitError waits until a commit has failed of this.
func (s *scene) awaitError(want string) {
	s.Helper()
	deadline := time.After(time.Minute)
	for others := make(map[string]bool); ; {
		select {
		case got := <-s.errs:
			if got == want {
				return
			}
			others[got] = true
		case <-deadline:
			s.Errorf("no error %q, but %v", want, others)
			return
		}
	}
}

// during has the fault there while lines come, until a commit has failed of it.
func (s *scene) during(want string, set, fix func()) {
	s.Helper()
	s.feed(300, plain)()
	set()
	wait := s.feed(700, plain)
	s.awaitError(want)
	fix()
	wait()
}

// row counts what is there in the end, and wants so many dead letters in the
// engine and in the local file.
func (s *scene) row(rule, fault string, dead, local int) faults.Row {
	s.Helper()
	stored := faults.Count(s, s.prefix, s.sids...)
	if s.deadFile != "" {
		stored.AddFile(s, s.deadFile)
	}
	if stored.Dead != dead || stored.Local != local {
		s.Errorf("%d dead letters and %d in the local file, want %d and %d", stored.Dead, stored.Local, dead, local)
	}
	r := faults.Row{
		Rule: rule, Fault: fault, Lines: len(s.lines), Documents: stored.Documents, Dead: stored.Dead,
		Local:  stored.Local,
		AsText: stored.AsText, Lost: len(s.lines), SentAgain: s.tap.Documents() - len(s.lines),
	}
	for id, crc := range s.lines {
		if stored.Lines[id] == crc {
			r.Lost--
		}
	}
	for _, where := range stored.Indices {
		r.Doubled += len(where) - 1
	}
	r.Tell(s)
	return r
}

func (s *scene) ask(method, path, body string) func() {
	return func() { faults.Ask(s, method, path, body) }
}

func (s *scene) setting(name string, value string) func() {
	return s.ask(http.MethodPut, "/"+s.index()+"/_settings", `{"`+name+`":`+value+`}`)
}

// bulks is a fault of bulk requests only.
func bulks(f faults.Fault) faults.Fault {
	return func(w http.ResponseWriter, r *http.Request, body, answer []byte) bool {
		return r.URL.Path == "/_bulk" && f(w, r, body, answer)
	}
}

func respond(w http.ResponseWriter, status int, text string) bool {
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
	return true
}

func TestEngine_Faults(t *testing.T) {
	faults.Engine(t)
	for _, tt := range []struct {
		rule, fault string
		dead, local int // letters, in the end
		act         func(s *scene)
	}{
		{"R1", "none", 0, 0, func(s *scene) { s.feed(1000, plain)() }},
		{"R1", "connection cut after the commit, before the answer", 0, 0, func(s *scene) {
			var n atomic.Int64
			s.tap.Set(bulks(func(w http.ResponseWriter, _ *http.Request, _, answer []byte) bool {
				return answer != nil && n.Add(1)%3 == 1 && faults.HangUp(w)
			}))
			s.feed(1000, plain)()
		}},
		{"R1", "answer about a document too few", 0, 0, func(s *scene) {
			var n atomic.Int64
			s.tap.Set(bulks(func(w http.ResponseWriter, _ *http.Request, _, answer []byte) bool {
				return answer != nil && n.Add(1)%3 == 1 && respond(w, 200,
					string(answer[:bytes.LastIndex(answer, []byte(`,{"create"`))])+"]}")
			}))
			s.feed(1000, plain)()
		}},
		{"R2", "mapping conflict: fields as text", 0, 0, func(s *scene) {
			s.feed(1000, func(i int) string {
				if i%20 == 7 {
					return fmt.Sprintf(`{"n":"word %d"}`, i)
				}
				return plain(i)
			})()
		}},
		{"R2", "strict mapping, fixed, then replay", 0, 0, strictMapping},
		{"R2", "index closed", 0, 0, func(s *scene) {
			s.during("400 index_closed_exception", s.ask(http.MethodPost, "/"+s.index()+"/_close", ""),
				s.ask(http.MethodPost, "/"+s.index()+"/_open", ""))
		}},
		{"R2", "index read-only", 0, 0, func(s *scene) {
			s.during("403 cluster_block_exception", s.setting("index.blocks.read_only", "true"),
				s.setting("index.blocks.read_only", "null"))
		}},
		{"R2", "write block of ten minutes", 700, 0, writeBlock},
		{"R2", "write block of ten minutes, lifted, then replay", 0, 0, func(s *scene) {
			writeBlock(s)
			s.setting("index.blocks.write", "null")()
			s.replay(700)
		}},
		{"R2", "disk watermark: block of the flood stage, for a quarter of an hour", 0, 0, floodStage},
		{"R2", "disk watermark: no index is made; a receiver starts meanwhile", 0, 0, noNewIndex},
		{"R2", "shard limit of the cluster", 0, 0, func(s *scene) {
			limit := func(n string) func() {
				return s.ask(http.MethodPut, "/_cluster/settings",
					`{"transient":{"cluster.max_shards_per_node":`+n+`}}`)
			}
			s.Cleanup(limit("null"))
			limit("1")()
			wait := s.feed(300, plain)
			s.awaitError("400 validation_exception")
			limit("null")()
			wait()
		}},
		{"R2", "another line under a number: a queue restored from a copy", 0, 0, restored},
		{"R3", "requests above 16 KiB refused: 413", 0, 0, func(s *scene) {
			s.tap.Set(tooLarge)
			s.feed(1000, plain)()
		}},
		{"R3", "oversized document", 0, 1, func(s *scene) {
			s.tap.Set(tooLarge)
			s.feed(1000, func(i int) string {
				if i == 555 {
					return `{"message":"` + strings.Repeat("x", 32<<10) + `"}`
				}
				return plain(i)
			})()
		}},
		{"R3", "overload: 429 circuit_breaking_exception", 0, 0, overload},
		{"R3", "engine stopped for a while", 0, 0, func(s *scene) { stopped(s, "stop") }},
		{"R3", "engine killed -9", 0, 0, func(s *scene) { stopped(s, "kill") }},
		{"R4", "midnight, all sent again through another receiver", 0, 0, midnight},
		{"R5", "dead-letter index closed", 0, 0, func(s *scene) {
			faults.Ask(s, http.MethodPut, "/"+deadIndex, elastic.DeadMapping)
			s.feed(300, plain)()
			faults.Ask(s, http.MethodPost, "/"+deadIndex+"/_close", "")
			wait := s.feed(700, plain) // a new stream: whether it has dead letters is not known
			s.awaitError("400 index_closed_exception")
			faults.Ask(s, http.MethodPost, "/"+deadIndex+"/_open?wait_for_active_shards=1", "")
			wait()
		}},
		{"R5", "dead-letter index blocked for ten minutes: local file", 0, 50, noDeadLetters},
		{"R5", "the same, then replay of the file", 0, 0, func(s *scene) {
			noDeadLetters(s)
			_ = s.store.Close()
			faults.Ask(s, http.MethodPut, "/"+s.index()+"/_mapping", `{"properties":{"extra":{"type":"keyword"}}}`)
			file := s.deadFile
			s.deadFile = ""
			s.open()
			if r, err := s.store.ReplayFile(s.Context(), file); err != nil || r.Stored != 50 {
				s.Errorf("got %+v, %v, want 50 brought back", r, err)
			}
		}},
		{"R7", "wrong credentials", 0, 0, func(s *scene) {
			s.during("401 security_exception", func() {
				s.tap.Set(func(w http.ResponseWriter, _ *http.Request, _, answer []byte) bool {
					return answer == nil && respond(w, 401, `{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}`)
				})
			}, func() { s.tap.Lift(s) })
		}},
	} {
		t.Run(tt.rule+" "+tt.fault, func(t *testing.T) {
			s := newScene(t)
			if tt.local > 0 || strings.Contains(tt.fault, "file") {
				_ = s.store.Close()
				s.deadFile = filepath.Join(t.TempDir(), "dead")
				s.open()
			}
			tt.act(s)
			s.tap.Lift(s)
			asText := 0 // the engine's trouble costs no line its fields
			if strings.Contains(tt.fault, "as text") {
				asText = 50
			}
			if r := s.row(tt.rule, tt.fault, tt.dead, tt.local); r.AsText != asText {
				s.Errorf("%d documents have lost fields, want %d", r.AsText, asText)
			}
		})
	}
}

// strict makes an index that takes no field it does not know.
func (s *scene) strict() {
	faults.Ask(s, http.MethodPut, "/"+s.index(), `{"mappings":{"dynamic":"strict","properties":{"@timestamp":{"type":"date"},"n":{"type":"long"},"message":{"type":"text"},`+
		`"wsrelay":{"properties":{"sid":{"type":"keyword"},"seq":{"type":"long"},"crc":{"type":"keyword"},"at":{"type":"date"},"host":{"type":"keyword"}}}}}}`)
}

func extra(i int) string {
	if i%20 == 7 {
		return fmt.Sprintf(`{"n":%d,"extra":"x"}`, i)
	}
	return plain(i)
}

// replay brings n dead letters of the scene back; those of others stay.
func (s *scene) replay(n int) {
	s.Helper()
	r, err := s.store.Replay(s.Context())
	if err != nil || r.Stored+r.There != n {
		s.Errorf("got %+v, %v, want %d brought back", r, err, n)
	}
}

func strictMapping(s *scene) {
	s.strict()
	s.feed(1000, extra)()
	if got := faults.Count(s, s.prefix, s.sids...).Dead; got != 50 {
		s.Errorf("%d dead letters, want 50", got)
	}
	for query, want := range map[string]int64{
		"error.type:strict_dynamic_mapping_exception": 50,
		"error.message:extra":                         50, "message:extra": 50,
	} {
		found := faults.Ask(s, http.MethodPost, "/wsrelay-dead-*/_count",
			fmt.Sprintf(`{"query":{"bool":{"must":[{"query_string":{"query":%q}},{"term":{"wsrelay.sid":%q}}]}}}`,
				query, s.sids[0])).Get("count").Int()
		if found != want {
			s.Errorf("%s finds %d dead letters, want %d", query, found, want)
		}
	}
	faults.Ask(s, http.MethodPut, "/"+s.index()+"/_mapping", `{"properties":{"extra":{"type":"keyword"}}}`)
	s.replay(50)
}

func writeBlock(s *scene) {
	s.feed(300, plain)()
	s.setting("index.blocks.write", "true")()
	s.step = time.Minute
	wait := s.feed(700, plain)
	s.awaitError("403 cluster_block_exception")
	wait()
}

// floodStage has the engine think that its disk is full. A block alone does not
// last: an engine whose disk has space lifts it within 30 seconds.
func floodStage(s *scene) {
	watermark := func(free string) func() {
		const name = `"cluster.routing.allocation.disk.watermark.`
		return s.ask(http.MethodPut, "/_cluster/settings", `{"transient":{`+name+`low":`+free+`,`+name+`high":`+free+`,`+name+`flood_stage":`+free+`}}`)
	}
	fix := func() {
		watermark("null")()
		faults.Ask(s, http.MethodPut, "/_all/_settings", `{"index.blocks.read_only_allow_delete":null}`)
		if s.makesNoIndex() { // OpenSearch alone lifts this half a minute later
			s.createBlock("null")()
		}
	}
	s.Cleanup(fix)
	s.step = time.Minute
	s.feed(300, plain)()
	watermark(`"1pb"`)()
	s.setting("index.blocks.read_only_allow_delete", "true")()
	wait := s.feed(700, plain)
	for range 15 {
		s.awaitError("429 cluster_block_exception")
	}
	fix()
	wait()
}

// makesNoIndex reports whether the engine has the block of OpenSearch that a
// disk above its high watermark brings.
func (s *scene) makesNoIndex() bool {
	return faults.Ask(s, http.MethodGet, "/_cluster/settings?flat_settings=true",
		"").Get(`persistent.cluster\.blocks\.create_index`).Exists()
}

func (s *scene) createBlock(value string) func() {
	return s.ask(http.MethodPut, "/_cluster/settings", `{"persistent":{"cluster.blocks.create_index":`+value+`}}`)
}

func noNewIndex(s *scene) {
	if faults.Ask(s, http.MethodGet, "/", "").Get("version.distribution").Str != "opensearch" {
		s.Skip("Elasticsearch has no such block")
	}
	s.Cleanup(s.createBlock("null"))
	s.createBlock("true")()
	s.open()
	wait := s.feed(300, plain)
	s.awaitError("403 index_create_block_exception")
	s.createBlock("null")()
	wait()
}

// restored sends a stream again from a copy of its queue: the same lines, then
// others. The sender continues with these under a new stream.
func restored(s *scene) {
	s.feed(500, plain)()
	sid := s.sids[0]
	other := receiver.Batch{SID: sid, Host: "web1", Seq: 401, At: day}
	for i := range 300 {
		other.Lines = append(other.Lines, []byte(plain(max(400+i, 5000*(i/50)+i))))
	}
	s.open()
	_, err := s.store.Commit(s.Context(), []receiver.Batch{other})
	if d := (*receiver.DivergedError)(nil); !errors.As(err, &d) || d.Seq != 451 {
		s.Errorf("error %v, want diverged at 451", err)
	}
	s.feed(250, func(i int) string { return string(other.Lines[50+i]) })()
}

var tooLarge = bulks(func(w http.ResponseWriter, _ *http.Request, body, answer []byte) bool {
	return answer == nil && len(body) > 16<<10 && respond(w, 413, "<html>413 Request Entity Too Large</html>")
})

// overload lets the engine take next to no request at a time. The breaker is
// its own.
func overload(s *scene) {
	limit := func(n string) func() {
		return s.ask(http.MethodPut, "/_cluster/settings", `{"transient":{"network.breaker.inflight_requests.limit":`+n+`}}`)
	}
	s.Cleanup(limit("null"))
	long := func(i int) string { return fmt.Sprintf(`{"n":%d,"message":"%s"}`, i, strings.Repeat("long ", 1000)) }
	s.feed(100, long)()
	limit(`"200kb"`)()
	var waits []func()
	for range 4 {
		waits = append(waits, s.feed(200, long))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, wait := range waits {
			wait()
		}
	}()
	for refused := false; !refused; { // and asked for again, also in smaller requests
		select {
		case <-done: // Elasticsearch 9 reads a bulk in parts, and counts each alone
			refused = true
		case <-time.After(time.Millisecond):
			refused = s.tap.Documents() >= 5000
		}
	}
	limit("null")()
	<-done
	s.Logf("%d documents were sent for 900", s.tap.Documents())
}

func stopped(s *scene, verb string) {
	dir := os.Getenv("ENGINE_DIR")
	if dir == "" || testing.Short() {
		s.Skip("needs an engine that may be stopped, and a minute: run scripts/engine.sh test, without -short")
	}
	control := func(verb string) {
		if out, err := exec.Command("../../../scripts/engine.sh", verb, dir).CombinedOutput(); err != nil {
			s.Fatalf("engine.sh %s: %v\n%s", verb, err, out)
		}
	}
	var waits []func()
	for range 4 {
		waits = append(waits, s.feed(5000, plain))
	}
	for s.tap.Documents() < 4000 {
		time.Sleep(time.Millisecond)
	}
	control(verb)
	s.awaitError("0 ")
	control("restart")
	for _, wait := range waits {
		wait()
	}
}

func midnight(s *scene) {
	sid := handshake.NewSID()
	s.sids = append(s.sids, sid)
	before, after := s.batch(sid, 1, 500, plain), s.batch(sid, 501, 500, func(i int) string { return plain(500 + i) })
	after.At = day.Add(2 * time.Hour)
	for range 2 {
		for _, b := range []receiver.Batch{before, after} {
			s.commit(b)
		}
		s.open()
	}
	for id, where := range faults.Count(s, s.prefix, sid).Indices {
		want := s.index()
		if id > handshake.UID(sid, 500) {
			want = "wsrelay-" + s.prefix + "-2026.11.23"
		}
		if len(where) != 1 || where[0] != want {
			s.Fatalf("%s is in %v, want %s", id, where, want)
		}
	}
}

// noDeadLetters refuses 50 lines while the month's dead-letter index takes
// none, and has not for ten minutes.
func noDeadLetters(s *scene) {
	s.strict()
	faults.Ask(s, http.MethodPut, "/"+deadIndex, elastic.DeadMapping)
	faults.Ask(s, http.MethodPut, "/"+deadIndex+"/_settings", `{"index.blocks.write":true}`)
	s.step = time.Minute
	wait := s.feed(1000, extra)
	s.awaitError("403 cluster_block_exception")
	wait()
}
