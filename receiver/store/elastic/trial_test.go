package elastic

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

func (e *scripted) sourceOf(index, sid string, seq uint64) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.docs[place{index, handshake.UID(sid, seq)}]
}

// Whatever the status and the words of a refusal: what the engine takes without
// a member is stored without it, and found by the text of the line.
func TestCommit_StoresALineWithoutTheMemberThatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		status       int
		kind, reason string
		omitted      string
	}{
		{400, "illegal_argument_exception", "Mapper for [d1] conflicts with existing mapper:\n\tCannot update parameter [format]", `["d1"]`},
		{400, "mapper_parsing_exception", "failed to parse field [d1.x] of type [long] in document with id 'x'", `["d1.x"]`},
		{400, "words_of_tomorrow", `the field "d1" is too odd`, `["d1"]`},
		{500, "stream_constraints_exception", "Name length exceeds the maximum of 'd1'", `["d1"]`},
		{503, "anything", "[d1]", `["d1"]`},
		{403, "security_exception", "field [d1] not granted", `["d1"]`},
		{418, "", "", ""}, // no name is mentioned: only text
		{429, "limit", "of everything", ""},
	} {
		t.Run(fmt.Sprint(tt.status, " ", tt.kind), func(t *testing.T) {
			e := newScripted(t)
			s := openAt(t, e.URL)
			e.item = func(_ int, _ place, source string) string {
				if gjson.Get(source, "d1.x").Exists() {
					return refuse(tt.status, tt.kind, tt.reason)
				}
				return ""
			}
			sid, line := handshake.NewSID(), `{"d1":{"x":1},"good":2}`
			batch := batchOf(sid, 1, `{"good":1}`, line, `{"good":3}`)
			checkCounts(t, mustCommit(t, s, batch), 3, 0, 0)
			doc := e.sourceOf(testIndex, sid, 2)
			if got := gjson.Get(doc, "wsrelay.omitted").Raw; got != tt.omitted ||
				!strings.Contains(gjson.Get(doc, "wsrelay.why").Str, tt.kind) {
				t.Errorf("omitted %s, want %s, in %s", got, tt.omitted, doc)
			}
			if tt.omitted != "" && (gjson.Get(doc, "good").Int() != 2 || gjson.Get(doc, "wsrelay.line").Str != line) {
				t.Errorf("the document is %s, want what fits, and the line", doc)
			}
			if tt.omitted == "" && gjson.Get(doc, "message").Str != line {
				t.Errorf("the document is %s, want the line as text", doc)
			}
			checkCounts(t, mustCommit(t, openAt(t, e.URL), batch), 0, 3, 0) // sent again
			e.item = nil                                                    // by now it would fit
			checkCounts(t, mustCommit(t, openAt(t, e.URL), batch), 0, 3, 0)
			if len(e.docs) != 3 {
				t.Errorf("%d documents, want 3: %v", len(e.docs), e.docs)
			}
		})
	}
}

// Engines that guess a type for each value refuse integers beside fractions under
// a new name, in either order. As fractions all of them are stored as fields.
func TestCommit_StoresIntegersBesideFractionsAsFractions(t *testing.T) {
	for _, tt := range []struct{ line, name, want string }{
		{`{"ms":[1.5,1,-20,3e2],"n":1}`, "ms", `[1.5,1.0,-20.0,3e2]`},
		{`{"ms":[ 1 , 1.5 ],"n":1}`, "ms", `[ 1.0 , 1.5 ]`},
		{`{"calls":[{"ms":1,"n":2},{"ms":[[1.5]],"n":3}],"n":1}`, "calls.ms", `[{"ms":1.0,"n":2},{"ms":[[1.5]],"n":3}]`},
		{`{"":0,"ms":[1,{"x":2},"3",0.5],"n":1}`, "ms", `[1.0,{"x":2},"3",0.5]`},
	} {
		e := newScripted(t)
		e.item = func(_ int, _ place, source string) string {
			top, _, _ := strings.Cut(tt.name, ".")
			if value := gjson.Get(source, top).Raw; value != "" && value != tt.want {
				return refuse(400, "illegal_argument_exception", "mapper ["+tt.name+"] cannot be changed from type [double] to [long]")
			}
			return ""
		}
		sid := handshake.NewSID()
		checkCounts(t, mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, tt.line)), 1, 0, 0)
		doc := e.sourceOf(testIndex, sid, 1)
		top, _, _ := strings.Cut(tt.name, ".")
		if gjson.Get(doc, top).Raw != tt.want || gjson.Get(doc, "n").Raw != "1" {
			t.Errorf("%s became %s, want %s in it", tt.line, doc, tt.want)
		}
		if isCut := strings.HasPrefix(tt.line, `{"":`); gjson.Get(doc, "wsrelay.why").Exists() != isCut ||
			gjson.Get(doc, "wsrelay.line").Exists() != isCut {
			t.Errorf("%s became %s: nothing of it was refused in the end", tt.line, doc)
		}
		checkCounts(t, mustCommit(t, openAt(t, e.URL), batchOf(sid, 1, tt.line)), 0, 1, 0)
	}
}

// Several members that do not fit are left out one after the other.
func TestCommit_LeavesOutSeveralMembers(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.item = func(_ int, _ place, source string) string {
		for _, name := range []string{"a", "b", "c"} {
			if gjson.Get(source, name).Exists() {
				return refuse(400, "mapper_parsing_exception", "failed to parse field ["+name+"] of type [long]")
			}
		}
		return ""
	}
	sid := handshake.NewSID()
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, `{"a":"x","b":"y","c":"z","d":1}`)), 1, 0, 0)
	if doc := e.sourceOf(testIndex, sid, 1); gjson.Get(doc, "wsrelay.omitted").Raw != `["a","b","c"]` ||
		gjson.Get(doc, "d").Int() != 1 {
		t.Errorf("the document is %s", doc)
	}
}

// A line that spoils every request that it is in is found, and costs its
// neighbours nothing.
func TestCommit_FindsTheLineThatNoRequestWorksWith(t *testing.T) {
	for name, spoil := range map[string]func(w http.ResponseWriter) bool{
		"400":       func(w http.ResponseWriter) bool { return answerWith(w, 400, `{"error":{"type":"x","reason":"y"}}`) },
		"500":       func(w http.ResponseWriter) bool { return answerWith(w, 500, `{"error":{"type":"x","reason":"y"}}`) },
		"502":       func(w http.ResponseWriter) bool { return answerWith(w, 502, "<html>") },
		"no answer": hangUp,
		"not JSON":  func(w http.ResponseWriter) bool { return answerWith(w, 200, "OK") },
	} {
		for form, poison := range map[string]string{"as fields": `"poison":`, "in any form": `poison`} {
			t.Run(name+", "+form, func(t *testing.T) {
				e := newScripted(t)
				s := openAt(t, e.URL)
				e.before = func(w http.ResponseWriter, _ int, body []byte) bool {
					return strings.Contains(string(body), poison) &&
						strings.Contains(string(body), `"_index":"`+testIndex) && spoil(w)
				}
				sid, lines := handshake.NewSID(), linesFrom(1, 20)
				lines[13] = `{"poison":1}`
				r := mustCommit(t, s, batchOf(sid, 1, lines...))
				if form == "as fields" {
					checkCounts(t, r, 20, 0, 0)
					e.checkStored(t, sid, 1, lines)
				} else if checkCounts(t, r, 19, 0, 1); r.Rejected[0].Seq != 14 {
					t.Errorf("seq %d rejected, want 14", r.Rejected[0].Seq)
				}
			})
		}
	}
}

// One shard of an index that is down is the engine's trouble, though the others
// take documents all the while.
func TestCommit_HoldsTheLinesOfAShardThatIsDown(t *testing.T) {
	for _, status := range []int{503, 500, 400} {
		e := newScripted(t)
		s := openAt(t, e.URL)
		e.item = func(_ int, at place, _ string) string {
			if at.id[len(at.id)-1]%2 == 0 {
				return refuse(status, "unavailable_shards_exception", "primary shard is not active")
			}
			return ""
		}
		sid, lines := handshake.NewSID(), linesFrom(1, 20)
		b := batchOf(sid, 1, lines...)
		if _, err := s.Commit(t.Context(), []receiver.Batch{b}); asError(err).Status != status {
			t.Fatalf("error %v, want that the shard is down", err)
		}
		for at, source := range e.docs {
			if at.index != testIndex || gjson.Get(source, "wsrelay.why").Exists() {
				t.Errorf("%v became %s", at, source)
			}
		}
		e.item = nil
		checkCounts(t, mustCommit(t, s, b), 9, 11, 0)
		e.checkStored(t, sid, 1, lines)
	}
}

// A stream whose line spoils requests must not spoil those of others.
func TestCommit_KeepsASpoilingStreamApart(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	e.before = func(w http.ResponseWriter, _ int, body []byte) bool {
		return strings.Contains(string(body), `"poison":`) && answerWith(w, 500, "{}")
	}
	merged := newOps("logs", []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")})
	apart := newOps("logs", []receiver.Batch{batchOf(handshake.NewSID(), 1, "b")})
	apart[0].err = &Error{Status: 500, whole: true}
	s.names.write(append(merged, apart...))
	s.bulks.mu.Lock()
	for i, ops := range [][]*op{merged, apart, merged} {
		c := &call{left: 1, done: make(chan struct{}), alone: isAlone(ops)}
		for _, o := range ops {
			copied := *o
			copied.call, copied.seq = c, uint64(i)
			s.bulks.queue = append(s.bulks.queue, &copied)
		}
	}
	var sizes []int
	for len(s.bulks.queue) > 0 {
		sizes = append(sizes, len(s.bulks.nextBulkLocked()))
	}
	s.bulks.mu.Unlock()
	if fmt.Sprint(sizes) != "[1 1 1]" {
		t.Errorf("bulks of %v documents, want the one in the middle apart", sizes)
	}
}

// Lines with names that differ ask an engine for few changes of a mapping.
func TestCommit_BringsAnIndexFewNames(t *testing.T) {
	e := newScripted(t)
	s := openAt(t, e.URL)
	sid := handshake.NewSID()
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf(`{"name_%d":%d,"same":1}`, i, i))
	}
	checkCounts(t, mustCommit(t, s, batchOf(sid, 1, lines...)), len(lines), 0, 0)
	names, found := make(map[string]bool), 0
	for _, source := range e.docs {
		whole := gjson.Get(source, "wsrelay.line").Exists()
		if whole {
			found++
		}
		if !gjson.Get(source, "same").Exists() && !whole {
			t.Fatalf("lost: %s", source)
		}
		for _, m := range membersOf(source, nil) {
			names[m.name] = true
		}
	}
	if len(names) > 40 || found < 2900 {
		t.Errorf("%d names, %d lines as text too", len(names), found)
	}
	var fields []string
	for i := range 300 {
		fields = append(fields, fmt.Sprintf(`"key_%d":1`, i))
	}
	e.docs = make(map[place]string)
	mustCommit(t, s, batchOf(handshake.NewSID(), 1, "{"+strings.Join(fields, ",")+"}"))
	for _, source := range e.docs {
		if strings.Count(source, "key_") > 2*300 || gjson.Get(source, "key_1").Exists() {
			t.Errorf("data became names: %.300s", source)
		}
	}
}
