package elastic

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
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
	"wsrelay/test/faults"
)

// sendersEngine is an engine in memory that has the index of senders, with versions
// as the engines have them.
type sendersEngine struct {
	mu       sync.Mutex
	docs     map[string]string
	versions map[string]int64
	refuses  bool // documents, one by one
	down     bool
}

func (e *sendersEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	path := r.URL.Path
	if e.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		path = ""
	}
	switch path {
	case "/" + sendersIndex + "/_bulk":
		var items []string
		for in := bufio.NewScanner(r.Body); in.Scan(); {
			action := gjson.ParseBytes(in.Bytes())
			id, status, name := action.Get("*._id").Str, 200, "index"
			switch version := action.Get("index.version").Int(); {
			case action.Get("delete").Exists():
				name = "delete"
				delete(e.docs, id)
			case in.Scan() && e.refuses:
				status = 429
			case version < e.versions[id]:
				status = 409
			default:
				e.docs[id], e.versions[id] = in.Text(), version
			}
			items = append(items, fmt.Sprintf(`{%q:{"_id":%q,"status":%d,"error":{"reason":"no"}}}`, name, id, status))
		}
		fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(items, ","))
	case "/" + sendersIndex + "/_search":
		var q struct {
			After []string `json:"search_after"`
			Size  int
		}
		_ = json.NewDecoder(r.Body).Decode(&q)
		var hits []string
		for _, id := range slices.Sorted(maps.Keys(e.docs)) {
			if (len(q.After) == 0 || id > q.After[0]) && len(hits) < q.Size {
				hits = append(hits, fmt.Sprintf(`{"_id":%q,"_source":%s}`, id, e.docs[id]))
			}
		}
		fmt.Fprintf(w, `{"hits":{"hits":[%s]}}`, strings.Join(hits, ","))
	default:
		fmt.Fprint(w, `{"acknowledged":true}`)
	}
}

// checkSenders keeps the senders of two receivers with one engine.
func checkSenders(t *testing.T, a, b *Store, n int) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	all := make([]receiver.Sender, n)
	for i := range all {
		all[i] = receiver.Sender{
			SID: handshake.NewSID(), Host: fmt.Sprintf("web%d", i), First: now, Seen: now,
			Line: now, Lines: int64(i),
		}
	}
	if err := a.KeepSenders(t.Context(), all, all, nil); err != nil {
		t.Fatal(err)
	}
	older, newer := all[0], all[1]
	older.Seen, older.Lines = now.Add(-time.Hour), 77
	newer.Seen, newer.Lines = now.Add(time.Hour), 78
	if err := b.KeepSenders(t.Context(), nil, []receiver.Sender{older, newer}, []string{all[2].SID}); err != nil {
		t.Fatal(err)
	}
	got, err := a.Senders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int64{}
	for _, s := range got {
		lines[s.SID] = s.Lines
	}
	_, deleted := lines[all[2].SID]
	if len(got) < n-1 || lines[all[0].SID] != 0 || lines[all[1].SID] != 78 || deleted ||
		lines[all[n-1].SID] != int64(n-1) {
		t.Errorf("got %d senders, want %d; of the first three the lines are %d %d, deleted %v", len(got), n-1,
			lines[all[0].SID], lines[all[1].SID], !deleted)
	}
	var sids []string
	for i := range all {
		sids = append(sids, all[i].SID)
	}
	if err := a.KeepSenders(t.Context(), nil, nil, sids); err != nil {
		t.Error(err)
	}
}

func TestSenders_AreSharedByReceiversAndTheNewestWins(t *testing.T) {
	e := &sendersEngine{docs: map[string]string{}, versions: map[string]int64{}, down: true} // it keeps no lines, which Open would find out
	srv := httptest.NewServer(e)
	defer srv.Close()
	open := func() *Store {
		s, err := Open(t.Context(), srv.URL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	a, b := open(), open()
	e.mu.Lock()
	e.down = false
	e.mu.Unlock()
	checkSenders(t, a, b, 2*documentsPage+10)
	e.mu.Lock()
	e.refuses = true
	e.mu.Unlock()
	if err := a.KeepSenders(t.Context(), nil, []receiver.Sender{{SID: handshake.NewSID()}}, nil); err == nil ||
		!strings.Contains(err.Error(), "HTTP 429") {
		t.Errorf("a document that was refused counts as kept: %v", err)
	}
}

func TestEngine_KeepsSenders(t *testing.T) {
	faults.Engine(t)
	checkSenders(t, realStore(t, newPrefix(t), ""), realStore(t, newPrefix(t), ""), 1200)
}
