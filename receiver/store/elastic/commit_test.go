package elastic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

func TestCommit_StoresEachLineUnderItsUID(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid, lines := handshake.NewSID(), linesFrom(1, 10)
	r := mustCommit(t, s, batchOf(sid, 1, lines...))
	checkCounts(t, r, 10, 0, 0)
	if r.Index != testIndex {
		t.Errorf("index %q, want %q", r.Index, testIndex)
	}
	e.checkStored(t, sid, 1, lines)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 0, 10, 0)
	e.checkStored(t, sid, 1, lines)
}

func TestCommit_CountsPerBatch(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	next := batchOf(sid, 3, "three")
	next.At = testDay.AddDate(0, 0, 1)
	gap := receiver.Batch{SID: sid, Seq: 4, At: testDay, Gap: &handshake.Gap{
		Seq: 4, N: 7, Why: handshake.GapExpired,
		From: 1, To: 2,
	}}
	results, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, "one", "two"), next, gap})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, results[0], 2, 0, 0)
	checkCounts(t, results[1], 1, 0, 0)
	checkCounts(t, results[2], 1, 0, 0)
	if got, want := results[1].Index, "wsrelay-logs-2026.11.23"; got != want {
		t.Errorf("index %q, want %q", got, want)
	}
	if got := gjson.Get(e.docs[place{testIndex, handshake.GapID(sid, 4, 7)}], "wsrelay.gap.n").Int(); got != 7 {
		t.Errorf("the gap's document says %d lines, want 7", got)
	}
}

// Whatever happens to requests and answers, a line is stored once and counted
// once.
func TestCommit_RepeatsWhatIsUnknown(t *testing.T) {
	mixed := func(status int, kind string) func(*scripted) {
		return func(e *scripted) {
			e.item = func(n int, at place, _ string) string {
				if n < 3 && strings.HasSuffix(at.id, "3") {
					return refuse(status, kind, "later")
				}
				return ""
			}
		}
	}
	first := func(answer func(http.ResponseWriter) bool) func(*scripted) {
		return func(e *scripted) {
			e.before = func(w http.ResponseWriter, n int, _ []byte) bool { return n < 3 && answer(w) }
		}
	}
	spoil := func(answer func(w http.ResponseWriter, answer string) bool) func(*scripted) {
		return func(e *scripted) {
			e.after = func(w http.ResponseWriter, n int, a string) bool { return n < 3 && answer(w, a) }
		}
	}
	for _, tt := range []struct {
		name     string
		fault    func(*scripted)
		new, dup int
	}{
		{"item 429", mixed(429, "rejected_execution_exception"), 10, 0},
		{"item 503", mixed(503, "unavailable_shards_exception"), 10, 0},
		{"item 403 block", mixed(403, "cluster_block_exception"), 10, 0},
		{"request 429", first(func(w http.ResponseWriter) bool { return answerWith(w, 429, "{}") }), 10, 0},
		{"request 503", first(func(w http.ResponseWriter) bool { return answerWith(w, 503, "<html>") }), 10, 0},
		{"reset before", first(hangUp), 10, 0},
		{"reset after the commit", spoil(func(w http.ResponseWriter, _ string) bool { return hangUp(w) }), 0, 10},
		{"answer cut", spoil(func(w http.ResponseWriter, a string) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(a)))
			fmt.Fprint(w, a[:len(a)/2])
			return true
		}), 0, 10},
		{"an item too few", spoil(func(w http.ResponseWriter, a string) bool {
			return answerWith(w, 200, a[:strings.LastIndex(a, `,{"create"`)]+"]}")
		}), 0, 10},
		{"an item too many", spoil(func(w http.ResponseWriter, a string) bool {
			return answerWith(w, 200, strings.Replace(a, `[`, `[{"create":{"_id":"x","status":201}},`, 1))
		}), 0, 10},
		{"another's items", spoil(func(w http.ResponseWriter, a string) bool {
			return answerWith(w, 200, strings.ReplaceAll(a, `"_id":"`, `"_id":"x`))
		}), 0, 10},
		{"not JSON", spoil(func(w http.ResponseWriter, _ string) bool { return answerWith(w, 200, "OK") }), 0, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newScripted(t)
			s := openAt(t, e.URL)
			tt.fault(e)
			sid, lines := handshake.NewSID(), linesFrom(1, 10)
			checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), tt.new, tt.dup, 0)
			e.checkStored(t, sid, 1, lines)
			if len(e.bulks) < 2 {
				t.Errorf("%d bulks: the fault has not happened", len(e.bulks))
			}
		})
	}
}

func TestCommit_GoesToTheNodeThatIsUp(t *testing.T) {
	e := newScripted(t)
	down := httptest.NewServer(nil)
	down.Close()
	s := openAt(t, down.URL+","+e.URL)
	if name, _ := s.Describe(); name != "opensearch 2.19.1" {
		t.Errorf("name %q: the node that is up was not asked", name)
	}
	sid := handshake.NewSID()
	for i := range uint64(10) {
		checkCounts(t, mustCommit(t, s, batchOf(sid, i+1, "a")), 1, 0, 0)
	}
}

func TestCommit_RepeatsOnlyTheItemsThatNeedIt(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(n int, at place, _ string) string {
		if n == 1 && strings.HasSuffix(at.id, "3") {
			return refuse(429, "rejected_execution_exception", "full")
		}
		return ""
	}
	mustCommit(t, s, batchOf(handshake.NewSID(), 1, linesFrom(1, 10)...))
	if got, want := fmt.Sprint(e.bulks), "[10 1]"; got != want {
		t.Errorf("bulks of %s documents, want %s", got, want)
	}
}

// What no waiting changes, and what is not the line's fault, is an error: the
// line stays with its sender and is no dead letter.
func TestCommit_HoldsWhatIsNotTheLinesFault(t *testing.T) {
	item := func(answer string) func(*scripted) {
		return func(e *scripted) { e.item = func(int, place, string) string { return answer } }
	}
	request := func(status int, kind string) func(*scripted) {
		return func(e *scripted) {
			e.before = func(w http.ResponseWriter, _ int, _ []byte) bool {
				return answerWith(w, status, fmt.Sprintf(`{"error":{"type":%q,"reason":"no"}}`, kind))
			}
		}
	}
	for _, tt := range []struct {
		name  string
		fault func(*scripted)
		want  Error
		bulks int
	}{
		{"shard limit", item(refuse(400, "validation_exception", "would add [2] shards")), Error{Status: 400, Type: "validation_exception"}, 2},
		{"pipeline missing", item(refuse(400, "illegal_argument_exception", "pipeline with id [x] does not exist")), Error{Status: 400, Type: "illegal_argument_exception"}, 2},
		{"index closed", item(refuse(400, "index_closed_exception", "closed")), Error{Status: 400, Type: "index_closed_exception"}, 2},
		{"no index", item(refuse(404, "index_not_found_exception", "no such index")), Error{Status: 404, Type: "index_not_found_exception"}, maxTries + 1},
		{"may not", item(refuse(403, "security_exception", "unauthorized for user")), Error{Status: 403, Type: "security_exception"}, 2},
		{"who is it", request(401, "security_exception"), Error{Status: 401, Type: "security_exception"}, 2},
		{"block stays", item(refuse(403, "cluster_block_exception", "blocked")), Error{Status: 403, Type: "cluster_block_exception"}, maxTries + 1},
		{"overload stays", request(429, "circuit_breaking_exception"), Error{Status: 429, Type: "circuit_breaking_exception"}, maxTries + 1},
		{"400 for everything", request(400, "parse_exception"), Error{Status: 400, Type: "parse_exception"}, 5}, // 8, 4, 2, 1 and the probe
		{"413 for everything", request(413, ""), Error{Status: 413, Type: "request_entity_too_large"}, 16},      // 8, 4, 2, 1, 1, 2, ... and the probe
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newScripted(t)
			s := openAt(t, e.URL)
			tt.fault(e)
			sid, lines := handshake.NewSID(), linesFrom(1, 8)
			_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, lines...)})
			var got *Error
			if !errors.As(err, &got) || got.Status != tt.want.Status || got.Type != tt.want.Type {
				t.Fatalf("error %v, want %v", err, &tt.want)
			}
			if len(e.docs) != 0 {
				t.Errorf("documents were written: %v", e.docs)
			}
			if len(e.bulks) != tt.bulks {
				t.Errorf("%d bulks, want %d", len(e.bulks), tt.bulks)
			}
			e.item, e.before = nil, nil
			checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 8, 0, 0)
			e.checkStored(t, sid, 1, lines)
		})
	}
}

// An index that the engine made automatically would have guessed the types.
func TestCommit_SendsNothingBeforeTheIndexCanBeMade(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.create = func() string { return `{"error":{"type":"validation_exception","reason":"would add [2] shards"}}` }
	b := batchOf(handshake.NewSID(), 1, "a")
	if _, err := s.Commit(t.Context(), []receiver.Batch{b}); asError(err).Type != "validation_exception" ||
		len(e.bulks) > 0 {
		t.Errorf("error %v, %d bulks", err, len(e.bulks))
	}
	made := 0
	e.create = func() string { made++; return "" }
	checkCounts(t, mustCommit(t, s, b), 1, 0, 0)
	if made != 1 {
		t.Errorf("the index was made %d times, want once", made)
	}
}

// Go's client sends a body again when the engine has closed the connection meanwhile.
func TestSend_TheBodyOfABulkCanBeReadAgain(t *testing.T) {
	batch := batchOf(handshake.NewSID(), 1, linesFrom(1, 3)...)
	for _, gzip := range []string{"off", "on"} {
		c := clientOf(t, gzip, func(r *http.Request) string {
			first, err := io.ReadAll(r.Body)
			if err != nil || len(first) == 0 || r.ContentLength != int64(len(first)) {
				t.Errorf("gzip %s: %d bytes, %v, want %d", gzip, len(first), err, r.ContentLength)
			}
			for range 2 {
				again, err := r.GetBody()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(again); err != nil || !bytes.Equal(got, first) {
					t.Errorf("gzip %s: read again it is %q, %v, want %q", gzip, got, err, first)
				}
			}
			return storedAnswer(batch)
		})
		ops := written("logs", batch)
		if err := c.send(t.Context(), ops); err != nil || ops[2].outcome != stored {
			t.Errorf("gzip %s: %v, %d", gzip, err, ops[2].outcome)
		}
	}
}

func TestCommit_HalvesWhatIsTooLarge(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.before = func(w http.ResponseWriter, _ int, body []byte) bool {
		return len(body) > 1000 && answerWith(w, 413, "<html>")
	}
	sid, lines := handshake.NewSID(), linesFrom(1, 20)
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), 20, 0, 0)
	e.checkStored(t, sid, 1, lines)
}

func TestCommit_FindsTheLineThatSpoilsARequest(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.before = func(w http.ResponseWriter, _ int, body []byte) bool {
		return strings.Contains(string(body), `"_index":"`+testIndex) && strings.Contains(string(body), "POISON") &&
			answerWith(w, 400, `{"error":{"type":"mapper_parsing_exception","reason":"failed to parse"}}`)
	}
	lines := linesFrom(1, 20)
	lines[13] = `{"message":"POISON"}`
	r := mustCommit(t, s, batchOf(handshake.NewSID(), 1, lines...))
	checkCounts(t, r, 19, 0, 1)
	if got := r.Rejected[0].Seq; got != 14 {
		t.Errorf("seq %d rejected, want 14", got)
	}
}

func TestCommit_PutsRefusedLinesAmongTheDeadLetters(t *testing.T) {
	for _, tt := range []struct{ kind, reason string }{
		{"document_parsing_exception", "[1:5] failed to parse field [a]"},
		{"mapper_parsing_exception", "failed to parse field [a] of type [long] in document with id 'x'. Preview of field's value: 'SECRET'"},
		{"strict_dynamic_mapping_exception", "mapping set to strict"},
		{"illegal_argument_exception", "Limit of total fields [1000] has been exceeded"},
		{"illegal_argument_exception", "mapper [m] cannot be changed from type [long] to [text]"},
		{"illegal_argument_exception", "can't merge a non object mapping [a] with an object mapping"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			e := newScripted(t)
			s := openAt(t, e.URL)
			e.item = func(_ int, at place, source string) string {
				if at.index == testIndex && strings.Contains(source, "refuse me") {
					return refuse(400, tt.kind, tt.reason)
				}
				return ""
			}
			sid, line := handshake.NewSID(), `{"a":"refuse me"}`
			r := mustCommit(t, s, batchOf(sid, 1, `{"a":1}`, line, `{"a":2}`))
			checkCounts(t, r, 2, 0, 1)
			dead := e.docs[place{testDead, handshake.UID(sid, 2)}]
			for path, want := range map[string]string{
				"message": line, "wsrelay.sid": sid, "wsrelay.seq": "2", "wsrelay.crc": handshake.CRC([]byte(line)),
				"error.type": tt.kind, "error.code": "400", "error.index": testIndex,
			} {
				if got := gjson.Get(dead, path).String(); got != want {
					t.Errorf("%s of the dead letter: %q, want %q", path, got, want)
				}
			}
			if rej := r.Rejected[0]; rej.Seq != 2 || rej.Status != 400 || !strings.HasPrefix(rej.Error, tt.kind) ||
				strings.Contains(rej.Error, "SECRET") {
				t.Errorf("rejected: %+v", rej)
			}
			e.item = nil // the mapping is fixed: still one document for the line
			again := openAt(t, e.URL)
			r2 := mustCommit(t, again, batchOf(sid, 1, `{"a":1}`, line, `{"a":2}`))
			checkCounts(t, r2, 0, 2, 1)
			if fmt.Sprint(r2.Rejected) != fmt.Sprint(r.Rejected) {
				t.Errorf("after a restart rejected is %v, was %v", r2.Rejected, r.Rejected)
			}
			if len(e.docs) != 3 {
				t.Errorf("%d documents, want 3", len(e.docs))
			}
		})
	}
}

func TestCommit_NeverLosesADeadLetter(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(int, place, string) string {
		return refuse(400, "mapper_parsing_exception", "failed to parse")
	}
	_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1, "{}")})
	var got *Error
	if !errors.As(err, &got) || got.Type != "mapper_parsing_exception" {
		t.Fatalf("error %v, want the engine's refusal", err)
	}
}

func TestCommit_ADivergedStreamCreatesNothing(t *testing.T) {
	e := newScripted(t)
	sid := handshake.NewSID()
	mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, linesFrom(1, 5)...))

	other := linesFrom(1, 9)
	other[2] = "another line under seq 3"
	s := openAt(t, e.URL) // a restart: nothing is known of the stream
	_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, other...)})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 3 {
		t.Fatalf("error %v, want diverged at 3", err)
	}
	e.checkStored(t, sid, 1, linesFrom(1, 5))
}

func TestCommit_LooksUpNoMoreThanItNeeds(t *testing.T) {
	e := newScripted(t)
	looked := 0
	e.lookup = func(place) string { looked++; return "" }
	sid := handshake.NewSID()
	commit := func(s *Store) (receiver.Result, error) {
		r, err := s.Commit(t.Context(), []receiver.Batch{
			batchOf(sid, 1, linesFrom(1, 5)...),
			batchOf(sid, 6, linesFrom(6, 100)...),
		})
		if err != nil {
			return receiver.Result{}, err
		}
		r[0].New += r[1].New
		r[0].Dup += r[1].Dup
		return r[0], nil
	}
	for _, want := range []struct{ new, dup, looked int }{
		{105, 0, 1 + 1},   // the first of a session, but there is no index
		{0, 105, 105 + 1}, // all of it, but there is no index of dead letters
	} {
		looked = 0
		r, err := commit(openAt(t, e.URL))
		if err != nil {
			t.Fatal(err)
		}
		checkCounts(t, r, want.new, want.dup, 0)
		if looked != want.looked {
			t.Errorf("%d ids looked up, want %d", looked, want.looked)
		}
	}
	s := openAt(t, e.URL)
	sid = handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, "a"))
	looked = 0
	if mustCommit(t, s, batchOf(sid, 2, "b")); looked != 1 { // there is no index of dead letters
		t.Errorf("%d ids looked up at the beginning of a session, want 1", looked)
	}
	s.streams.passed(sid, 3, 1+underWay, true)
	looked = 0
	if mustCommit(t, s, batchOf(sid, 1+underWay, "c")); looked != 0 {
		t.Errorf("%d ids looked up while the stream continues", looked)
	}
}

// A restored sender starts again where the receiver does not expect it.
func TestCommit_LooksUpAgainWhenAStreamGoesBack(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, linesFrom(1, 5)...))
	mustCommit(t, s, batchOf(sid, 6, linesFrom(6, 5)...))
	_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 8, "a", "b", "c", "d", "e")})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 8 {
		t.Fatalf("error %v, want diverged at 8", err)
	}
	e.checkStored(t, sid, 1, linesFrom(1, 10))
}

func TestCommit_LooksUpAgainAfterBegin(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, linesFrom(1, 5)...))
	mustCommit(t, openAt(t, e.URL), batchOf(sid, 6, linesFrom(6, 5)...)) // through another receiver
	s.Begin(&handshake.Hello{SID: sid, Head: 1})
	_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(sid, 6, "a", "b", "c", "d", "e", "f")})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 6 {
		t.Fatalf("error %v, want diverged at 6", err)
	}
	e.checkStored(t, sid, 1, linesFrom(1, 10))
}

func TestCommit_TakenIDsAreComparedWithoutLookup(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, linesFrom(1, 5)...))
	mustCommit(t, openAt(t, e.URL), batchOf(sid, 6, linesFrom(6, 5)...))
	checkCounts(t, mustCommit(t, s, batchOf(sid, 6, linesFrom(6, 7)...)), 2, 5, 0)
	e.checkStored(t, sid, 1, linesFrom(1, 12))
}

func TestCommit_CreatesWhatIsTakenAndGone(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(n int, _ place, _ string) string {
		if n == 1 {
			return refuse(409, "version_conflict_engine_exception", "exists")
		}
		return ""
	}
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, "a", "b")), 2, 0, 0)
}

func TestCommit_DocumentWithoutChecksumIsTheSame(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	e.docs[place{testIndex, handshake.UID(sid, 1)}] = `{"message":"a"}`
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, "a", "b")), 1, 1, 0)
}

func TestCommit_WaitsWhileALookupHasNoAnswer(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	calls := 0
	e.lookup = func(place) string {
		if calls++; calls < 4 {
			return `"error":{"type":"no_shard_available_action_exception","reason":"moving"}`
		}
		return ""
	}
	checkCounts(t, mustCommit(t, s, batchOf(handshake.NewSID(), 1, "a", "b")), 2, 0, 0)
}

func TestCommit_EndsWithItsContext(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(int, place, string) string { return refuse(429, "rejected_execution_exception", "full") }
	ctx, cancel := context.WithCancel(t.Context())
	e.before = func(http.ResponseWriter, int, []byte) bool { cancel(); return false }
	if _, err := s.Commit(ctx, []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")}); !errors.Is(err,
		context.Canceled) {
		t.Fatalf("error %v, want %v", err, context.Canceled)
	}
}

func TestClose_EndsACommitThatWaits(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	got, hold := make(chan struct{}), make(chan struct{})
	e.before = func(w http.ResponseWriter, _ int, _ []byte) bool {
		close(got)
		<-hold
		return hangUp(w)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")})
		done <- err
	}()
	<-got
	_ = s.Close()
	if err := <-done; err == nil {
		t.Error("Commit succeeded on a closed store")
	}
	close(hold)
}

// What lines have in fields of their own is not asked for: 5,000 traces would be
// a larger answer than is taken.
func TestCommit_LooksUpLittleOfADocument(t *testing.T) {
	e := newScripted(t)
	sid, line := handshake.NewSID(), `{"error":{"message":"`+strings.Repeat("x", 100_000)+`"}}`
	for range 2 {
		mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, line))
	}
	if e.told > 1000 {
		t.Errorf("look-ups were answered with %d bytes", e.told)
	}
}

// An ingest pipeline may send a document to another index than was asked for.
func TestCommit_ComparesInTheIndexThatHasTheDocument(t *testing.T) {
	e := newScripted(t)
	e.move = func(index string) string { return index + "-web" }
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, "a", "b")), 2, 0, 0)
	checkCounts(t, mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, "a", "b")), 0, 2, 0)
	_, err := openAt(t, e.URL).Commit(t.Context(), []receiver.Batch{batchOf(sid, 1, "a", "another")})
	if d := (*receiver.DivergedError)(nil); !errors.As(err, &d) || d.Seq != 2 {
		t.Errorf("error %v, want diverged at 2", err)
	}
}

func TestCommit_MakesAnIndexAgainThatIsGone(t *testing.T) {
	e := newScripted(t)
	e.strict = true
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	mustCommit(t, s, batchOf(sid, 1, "a"))
	e.made = nil // it was deleted
	b := batchOf(sid, 2, "b")
	checkCounts(t, mustCommit(t, s, b), 1, 0, 0)
	e.strict, e.made = false, nil // an engine that would make it automatically
	s.Begin(&handshake.Hello{SID: sid, Head: 3})
	if mustCommit(t, s, batchOf(sid, 3, "c")); len(e.made) != 1 {
		t.Errorf("a new session has made %v, want its index", e.made)
	}
}

// Permissions that are granted later are used at once.
func TestCommit_MakesAnIndexWhenItMay(t *testing.T) {
	for _, status := range []int{401, 403} {
		e := newScripted(t)
		s := openAt(t, e.URL)
		sid := handshake.NewSID()
		asked := 0
		e.create = func() string {
			asked++
			return fmt.Sprintf(`{"error":{"type":"security_exception"},"status":%d}`, status)
		}
		mustCommit(t, s, batchOf(sid, 1, linesFrom(1, 100)...))
		e.create = nil
		if mustCommit(t, s, batchOf(sid, 101, "b")); asked != 1 || len(e.made) != 1 {
			t.Errorf("%d: refused %d times, made %v, want one index after one refusal", status, asked, e.made)
		}
	}
}
