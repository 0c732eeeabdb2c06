package elastic

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/test/faults"
)

// registry is an engine in memory that has the owners of streams and nothing else.
type registry struct {
	mu      sync.Mutex
	docs    map[string]string // owner by id
	version map[string]int
	down    bool
}

func (e *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/wsrelay-streams/"), "/")
	var doc struct{ Owner string }
	switch _ = json.NewDecoder(r.Body).Decode(&doc); {
	case e.down:
		answerWith(w, http.StatusServiceUnavailable, `{"error":{"type":"down","reason":"down"}}`)
	case r.URL.Path == "/":
		fmt.Fprint(w, `{"version":{"number":"2.19.1","distribution":"opensearch"}}`)
	case r.Method == http.MethodGet && name == "_doc":
		if e.docs[id] == "" {
			answerWith(w, http.StatusNotFound, `{"found":false}`)
			return
		}
		fmt.Fprintf(w, `{"_id":%q,"_seq_no":%d,"_primary_term":1,"found":true,"_source":{"sid":%q,"owner":%q}}`, id,
			e.version[id], id, e.docs[id])
	case name == "_create" && e.docs[id] != "",
		name == "_doc" && r.URL.Query().Get("if_seq_no") != strconv.Itoa(e.version[id]):
		answerWith(w, http.StatusConflict, `{"error":{"type":"version_conflict_engine_exception","reason":"exists"}}`)
	case name == "_create", name == "_doc":
		e.docs[id] = doc.Owner
		e.version[id]++
		fmt.Fprint(w, `{"result":"created"}`)
	case name == "_search":
		ids := make([]string, 0, len(e.docs))
		for id := range e.docs {
			ids = append(ids, fmt.Sprintf(`{"_id":%q,"_source":{"owner":%q}}`, id, e.docs[id]))
		}
		slices.Sort(ids)
		fmt.Fprintf(w, `{"hits":{"hits":[%s]}}`, strings.Join(ids, ","))
	default:
		fmt.Fprint(w, `{"acknowledged":true}`)
	}
}

func checkOwners(t *testing.T, a, b *Store) {
	sid := handshake.NewSID()
	set := func(s *Store, from, to, want string) {
		t.Helper()
		if got, err := s.SetOwner(t.Context(), sid, from, to); err != nil || got != want {
			t.Errorf("from %q to %q: got %q, %v; want %q", from, to, got, err, want)
		}
	}
	if got, err := a.Owner(t.Context(), sid); got != "" || err != nil {
		t.Errorf("a new stream: got %q, %v", got, err)
	}
	set(a, "", "web-a", "web-a")
	set(b, "", "web-b", "web-a")
	set(b, "web-c", "web-b", "web-a")
	set(b, "web-a", "web-b", "web-b")
	if got, err := a.Owner(t.Context(), sid); got != "web-b" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	found := false
	err := b.EachOwner(t.Context(), func(s, owner string) bool { found = found || s == sid && owner == "web-b"; return true })
	if !found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
}

func TestOwner_IsTheSameForAllReceivers(t *testing.T) {
	e := &registry{docs: map[string]string{}, version: map[string]int{}, down: true} // it keeps no documents, which Open would find out
	srv := httptest.NewServer(e)
	defer srv.Close()
	var stores [2]*Store
	for i := range stores {
		s, err := Open(t.Context(), srv.URL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[i] = s
	}
	e.mu.Lock()
	e.down = false
	e.mu.Unlock()
	checkOwners(t, stores[0], stores[1])

	sid := handshake.NewSID()
	if _, err := stores[0].SetOwner(t.Context(), sid, "", "web-a"); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.down = true
	e.mu.Unlock()
	if got, err := stores[0].Owner(t.Context(), sid); got != "web-a" || err != nil {
		t.Errorf("while the engine is down: got %q, %v", got, err)
	}
	if _, err := stores[1].Owner(t.Context(), sid); err == nil {
		t.Error("it is known what was never asked")
	}
}

func TestEngine_KeepsTheOwnersOfStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	url := faults.Engine(t)
	var stores [2]*Store
	for i := range stores {
		s, err := Open(t.Context(), url, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[i] = s
	}
	checkOwners(t, stores[0], stores[1])
}

// A clock that is wrong, an answer that is lost, and the same line again on
// another day: its place follows from what the sender repeats, and from nothing
// else.
func TestPlace_DependsOnWhatTheSenderRepeatsOnly(t *testing.T) {
	days := map[string]bool{}
	for year := range 10_000 {
		at := time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)
		b := []receiver.Batch{{SID: handshake.NewSID(), Seq: 1, At: at, Lines: [][]byte{[]byte("x")}}}
		first, again := newOps("logs", b)[0], newOps("logs", b)[0]
		if first.index != again.index || first.deadIndex() != again.deadIndex() {
			t.Fatalf("%v: %s, then %s", at, first.index, again.index)
		}
		days[first.index] = true
	}
	if len(days) != 101 || !days["wsrelay-logs-2026.06.01"] || !days["wsrelay-logs-1970.01.01"] {
		t.Errorf("%d indices", len(days))
	}
}
