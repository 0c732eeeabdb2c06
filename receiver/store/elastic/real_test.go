package elastic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/test/faults"
)

// The tests in this file run against a real engine: scripts/engine.sh test. So
// does the fault table, in faults_test.go.

// realStore opens a store with a prefix of its own on the real engine, through
// the address proxy if that is not "".
func realStore(t testing.TB, prefix, proxy string) *Store {
	t.Helper()
	url := faults.Engine(t)
	if proxy != "" {
		url = "http://" + proxy
	}
	s, err := Open(t.Context(), url, Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newPrefix(t testing.TB) string {
	prefix := "test-x" + handshake.NewSID()
	t.Cleanup(func() { faults.Ask(t, http.MethodDelete, "/wsrelay-"+prefix+"-*", "") })
	return prefix
}

// count is how many documents of the streams match.
func count(t testing.TB, index, query string) int {
	t.Helper()
	faults.Ask(t, http.MethodPost, "/"+index+"/_refresh", "")
	return int(faults.Ask(t, http.MethodPost, "/"+index+"/_count",
		`{"query":{"query_string":{"query":"`+query+`"}}}`).Get("count").Int())
}

func TestEngine_StoresOnceAndTellsTheSameFromAnother(t *testing.T) {
	prefix := newPrefix(t)
	index := "wsrelay-" + prefix + "-2026.11.22"
	s := realStore(t, prefix, "")
	t.Log(s.Describe())
	sid, lines := handshake.NewSID(), linesFrom(1, 100)

	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 100, 0, 0)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 101, linesFrom(101, 50)...)), 50, 0, 0)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 0, 100, 0) // looked up
	other := realStore(t, prefix, "")
	mustCommit(t, other, batchOf(sid, 151, linesFrom(151, 1)...))
	mustCommit(t, other, batchOf(sid, 152, linesFrom(152, 49)...))
	mustCommit(t, s, batchOf(sid, 146, linesFrom(146, 5)...))
	s.streams.passed(sid, 151, 151, true)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 151, linesFrom(151, 60)...)), 10, 50, 0) // 409, then compared

	other.Begin(&handshake.Hello{SID: sid, Head: 1})
	diverged := linesFrom(201, 20)
	diverged[3] = "another"
	_, err := other.Commit(t.Context(), []receiver.Batch{batchOf(sid, 201, diverged...)})
	var de *receiver.DivergedError
	if !errors.As(err, &de) || de.Seq != 204 {
		t.Errorf("error %v, want diverged at 204", err)
	}
	gap := receiver.Batch{SID: sid, Seq: 211, At: testDay, Gap: &handshake.Gap{
		Seq: 211, N: 1000,
		Why: handshake.GapOverflow, From: 1, To: 2,
	}}
	checkCounts(t, mustCommit(t, s, gap), 1, 0, 0)
	s.Begin(&handshake.Hello{SID: sid, Head: 1})
	checkCounts(t, mustCommit(t, s, gap), 0, 1, 0)
	if got := count(t, index, "wsrelay.sid:"+sid); got != 211 {
		t.Errorf("%d documents, want 211", got)
	}
	if got := count(t, index, "wsrelay.gap.why:overflow AND wsrelay.gap.n:1000"); got != 1 {
		t.Errorf("%d gap documents are found, want 1", got)
	}
}

func TestEngine_GetsOneBulkMoreThanItHasThreads(t *testing.T) {
	s := realStore(t, newPrefix(t), "")
	threads := 0
	for _, node := range faults.Ask(t, http.MethodGet, "/_cat/thread_pool/write?format=json&h=size", "").Array() {
		threads += int(node.Get("size").Int())
	}
	if want := float64(min(threads+1, mostBulks)); threads == 0 || s.bulks.most != want {
		t.Errorf("at most %v bulks at once with %d threads, want %v", s.bulks.most, threads, want)
	}
}

// Where an ingest pipeline has put a document elsewhere, a 409 says where that
// is, and the line is compared with what is there.
func TestEngine_ComparesWithADocumentThatAPipelineHasMoved(t *testing.T) {
	prefix := newPrefix(t)
	faults.NeedProcessors(t, "set")
	moved := "wsrelay-" + prefix + "-moved"
	faults.Ask(t, http.MethodPut, "/_ingest/pipeline/"+prefix,
		`{"processors":[{"set":{"field":"_index","value":"`+moved+`"}}]}`)
	t.Cleanup(func() { faults.Ask(t, http.MethodDelete, "/_ingest/pipeline/"+prefix, "") })
	open := func() *Store {
		s, err := Open(t.Context(), faults.Engine(t), Options{Prefix: prefix, Pipeline: prefix})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, open(), batchOf(sid, 1, "a", "b")), 2, 0, 0)
	checkCounts(t, mustCommit(t, open(), batchOf(sid, 1, "a", "b")), 0, 2, 0)
	if got := count(t, moved, "*"); got != 2 {
		t.Errorf("%d documents in %s, want 2", got, moved)
	}
	_, err := open().Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, "a", "another")})
	if d := (*receiver.DivergedError)(nil); !errors.As(err, &d) || d.Seq != 2 {
		t.Errorf("error %v, want diverged at 2", err)
	}
}

func TestEngine_SaysInWhichIndexAnIDIsTaken(t *testing.T) {
	prefix := newPrefix(t)
	s, b := realStore(t, prefix, ""), batchOf(handshake.NewSID(), 1, "a")
	mustCommit(t, s, b)
	ops := written(prefix, b)
	if s.client.bulk(t.Context(), ops); ops[0].outcome != exists || ops[0].takenIn != ops[0].index {
		t.Errorf("outcome %d, taken in %q, want in %q", ops[0].outcome, ops[0].takenIn, ops[0].index)
	}
}

// An index that is deleted is made again, with the types of our fields.
func TestEngine_MakesAnIndexAgainThatIsGone(t *testing.T) {
	prefix := newPrefix(t)
	index := "/wsrelay-" + prefix + "-2026.11.22"
	s := realStore(t, prefix, "")
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, "a"))
	faults.Ask(t, http.MethodDelete, index, "")
	s.Begin(&handshake.Hello{SID: sid, Head: 2})
	checkCounts(t, mustCommit(t, s, batchOf(sid, 2, "b")), 1, 0, 0)
	if got := faults.Ask(t, http.MethodGet, index+"/_mapping",
		"").Get("*.mappings.properties.wsrelay.properties.sid.type").Str; got != "keyword" {
		t.Errorf("wsrelay.sid is of type %q", got)
	}
}

// Arrays as encoders write them that give 1.0 as 1. Elasticsearch 9 takes them by
// itself, as what the first number is.
func TestEngine_FindsIntegersBesideFractionsAsNumbers(t *testing.T) {
	prefix := newPrefix(t)
	s := realStore(t, prefix, "")
	checkCounts(t, mustCommit(t, s, batchOf(handshake.NewSID(), 1, `{"first":[1.5,1]}`, `{"second":[1,1.5]}`,
		`{"calls":[{"ms":1},{"ms":0.25}]}`, `{"zero":[0.000000e+00,0e0]}`)), 4, 0, 0)
	index := "wsrelay-" + prefix + "-2026.11.22"
	queries := []string{"first:1.5 AND first:1", "second:1.5 AND second:1", "calls.ms:0.25 AND calls.ms:1", "zero:0"}
	if faults.Ask(t, http.MethodGet, "/"+index+"/_mapping", "").Get("*.mappings.properties.second.type").Str == "long" {
		queries[1], queries[2] = "second:1", "calls.ms:0 AND calls.ms:1"
	}
	for _, query := range queries {
		if got := count(t, index, query); got != 1 {
			t.Errorf("%s finds %d documents, want 1", query, got)
		}
	}
	if got := count(t, index, "_exists_:wsrelay.why"); got != 0 {
		t.Errorf("%d documents have lost fields", got)
	}
}

// Lines that engines stumble over: each becomes a document, in which what does
// not fit is text.
func TestEngine_EveryLineArrives(t *testing.T) {
	var fields []string
	for i := range 1200 {
		fields = append(fields, fmt.Sprintf(`"f%d":1`, i))
	}
	lines := []struct {
		line string
		odd  bool
	}{
		{`{"a":1,"o":{"x":1},"@timestamp":"2026-11-22T10:00:00Z"}`, false},
		{`{"a":"a word"}`, true},
		{`{"a":{"b":1}}`, true},
		{`{"o":"scalar"}`, true},
		{`{"z":1,"z":2}`, true},
		{`{"":1}`, true},
		{`{".":1}`, true},
		{`{"a..b":1}`, true},
		{`{"_id":"x"}`, true},
		{`{"n":1e999}`, true},
		{`{"big":123456789012345678901234567890}`, true},
		{`{"@timestamp":"yesterday"}`, true},
		{`{"m":[1,"x",{"y":2}]}`, true},
		{`{"l.` + strings.Repeat("l.", 18) + `l":1}`, false}, // 20 levels: what engines take
		{`{"l.` + strings.Repeat("l.", 19) + `l":1}`, true},
		{strings.Repeat(`{"lo":`, 20) + "1" + strings.Repeat("}", 20), false},
		{`{"la":` + strings.Repeat("[", 19) + "1" + strings.Repeat("]", 19) + "}", false},
		{`{"la":` + strings.Repeat("[", 20) + "1" + strings.Repeat("]", 20) + "}", true},
		{strings.Repeat(`{"d":`, 25) + "1" + strings.Repeat("}", 25), true},
		{strings.Repeat(`{"e":`, 1500) + "1" + strings.Repeat("}", 1500), true},
		{`{"f":` + strings.Repeat("[", 100000), true},
		{"{" + strings.Join(fields, ",") + "}", true},
		{`{"s":"\ud800"}`, false},
		{`{"s":"a\u0000b"}`, false},
		{`{"wsrelay":{"crc":"00000000"}}`, true},
		{`{"s":"` + strings.Repeat("x", 100000) + `"}`, false},
		{"caf\xe9", false},
		{"", false},
		{"plain words", false},
		{`["array"]`, false},
		{`{"cr":1}` + "\r", false},
	}
	prefix := newPrefix(t)
	s := realStore(t, prefix, "")
	sid := handshake.NewSID()
	for i, l := range lines { // one by one: the first fixes the types
		seq := uint64(i + 1)
		r := mustCommit(t, s, batchOf(sid, seq, l.line))
		checkCounts(t, r, 1, 0, 0)
		source := faults.Ask(t, http.MethodGet, "/wsrelay-"+prefix+"-2026.11.22/_doc/"+handshake.UID(sid, seq),
			"").Get("_source")
		whole := source.Get("message").String() == l.line || source.Get("wsrelay.line").String() == l.line
		if got := source.Get("wsrelay.why").Exists(); got != l.odd || l.odd && !whole {
			t.Errorf("line %.60q became %.200s, want that it does not fit: %v", l.line, source.Raw, l.odd)
		}
		again := mustCommit(t, s, batchOf(sid, seq, l.line))
		if again.New != 0 || fmt.Sprint(again.Rejected) != fmt.Sprint(r.Rejected) {
			t.Errorf("line %.60q again: %+v, was %+v", l.line, again, r)
		}
	}
	index := "wsrelay-" + prefix + "-*"
	if got := count(t, index, "wsrelay.sid:"+sid); got != len(lines) {
		t.Errorf("%d documents for %d lines", got, len(lines))
	}
	for query, want := range map[string]int{
		"wsrelay.line:word": 1, "wsrelay.why:parse": 1,
		`wsrelay.omitted:\"@timestamp\"`: 1, "wsrelay.line:yesterday": 1,
	} {
		if got := count(t, index, query); got < want {
			t.Errorf("%d documents are found by %s, want %d", got, query, want)
		}
	}
}

func TestEngine_TakesCompressedDocuments(t *testing.T) {
	prefix := newPrefix(t)
	s, err := Open(t.Context(), faults.Engine(t), Options{Prefix: prefix, Access: Access{Gzip: "on"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sid, lines := handshake.NewSID(), linesFrom(1, 2000)
	lines[7] = `{"n":"a word"}`
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 2000, 0, 0)
	if got := count(t, "wsrelay-"+prefix+"-*", "wsrelay.sid:"+sid); got != 2000 {
		t.Errorf("%d documents, want 2000", got)
	}
}

// cutter forwards connections to the engine and cuts each after a random
// number of bytes in one direction.
func cutter(t *testing.T) (addr string, cuts *atomic.Int64) {
	t.Helper()
	target := strings.TrimPrefix(faults.Engine(t), "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cuts = new(atomic.Int64)
	var wg sync.WaitGroup
	serve := func(client net.Conn) {
		defer client.Close()
		engine, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer engine.Close()
		var both sync.WaitGroup
		forward := func(dst, src net.Conn, limit int64) {
			if n, _ := io.CopyN(dst, src, limit); n == limit {
				cuts.Add(1)
			}
			_, _ = client.Close(), engine.Close()
		}
		both.Go(func() { forward(engine, client, rand.Int64N(1<<20)) })
		both.Go(func() { forward(client, engine, rand.Int64N(40<<10)) })
		both.Wait()
	}
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), cuts
}

// send commits a stream's lines in batches, each until it succeeds, as a
// session does.
func send(t *testing.T, s *Store, sid string, lines, perBatch int, sent *atomic.Int64) {
	for seq := uint64(1); seq <= uint64(lines); seq += uint64(perBatch) {
		b := batchOf(sid, seq, linesFrom(seq, perBatch)...)
		for {
			r, err := s.Commit(t.Context(), []receiver.Batch{b})
			if err == nil {
				checkCounts(t, r[0], perBatch-r[0].Dup, r[0].Dup, 0)
				break
			}
			var e *Error
			if !errors.As(err, &e) || !e.transient() {
				t.Errorf("Commit: %v", err)
				return
			}
			time.Sleep(10 * time.Millisecond) // a session waits here as well
		}
		sent.Add(int64(perBatch))
	}
}

// checkComplete wants each line of the streams exactly once, by its id.
func checkComplete(t *testing.T, prefix string, sids []string, lines int) {
	t.Helper()
	for _, sid := range sids {
		if got := count(t, "wsrelay-"+prefix+"-*", "wsrelay.sid:"+sid); got != lines {
			t.Errorf("stream %s: %d documents, want %d", sid, got, lines)
		}
		seqs := faults.Ask(t, http.MethodPost, "/wsrelay-"+prefix+"-*/_search?size=0",
			`{"query":{"term":{"wsrelay.sid":"`+sid+`"}},"aggs":{"max":{"max":{"field":"wsrelay.seq"}}}}`)
		if got := seqs.Get("aggregations.max.value").Int(); got != int64(lines) {
			t.Errorf("stream %s: highest seq %d, want %d", sid, got, lines)
		}
	}
}

func sendStreams(t *testing.T, s *Store, streams, lines, perBatch int) (sids []string, sent *atomic.Int64, wait func()) {
	sent = new(atomic.Int64)
	var wg sync.WaitGroup
	for range streams {
		sid := handshake.NewSID()
		sids = append(sids, sid)
		wg.Go(func() { send(t, s, sid, lines, perBatch, sent) })
	}
	return sids, sent, wg.Wait
}

func TestEngine_CutConnectionsLoseAndDoubleNothing(t *testing.T) {
	const streams, lines = 6, 12000
	prefix := newPrefix(t)
	addr, cuts := cutter(t)
	s := realStore(t, prefix, addr)
	s.pause = 5 * time.Millisecond
	sids, _, wait := sendStreams(t, s, streams, lines, 400)
	wait()
	checkComplete(t, prefix, sids, lines)
	t.Logf("%d lines through %d cut connections", streams*lines, cuts.Load())
	if cuts.Load() < 10 {
		t.Errorf("only %d connections were cut", cuts.Load())
	}
}

// The benchmarks send the same lines; compare their docs/s within one run.
func benchmarkEngine(b *testing.B, run func(s *Store, prefix string, worker, rounds int)) {
	const workers = 8
	prefix := newPrefix(b)
	s := realStore(b, prefix, "")
	for i := range 20 { // the engine compiles itself while it works
		if _, err := s.Commit(b.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1,
			benchLinesFrom(uint64(i))...)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { run(s, prefix, w, b.N) })
	}
	wg.Wait()
	b.ReportMetric(float64(workers*benchLines*b.N)/b.Elapsed().Seconds(), "docs/s")
}

const benchLines = 1000 // in one batch

func benchLine(seq uint64) string {
	return fmt.Sprintf(`{"@timestamp":"2026-11-22T10:11:12.345Z","remote_addr":"192.0.2.%d","method":"GET","path":"/catalogue/item/%d?view=full&sort=price",`+
		`"status":%d,"bytes":%d,"duration":0.%03d,"referrer":"https://www.example.org/catalogue","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","host_header":"www.example.org"}`,
		seq%250, seq%10000, 200+seq%3*100, 1000+seq%5000, seq%1000)
}

func benchLinesFrom(seq uint64) []string {
	lines := make([]string, benchLines)
	for i := range lines {
		lines[i] = benchLine(seq + uint64(i))
	}
	return lines
}

func BenchmarkEngine_Commit(b *testing.B) {
	benchmarkEngine(b, func(s *Store, _ string, _, rounds int) {
		sid := handshake.NewSID()
		for i := range rounds {
			seq := uint64(i*benchLines + 1)
			if _, err := s.Commit(b.Context(), []receiver.Batch{batchOf(sid, seq,
				benchLinesFrom(seq)...)}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkEngine_BareBulk lets the engine choose the ids and reads nothing of
// the answers but their status.
func BenchmarkEngine_BareBulk(b *testing.B) {
	benchmarkEngine(b, func(_ *Store, prefix string, worker, rounds int) {
		for i := range rounds {
			var body []byte
			for _, l := range benchLinesFrom(uint64((worker*rounds+i)*benchLines + 1)) {
				body = fmt.Appendf(body, "{\"index\":{}}\n%s\n", l)
			}
			postBare(b, "/wsrelay-"+prefix+"-2026.11.22/_bulk?filter_path=errors", body)
		}
	})
}

// BenchmarkEngine_BareCreate sends the very documents that Commit sends.
func BenchmarkEngine_BareCreate(b *testing.B) {
	benchmarkEngine(b, func(_ *Store, prefix string, _, rounds int) {
		sid := handshake.NewSID()
		for i := range rounds {
			var body []byte
			for _, o := range written(prefix, batchOf(sid, uint64(i*benchLines+1),
				benchLinesFrom(uint64(i*benchLines+1))...)) {
				body = append(body, o.body...)
			}
			postBare(b, bulkPath, body)
		}
	})
}

func postBare(b *testing.B, path string, body []byte) {
	res, err := http.Post(faults.Engine(b)+path, ndjson, bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		b.Error(res.Status, err)
	}
}
