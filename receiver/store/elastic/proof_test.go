package elastic

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// lookalike answers as an engine does, but keeps every document it is sent.
func lookalike(t *testing.T, items func(body string) string, found string) (url string, documents *atomic.Int64) {
	t.Helper()
	documents = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/":
			fmt.Fprint(w, `{"version":{"number":"8.9.0"}}`)
		case "/_bulk":
			documents.Add(1)
			fmt.Fprint(w, items(string(body)))
		case "/_mget":
			fmt.Fprint(w, found)
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, documents
}

// What takes an id twice, or does not find it, would store lines more than once.
func TestOpen_RefusesWhatDoesNotKeepAnIDOnce(t *testing.T) {
	created := func(body string) string {
		return fmt.Sprintf(`{"items":[{"create":{"_id":%q,"status":201}}]}`, gjson.Get(body, "create._id").Str)
	}
	var n atomic.Int64
	for name, tt := range map[string]struct {
		items func(body string) string
		found string
	}{
		"takes it twice":      {created, `{"docs":[{"found":false}]}`},
		"says nothing of ids": {func(string) string { return `{"took":1,"errors":false,"items":[{"create":{"status":201}}]}` }, `{}`},
		"says nothing at all": {func(string) string { return `OK` }, `{}`},
		"refuses, finds none": {func(body string) string {
			if n.Add(1)%2 == 0 {
				return strings.Replace(created(body), "201", "409", 1)
			}
			return created(body)
		}, `{"docs":[{"_id":"x","found":false}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			url, documents := lookalike(t, tt.items, tt.found)
			_, err := Open(t.Context(), url, Options{})
			if err == nil || !strings.Contains(err.Error(), "more than once") ||
				!strings.Contains(err.Error(), "logs:DIR") {
				t.Errorf("Open: %v, want which store to use instead", err)
			}
			if documents.Load() > 2 {
				t.Errorf("%d documents were written", documents.Load())
			}
		})
	}
}

// An engine that is down when wsreceive starts proves itself before the first
// line.
func TestCommit_ProvesAnEngineThatWasDown(t *testing.T) {
	e := newScripted(t)
	var down atomic.Bool
	down.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			answerWith(w, http.StatusBadGateway, "<html>\n<b>bad gateway</b>")
			return
		}
		e.serve(w, r)
	}))
	defer srv.Close()
	s := openAt(t, srv.URL)
	b := batchOf(handshake.NewSID(), 1, "a")
	_, err := s.Commit(t.Context(), []receiver.Batch{b})
	if got := (*Error)(nil); !errors.As(err, &got) || !strings.Contains(err.Error(), "502: <html> <b>bad gateway</b>") {
		t.Errorf("error %v, want what the proxy has said", err)
	}
	if len(e.proof) > 0 {
		t.Error("proved while it was down")
	}
	down.Store(false)
	checkCounts(t, mustCommit(t, s, b), 1, 0, 0)
	if len(e.proof) != 1 {
		t.Errorf("%d documents of a proof, want 1", len(e.proof))
	}
	down.Store(true)
	if err := s.verifyEngine(t.Context()); err != nil {
		t.Errorf("asked again: %v", err)
	}
}

// An OpenSearch whose disk is nearly full makes no index. A wsreceive that starts
// then waits like one that was there before, and the engine must not make the
// index automatically once it can: it would guess the types of our fields.
func TestOpen_WaitsWhileTheEngineMakesNoIndex(t *testing.T) {
	e := newScripted(t)
	var blocked atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if blocked.Load() && r.Method == http.MethodPut {
			answerWith(w, http.StatusForbidden, `{"error":{"type":"index_create_block_exception","reason":"blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];"},"status":403}`)
			return
		}
		e.serve(w, r)
	}))
	defer srv.Close()
	b := batchOf(handshake.NewSID(), 1, "a")
	for _, proved := range []bool{false, true} {
		blocked.Store(!proved)
		s := openAt(t, srv.URL)
		blocked.Store(true)
		_, err := s.Commit(t.Context(), []receiver.Batch{b})
		if got := (*Error)(nil); !errors.As(err, &got) || !strings.Contains(got.Hint(), "disk space") {
			t.Fatalf("proved %t: error %v, want one whose hint is about disk space", proved, err)
		}
		if len(e.bulks) > 0 {
			t.Errorf("proved %t: %d bulks were sent", proved, len(e.bulks))
		}
		if proved {
			blocked.Store(false)
			checkCounts(t, mustCommit(t, s, b), 1, 0, 0)
		}
	}
}
