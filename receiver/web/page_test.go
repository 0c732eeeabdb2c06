package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"go.uber.org/goleak"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/logsql"
)

func TestMain(m *testing.M) {
	// The engine has a helper that lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/VictoriaMetrics/VictoriaMetrics/lib/blockcache.(*Cache).cleaner"))
}

const (
	sidA = "aaaaaaaaaaaaaaaa"
	sidB = "bbbbbbbbbbbbbbbb"
)

// site is a page over a store, on a port of its own.
type site struct {
	*httptest.Server
	store receiver.Store
	logs  *logs.Store // nil: the site is watched only
	seqs  map[string]uint64
}

func newSite(t *testing.T, o ...Options) *site {
	t.Helper()
	store, err := logs.Open(t.TempDir(), logs.Options{Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	live := NewLive(store)
	return &site{serve(t, New(store, live, append(o, Options{})[0])), live, store, map[string]uint64{}}
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return server
}

// add stores lines of one moment.
func (s *site) add(t *testing.T, sid, host string, at time.Time, lines ...string) {
	t.Helper()
	b := receiver.Batch{SID: sid, Host: host, Seq: s.seqs[sid] + 1, At: at}
	for _, line := range lines {
		b.Lines = append(b.Lines, []byte(line))
	}
	if _, err := s.store.Commit(t.Context(), []receiver.Batch{b}); err != nil {
		t.Fatal(err)
	}
	s.seqs[sid] = b.End() - 1
}

// searchable waits until searches find all that was added.
func (s *site) searchable(t *testing.T) {
	t.Helper()
	if err := s.logs.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) get(t *testing.T, path string, set ...func(*http.Request)) (status int, body string, h http.Header) {
	t.Helper()
	if s.logs != nil {
		s.searchable(t)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

func TestPage_LetsNoOtherSiteAsk(t *testing.T) {
	s := newSite(t)
	for site, want := range map[string]int{"same-origin": 200, "none": 200, "cross-site": 403, "same-site": 403} {
		for _, path := range []string{"/api/search", "/select/logsql/query?query=*", "/select/logsql/facets?query=*"} {
			got, _, h := s.get(t, path, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
			if got != want {
				t.Errorf("%s, %s: got %d, want %d", site, path, got, want)
			}
			for name := range h {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s, %s: it may be read: %s", site, path, name)
				}
			}
		}
	}
}

func TestPage_LoadsNothingFromElsewhere(t *testing.T) {
	s := newSite(t)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
		"/text.js":  "text/javascript; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml",
	} {
		status, body, h := s.get(t, path)
		if status != 200 || h.Get("Content-Type") != kind {
			t.Errorf("%s: got %d, %s", path, status, h.Get("Content-Type"))
		}
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'") ||
			h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got headers %v", path, h)
		}
		body = strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"http:", "https:", "innerHTML", "style=", "onclick", "eval("} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %s", path, bad)
			}
		}
	}
	if status, _, _ := s.get(t, "/other"); status != 404 {
		t.Errorf("/other: got %d", status)
	}
}

func TestSearch_TellsLinesAndWhoWroteThem(t *testing.T) {
	s := newSite(t)
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	s.add(t, sidA, "relay1", at, `{"host":"web1","program":"nginx","severity":"ERROR","message":"upstream timed out"}`,
		"plain <b>text</b>\xff")
	s.add(t, sidB, "db1", at.Add(time.Second), strings.Repeat("ü", 3000))
	_, body, _ := s.get(t, "/api/search?limit=2")
	var got struct {
		Lines    []line
		More     bool
		Complete bool
		Facets   map[string][]facet
		FacetsOf int
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Lines) != 2 || !got.More || !got.Complete || got.FacetsOf != 3 {
		t.Fatalf("got %s", body)
	}
	if l := got.Lines[0]; l.Host != "db1" || l.Text != strings.Repeat("ü", 1024) || l.Time != at.UnixMilli()+1000 {
		t.Errorf("got %+v", l)
	}
	if l := got.Lines[1]; l.Text != "plain <b>text</b>ÿ" || l.Host != "relay1" {
		t.Errorf("got %+v", l)
	}
	if f := got.Facets; len(f["host"]) != 3 || f["program"][0] != (facet{"nginx", 1}) ||
		f["level"][0] != (facet{"error", 1}) {
		t.Errorf("got %+v", f)
	}
	_, body, _ = s.get(t, "/api/search?q=program:nginx&from=2026-03-14&to=2026-03-15")
	if !strings.Contains(body, `"text":"upstream timed out"`) || strings.Contains(body, "plain") {
		t.Errorf("got %s", body)
	}
}

func TestSearch_SaysWhatIsWrongWithAQuery(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]string{
		"q=" + url.QueryEscape(`(a or b`):   `{"error":"a closing parenthesis is missing","logsql":"(*:i(\"a\") or *:i(\"b\")","understood":21}`,
		"q=" + url.QueryEscape(`a)`):        `{"error":"\")\" is not expected here","logsql":"*:i(\"a\"))","understood":8}`,
		"q=" + url.QueryEscape(`status:>=`): `{"error":"something is missing here","logsql":"status:\u003e=","understood":9}`,
		"q=" + url.QueryEscape(`a |`):       `{"error":"something is missing after |","logsql":"*:i(\"a\") |","understood":10}`,
		"q=" + url.QueryEscape(`-i error`):  `{"error":"options of grep mean nothing here; write error, -debug for lines without it; upper and lower case are the same, or put it into quotes to search for it","logsql":"-i error","understood":0}`,
		"from=gestern":                      `{"error":"\"gestern\" is not a time such as 2026-03-14 15:09, 15:09, yesterday, -1h or 2026-03-14T15:09:26Z","logsql":"*"}`,
	} {
		for _, api := range []string{"search", "histogram", "tail"} {
			status, body, _ := s.get(t, "/api/"+api+"?"+path)
			if status != 400 || strings.TrimSpace(body) != want {
				t.Errorf("%s?%s: got %d, %s", api, path, status, body)
			}
		}
	}
}

func TestHistogram_CountsOverTime(t *testing.T) {
	s := newSite(t)
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		s.add(t, sidA, "web1", at.Add(time.Duration(i)*time.Minute), "a", "b")
	}
	status, body, _ := s.get(t, "/api/histogram?q=a&bars=10")
	want := fmt.Sprintf(`{"counts":[1,1,1,1,1,1,1,1,1,1],"from":%d,"total":10,"width":60000}`, at.UnixMilli())
	if status != 200 || strings.TrimSpace(body) != want {
		t.Errorf("got %d, %s, want %s", status, body, want)
	}
}

func TestLine_HasItsFields(t *testing.T) {
	s := newSite(t)
	hostile := `{"a":{"b":"<script>"},"list":[1,2],"big":12345678901234567890}`
	s.add(t, sidA, "web1", time.UnixMilli(1_700_000_000_000), hostile, strings.Repeat("x", 1<<20))
	_, body, _ := s.get(t, "/api/line?uid="+sidA+"0000000000001")
	for _, want := range []string{
		`{"name":"a.b","value":"\u003cscript\u003e"},{"name":"big","value":"12345678901234567890"},{"name":"host","value":"web1"},{"name":"list","value":"[1,2]"}`,
		`"seq":"1"`, `"sid":"` + sidA + `"`, `"arrived":1700000000000`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	if _, body, _ := s.get(t, "/api/line?uid="+sidA+"0000000000002"); len(body) > cutLine+1000 ||
		!strings.Contains(body, `"size":1048576`) {
		t.Errorf("got %d bytes", len(body))
	}
	_, body, h := s.get(t, "/api/raw?time=1700000000000&uid="+sidA+"0000000000001")
	if body != hostile || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") ||
		!strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
		t.Errorf("raw: got %s, %v", body, h)
	}
	for _, uid := range []string{"", "x", sidB + "0000000000001"} {
		if status, _, _ := s.get(t, "/api/line?uid="+uid); status != 404 {
			t.Errorf("%q: got %d, want 404", uid, status)
		}
	}
}

func TestTail_SendsWhatIsStored(t *testing.T) {
	s := newSite(t)
	s.add(t, sidA, "web1", time.Now(), "keep old")
	resp, err := http.Get(s.URL + "/api/tail?q=keep") //nolint:noctx // ends with the body
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	events.Buffer(nil, 1<<20) // an event has all lines of a moment
	expect := func(want string) {
		t.Helper()
		for events.Scan() {
			if text := events.Text(); text == want || strings.HasPrefix(text, "data: {") &&
				strings.Contains(text, want) {
				return
			}
		}
		t.Fatalf("the events ended before %s: %v", want, events.Err())
	}
	expect("event: ready")
	s.add(t, sidA, "web1", time.Now(), "not this", `{"message":"keep\nnew"}`)
	expect(`"text":"keep\nnew"`)
	var many []string
	for i := range 5 * tailLines {
		many = append(many, fmt.Sprint("keep ", i))
	}
	s.add(t, sidA, "web1", time.Now(), many...)
	expect(fmt.Sprintf(`"text":"keep %d"`, len(many)-1))
}

func TestSearch_ShowsWhatPipesMakeAsATable(t *testing.T) {
	s := newSite(t)
	for i := range 3 {
		s.add(t, sidA, "web1", time.Now(), fmt.Sprintf(`{"program":"nginx","status":%d,"message":"GET"}`, 200+i%2))
	}
	for query, want := range map[string]string{
		"| stats by (status) count() n | sort by (status)": `"table":{"columns":["status","n"],"rows":[["200","2"],["201","1"]]}`,
		"status:201 | fields status, absent":               `"table":{"columns":["status"],"rows":[["201"]]}`,
		"status:404 | stats count() n":                     `"table":{"columns":["n"],"rows":[["0"]]}`,
		"status:404 | fields status":                       `"lines":[]`,
		"| uniq by (wsrelay.seq)":                          `"more":true`,
		"| sort by (wsrelay.seq) | limit 1":                `"lines":[{"uid":"` + sidA + `0000000000001"`, // these are lines still
	} {
		status, body, _ := s.get(t, "/api/search?limit=2&q="+url.QueryEscape(query))
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d, %s, want %s", query, status, body, want)
		}
	}
	if status, body, _ := s.get(t, "/api/tail?q="+url.QueryEscape("| stats count()")); status != 400 ||
		!strings.Contains(body, "without pipes") {
		t.Errorf("a live view of a table: got %d, %s", status, body)
	}
	if _, body, _ := s.get(t, "/api/histogram?q="+url.QueryEscape("| stats count()")); !strings.Contains(body,
		`"counts":null`) {
		t.Errorf("a histogram of a table: got %s", body)
	}
}

// Very long lines are left out of a list rather than held in memory, and the answer
// says that it lacks some.
func TestSearch_SaysThatVeryLongLinesAreLeftOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t)
	long := fmt.Sprintf(`{"program":"x","body":%q}`, strings.Repeat("x", 1<<20))
	now := time.Now()
	for i := range 40 {
		s.add(t, sidA, "web1", now.Add(time.Duration(i)*time.Millisecond), long)
	}
	_, body, _ := s.get(t, "/api/search?limit=100")
	if n := strings.Count(body, `"uid"`); n == 0 || n > listMemory>>20 || !strings.Contains(body, `"complete":false`) ||
		!strings.Contains(body, `"facetsOf":40`) {
		t.Errorf("%d lines, %s", n, body[max(0, len(body)-300):])
	}
	if first := `{"lines":[{"uid":"` + handshake.UID(sidA, 40); !strings.Contains(body,
		strings.TrimPrefix(first, "{")) {
		t.Errorf("the newest is not the first: %.300s", body)
	}
}

// What the query API says of a query that it cannot do reaches the user, also when
// its answer breaks off.
func TestSearch_SaysWhyTheStoreCouldNot(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too many queries", http.StatusServiceUnavailable)
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"_time":"2026-03-14T00:00:00Z","_msg":"a"}`+"\n\ntoo many queries\n")
			panic(http.ErrAbortHandler)
		},
	} {
		s := &site{Server: serve(t, New(faulty{answer}, NewLive(stdout.New(io.Discard)), Options{}))}
		for _, api := range []string{
			"search?q=a", "search?q=a+|+uniq+by+(b)", "histogram?q=a",
			"line?uid=" + sidA + "0000000000001",
		} {
			status, body, _ := s.get(t, "/api/"+api)
			if status < 400 || !strings.Contains(body, "too many queries") {
				t.Errorf("%s, %s: got %d, %s", name, api, status, body)
			}
		}
	}
}

// faulty is a store whose query API fails as scripted.
type faulty struct{ answer http.HandlerFunc }

func (f faulty) Handler() http.Handler { return f.answer }

func (faulty) Text([]logsql.Field) ([]byte, error) { return nil, io.EOF }

func TestSearch_ComparesRelativeTimesWithNow(t *testing.T) {
	s := newSite(t)
	s.add(t, sidA, "web1", time.Now().Add(-62*time.Minute), "older")
	s.add(t, sidA, "web1", time.Now(), "new")
	for _, api := range []string{"search", "histogram"} {
		for query, want := range map[string]string{"_time:70m -_time:30m": "older", "_time:5m": "new"} {
			_, body, _ := s.get(t, "/api/"+api+"?bars=1&q="+url.QueryEscape(query))
			if api == "histogram" {
				want = `"total":1,`
			}
			if !strings.Contains(body, want) {
				t.Errorf("%s, %s: got %s, want %s", api, query, body, want)
			}
		}
	}
}

func TestTable_HoldsABoundedNumberOfBytes(t *testing.T) {
	var got table
	var row []logsql.Field
	for i := range 2 * maxColumns {
		row = append(row, logsql.Field{Name: fmt.Sprint("c", i), Value: strings.Repeat("ü", cutList)})
	}
	for range 1000 {
		got.add(row)
	}
	if len(got.Columns) != maxColumns || !got.full || len(got.Rows)*maxColumns*cutList > listMemory ||
		len(got.Rows) < 10 {
		t.Errorf("%d columns, %d rows, full %v", len(got.Columns), len(got.Rows), got.full)
	}
}
