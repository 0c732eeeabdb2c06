package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/internal/metrics"

	"wsrelay/receiver/store/logs/row"
)

// served is a store with 1,000 lines and a server of its query API.
func served(t *testing.T, o Options) (*Store, string) {
	t.Helper()
	s := open(t, t.TempDir(), o)
	add(t, s, "e-1", lines(1, 1000, time.Now()))
	barrier(t, s)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return s, server.URL
}

func get(t *testing.T, address string, header ...string) (status int, body string, h http.Header, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b), answer.Header, err
}

func TestHandler_AnswersTheQueryAPIUnderItsOwnPaths(t *testing.T) {
	_, address := served(t, testOptions())
	all := url.QueryEscape("*")
	for path, want := range map[string]string{
		"/select/logsql/query?limit=1000&query=" + url.QueryEscape(`"line 77"`):                       "line 77 of the test",
		"/select/logsql/hits?step=1d&query=" + all:                                                    `"total":1000`,
		"/select/logsql/facets?query=" + all:                                                          `"field_name"`,
		"/select/logsql/field_names?query=" + all:                                                     "wsrelay.segment",
		"/select/logsql/field_values?field=host&query=" + all:                                         "web1",
		"/select/logsql/streams?query=" + all:                                                         `program=\"test\"`,
		"/select/logsql/stats_query?query=" + url.QueryEscape("* | stats count() n"):                  `"1000"`,
		"/select/logsql/stats_query_range?step=1d&query=" + url.QueryEscape("* | stats count() rows"): `"success"`,
		"/select/logsql//query?query=" + url.QueryEscape(`"wsrelay.seq":=`+row.SeqValue(5)):           "line 5 of",
		"/select/vmui/":      "UI for VictoriaLogs",
		"/select/vmui":       "UI for VictoriaLogs",
		"/select/buildinfo":  "success",
		"/select/tenant_ids": "",
	} {
		status, body, h, err := get(t, address+path)
		if status != http.StatusOK || err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, %v: %.300s; want %q", path, status, err, body, want)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control") {
				t.Errorf("%s: other sites may read it: %s", path, name)
			}
		}
	}
}

func TestHandler_OffersNothingThatChangesTheStoreOrReachesFurther(t *testing.T) {
	s, address := served(t, testOptions())
	for _, path := range []string{
		"/delete/run_task?filter=*", "/internal/force_flush", "/internal/partition/detach?name=20260101",
		"/internal/select/query", "/internal/delete/run_task",
		"/select/vmalert/api/v1/rules", "/select//vmalert/", "/select/logsql/../../internal/force_flush",
		"/select/vmui/../../internal/partition/list", "/insert/jsonline", "/metrics", "/", "/select/",
	} {
		r := httptest.NewRequest(http.MethodGet, address+path, nil)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, %.100s; want 404", path, w.Code, w.Body)
		}
	}
	if status, _, _, _ := get(t, address+"/select/logsql/query?query=*", "Sec-Fetch-Site",
		"cross-site"); status != http.StatusForbidden {
		t.Errorf("another site: status %d; want 403", status)
	}
}

func TestHandler_RefusesWhatHasNoBound(t *testing.T) {
	_, address := served(t, testOptions())
	for _, path := range []string{
		"/select/logsql/query?query=*&limit=100001", "/select/logsql/tail?query=*&refresh_interval=1ms",
		"/select/logsql/tail?query=*&start_offset=10y",
		"/select/logsql/query?query=" + strings.Repeat("x", 20000),
		"/select/logsql/query?query=" + url.QueryEscape(`"unclosed`),
	} {
		status, body, _, _ := get(t, address+path)
		if status != http.StatusBadRequest || body == "" || strings.Contains(body, "-search.") {
			t.Errorf("%.60s: status %d, %.200q; want a reason without a name of a flag", path, status, body)
		}
	}
}

func TestHandler_AQueryEndsInTimeAndSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	o := testOptions()
	o.QueryTime = time.Millisecond
	s, address := served(t, o)
	for i := range 40 {
		add(t, s, "e-2", lines(uint64(10000+5000*i), 5000, time.Now()))
	}
	barrier(t, s)
	status, body, _, err := get(t, address+"/select/logsql/query?query="+url.QueryEscape(`_msg:~"(a|b|c)*line.*7.*9" | sort by (_msg)`))
	if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(body, "took longer")) {
		t.Errorf("status %d, %.200q; want 503 and a reason", status, body)
	}
}

func TestHandler_BreaksAnAnswerThatIsNotComplete(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, cancel := context.WithCancel(r.Context())
		b := &boundedAnswer{ResponseWriter: w, control: http.NewResponseController(w), stop: cancel, left: 100}
		for range 20 {
			_, _ = b.Write([]byte("0123456789"))
			b.Flush()
		}
		b.finish()
	}))
	defer server.Close()
	_, body, _, err := get(t, server.URL)
	if err == nil || !strings.Contains(body, "too large") {
		t.Errorf("%q, %v; want a broken answer that says why", body, err)
	}
}

func TestHandler_TailShowsNewLinesAndIsBounded(t *testing.T) {
	s, address := served(t, testOptions())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tail := func() *http.Response {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet,
			address+"/select/logsql/tail?query=*&offset=0s&refresh_interval=100ms", nil)
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	first := tail()
	if first.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("other sites may read a tail")
	}
	for range maxTails - 1 {
		if answer := tail(); answer.StatusCode != http.StatusOK {
			t.Fatalf("status %d", answer.StatusCode)
		}
	}
	if answer := tail(); answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more than %d tails: status %d", maxTails, answer.StatusCode)
	}
	said := bufio.NewScanner(first.Body)
	add(t, s, "e-3", lines(777777, 1, time.Now()))
	for said.Scan() {
		if strings.Contains(said.Text(), "line 777777") {
			return
		}
	}
	t.Error("the tail ended without the new line: ", said.Err())
}

func TestHandler_ManyQueriesAtTheSameTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	_, address := served(t, testOptions())
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if status, body, _, err := get(t, address+"/select/logsql/query?limit=10&query=line"); status != http.StatusOK || strings.Count(body, "\n") != 10 || err != nil {
				t.Errorf("status %d, %v", status, err)
			}
		})
	}
	wg.Wait()
}

func TestSocket_AnswersTheCommandLineWhateverThePathsLength(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	for range 2 { // a socket that a kill left behind is made again
		s := open(t, dir, testOptions())
		info, err := os.Lstat(filepath.Join(dir, "query.sock"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, dir) },
		}}
		answer, err := client.Get("http://store/select/logsql/query?query=*")
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
		to := filepath.Join(t.TempDir(), "copy")
		answer, err = client.PostForm("http://store/store/backup", url.Values{"to": {to}})
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
		if _, err := os.Stat(filepath.Join(to, "skeletons")); err != nil {
			t.Error(err)
		}
		shut(t, s)
		if err := os.WriteFile(filepath.Join(dir, "query.sock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStore_SaysThatTheDiskIsFull(t *testing.T) {
	o := testOptions()
	o.Reserve = 1 << 60
	s := open(t, t.TempDir(), o)
	for what, err := range map[string]error{
		"Ready":  s.Ready(t.Context()),
		"Add":    s.db.Add(t.Context(), "e-1", lines(1, 1, time.Now())),
		"Backup": s.Backup(t.Context(), filepath.Join(t.TempDir(), "b")),
	} {
		if !errors.Is(err, ErrFull) {
			t.Errorf("%s = %v; want ErrFull", what, err)
		}
	}
	var text metrics.Text
	s.Metrics(&text)
	if !strings.Contains(string(text.Bytes()), "wsreceive_store_full 1") {
		t.Errorf("metrics: %s", text.Bytes())
	}
}

// What waits in the journal is applied from the moment on that the journal is open.
func TestOpen_WithLinesThatWaitOnAFullDisk(t *testing.T) {
	dir, o := t.TempDir(), testOptions()
	s := open(t, dir, o)
	s.db.adding.Lock() // nothing is applied
	if _, err := s.Commit(t.Context(), lines(1, 3, time.Now())); err != nil {
		t.Fatal(err)
	}
	moment := filepath.Join(t.TempDir(), "moment")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", dir, moment).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	s.db.adding.Unlock()
	shut(t, s)
	full := o
	full.Reserve = 1 << 60
	s = open(t, moment, full)
	time.Sleep(50 * time.Millisecond) // taking a lock now would hide a race
	if err := s.Wait(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("Wait on a full disk = %v; want ErrFull", err)
	}
	shut(t, s)
	s = open(t, moment, o)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.answer(t, "* | stats count() lines"); got != `{"lines":"3"}`+"\n" {
		t.Errorf("%s; want 3 lines", got)
	}
}

func TestLibraryLog_UsesOurWordsAndShowsNoLine(t *testing.T) {
	book := &logbook{}
	o := testOptions()
	o.Log = book.logger()
	s := open(t, t.TempDir(), o)
	l := &libraryLog{store: s}
	for _, level := range []string{"info", "warn", "error"} {
		fmt.Fprintf(l, `{"level":%q,"caller":"x","msg":%q}`+"\n", level,
			"skipping log entry {\"password\":\"hunter2\"} -retentionPeriod")
		fmt.Fprintf(l, `{"level":%q,"caller":"x","msg":%q}`+"\n", level, "cannot do it, see -storageDataPath")
	}
	got := book.String()
	if strings.Contains(got, "hunter2") || strings.Contains(got, "storageDataPath") ||
		strings.Contains(got, "retentionPeriod") || !strings.Contains(got, "hint=") || s.refused.Load() != 3 {
		t.Error(got)
	}
}

func TestHandler_GivesLinesAsTheyCame(t *testing.T) {
	s := open(t, t.TempDir(), Options{Reserve: 1 << 20})
	b := lines(1, 3, time.Now())
	b[0].Lines[0], b[0].Lines[1] = []byte("odd \xff line"), []byte(`{"a":1,  "b":"line"}`)
	commit(t, s, b)
	ask := func(args string) (int, []string) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/select/lines?"+args, nil))
		var got []string
		for in := json.NewDecoder(w.Body); w.Code == http.StatusOK; {
			var l Found
			if err := in.Decode(&l); err != nil {
				break
			}
			got = append(got, string(l.Text))
		}
		return w.Code, got
	}
	_, got := ask("query=*&limit=10")
	slices.Sort(got)
	want := []string{string(b[0].Lines[2]), string(b[0].Lines[0]), string(b[0].Lines[1])}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, got := ask("query=*&limit=1"); len(got) != 1 {
		t.Errorf("%q, want one", got)
	}
	for _, args := range []string{"query=*", "query=(&limit=1", "query=*|delete&limit=1"} {
		if status, _ := ask(args); status != http.StatusBadRequest {
			t.Errorf("%s: %d", args, status)
		}
	}
}
