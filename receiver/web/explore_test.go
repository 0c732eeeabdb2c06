package web

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
)

type aroundAnswer struct {
	Lines                           []line
	Hit, Error                      string
	MoreBefore, MoreAfter, Complete bool
}

func (s *site) around(t *testing.T, uid string, n int, more string) (a aroundAnswer, texts []string) {
	t.Helper()
	_, body, _ := s.get(t, fmt.Sprintf("/api/around?uid=%s&n=%d%s", uid, n, more))
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err, body)
	}
	for _, l := range a.Lines {
		texts = append(texts, l.Text)
	}
	return a, texts
}

// Of one moment are many lines, of several senders and programs; those around one are
// of its host and program alone, and have an order.
func TestAround_HasTheLinesOfTheSameHostAndProgram(t *testing.T) {
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for name, s := range map[string]*site{"log database": newSite(t), "watched": newWatchedSite(t, Options{})} {
		of := func(program string, i int) string {
			return fmt.Sprintf(`{"host":"web1","program":%q,"message":"%s %d"}`, program, program, i)
		}
		for i := range 4 {
			s.add(t, sidA, "web1", at.Add(time.Duration(i/2)*300*time.Millisecond), of("app", i), of("cron", i))
		}
		if s.logs != nil { // the same host and program, sent with another queue at the same time
			s.add(t, sidB, "web1", at, of("app", 100))
		}
		s.add(t, sidA, "web2", at, `{"host":"web2","program":"app","message":"elsewhere"}`)
		uid := handshake.UID(sidA, 5) // app 2
		got, texts := s.around(t, uid, 2, "")
		want := "app 0,app 1,app 2,app 3"
		if s.logs != nil {
			want = "app 1,app 100,app 2,app 3"
		}
		if strings.Join(texts, ",") != want || got.Hit != uid || got.MoreBefore != (s.logs != nil) || got.MoreAfter ||
			!got.Complete {
			t.Errorf("%s: got %q, %+v, want %s", name, texts, got, want)
		}
		got, texts = s.around(t, uid, 1, "&column=program&time="+strconv.FormatInt(at.UnixMilli()+300, 10))
		if len(texts) != 3 || !got.MoreBefore || got.MoreAfter || !slices.Equal(got.Lines[1].Columns, []string{"app"}) {
			t.Errorf("%s: got %q, %+v", name, texts, got)
		}
		if _, texts = s.around(t, handshake.UID(sidA, 1), 9, ""); texts[0] != "app 0" {
			t.Errorf("%s: the first has others before it: %q", name, texts)
		}
		if got, _ := s.around(t, handshake.UID(sidB, 77), 1, ""); !strings.Contains(got.Error, "not here") {
			t.Errorf("%s: a line that is not there: %+v", name, got)
		}
	}
}

// Lines that are too long to be shown together are fewer, and the answer says so.
func TestAround_SaysThatVeryLongLinesAreLeftOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t)
	at := time.Now().Add(-time.Hour)
	for i := range 30 {
		s.add(t, sidA, "web1", at.Add(time.Duration(i)*time.Second),
			fmt.Sprintf(`{"program":"x","body":%q}`, strings.Repeat("x", 1<<20)))
	}
	got, _ := s.around(t, handshake.UID(sidA, 15), 14, "")
	if got.Complete || !got.MoreBefore || !got.MoreAfter || len(got.Lines) < 3 || len(got.Lines) > listMemory>>20 {
		t.Errorf("got %d lines, %+v, %s", len(got.Lines), got.Complete, got.Error)
	}
}

func TestGroups_CountsOverTheWholeTime(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	for i := range 3 * facetLines { // more than a list looks at
		if i%1000 == 0 {
			lines := make([]string, 1000)
			for k := range lines {
				lines[k] = fmt.Sprintf(`{"program":"nginx","a \"b\" | c":"%d","fields":{"status":%d}}`, k%3,
					200+k%2*204)
			}
			s.add(t, sidA, "web1", now.Add(time.Duration(i)*time.Millisecond), lines...)
		}
	}
	s.add(t, sidB, "db1", now, `{"program":"postgres","message":"no status"}`)
	for path, want := range map[string]string{
		"by=fields.status":                   `{"by":["fields.status"],"groups":[{"values":["200"],"count":1500},{"values":["404"],"count":1500},{"values":[""],"count":1}],"having":3000,"lines":3001,"logsql":"*","more":false}`,
		"by=program&limit=1&q=nginx":         `{"by":["program"],"groups":[{"values":["nginx"],"count":3000}],"having":3000,"lines":3000,"logsql":"*:i(\"nginx\")","more":false}`,
		"by=program&by=host&limit=1":         `"groups":[{"values":["nginx","web1"],"count":3000}],"having":3001,"lines":3001,"logsql":"*","more":true}`,
		"by=" + url.QueryEscape(`a "b" | c`): `"groups":[{"values":["0"],"count":1002},{"values":["1"],"count":999}`,
		"by=absent":                          `"groups":[{"values":[""],"count":3001}],"having":0`,
		"by=program&q=nowhere":               `"groups":[],"having":0,"lines":0`,
	} {
		if status, body, _ := s.get(t, "/api/groups?"+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d, %s, want %s", path, status, body, want)
		}
	}
	for _, path := range []string{"", "by=program&q=" + url.QueryEscape("| stats count()")} {
		if status, body, _ := s.get(t, "/api/groups?"+path); status != 400 || !strings.Contains(body, "without pipes") {
			t.Errorf("%s: got %d, %s", path, status, body)
		}
	}
	_, body, _ := s.get(t, "/api/fields")
	for _, want := range []string{
		`{"name":"program","hits":3001}`, `{"name":"fields.status","hits":3000}`,
		`{"name":"a \"b\" | c","hits":3000}`,
	} {
		if !strings.Contains(body, want) || strings.Contains(body, "_stream") || strings.Contains(body, "wsrelay.") {
			t.Errorf("got %s, want %s", body, want)
		}
	}
}

func TestSearch_OldestFirstAndWithColumns(t *testing.T) {
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for name, s := range map[string]*site{"log database": newSite(t), "watched": newWatchedSite(t, Options{})} {
		for i := range 30 {
			s.add(t, sidA, "web1", at.Add(time.Duration(i/5)*time.Second),
				fmt.Sprintf(`{"message":"m%d","fields":{"n":%d}}`, i, i))
		}
		for order, want := range map[string]string{"": "m29 29,m28 28", "oldest": "m0 0,m1 1"} {
			_, body, _ := s.get(t, "/api/search?limit=2&column=fields.n&order="+order)
			var got struct {
				Lines []line
				More  bool
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err, body)
			}
			var texts []string
			for _, l := range got.Lines {
				texts = append(texts, l.Text+" "+strings.Join(l.Columns, " "))
			}
			if strings.Join(texts, ",") != want || !got.More {
				t.Errorf("%s, %q: got %q, want %s", name, order, texts, want)
			}
		}
	}
}

// The times that wsreceive search takes, in the zone of the reader.
func TestSearch_TakesTimesAsPeopleWriteThem(t *testing.T) {
	s := newSite(t)
	zone := time.FixedZone("", 2*3600)
	y, m, d := time.Now().In(zone).Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, zone)
	s.add(t, sidA, "web1", midnight.Add(-time.Hour), "of yesterday")
	s.add(t, sidA, "web1", midnight.Add(-25*time.Hour), "of the day before")
	for path, want := range map[string]string{
		"from=yesterday&to=today": "of yesterday",
		"from=-3d&to=yesterday":   "of the day before",
	} {
		_, body, _ := s.get(t, "/api/search?tz=120&"+path)
		if strings.Count(body, `"uid"`) != 1 || !strings.Contains(body, `"text":"`+want+`"`) {
			t.Errorf("%s: got %s, want %s", path, body, want)
		}
	}
	_, body, _ := s.get(t, "/api/search?tz=120&from=today")
	if !strings.Contains(body, fmt.Sprintf(`"from":%d,`, midnight.UnixMilli())) ||
		!strings.Contains(body, `"to":null`) {
		t.Errorf("got %s", body)
	}
}

// A download has every line byte for byte, in the order of time, also where a
// millisecond has more than fits in memory together.
func TestDownload_HasEveryLine(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t, Options{Who: byHeader})
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	var want []string
	add := func(at time.Time, n, size int) {
		for len(want) > 0 && n > 0 || len(want) == 0 {
			var lines []string
			for ; n > 0 && len(lines) < 1000; n-- {
				lines = append(lines, fmt.Sprintf("line %d %s", len(want), strings.Repeat("x", size)))
				want = append(want, lines[len(lines)-1])
			}
			s.add(t, sidA, "web1", at, lines...)
		}
	}
	add(at, 6000, 2000) // 12 MB of one millisecond
	for i := range 2000 {
		if i%100 == 0 {
			add(at.Add(time.Duration(i)*time.Hour), 100, 100)
		}
	}
	want = append(want, "\xff\xfe=1")
	s.add(t, sidA, "web1", at.Add(5000*time.Hour), want[len(want)-1])
	resp, body := s.download(t, "format=ndjson")
	if resp.Header.Get("Content-Type") != "application/x-ndjson" ||
		resp.Header.Get("Content-Disposition") != "attachment; filename=lines.ndjson" {
		t.Errorf("got %v", resp.Header)
	}
	var got []string
	for text := range strings.Lines(body) {
		var l struct {
			UID, Time, Host, Line, Line64 string
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil || l.UID == "" || l.Host != "web1" || l.Time == "" {
			t.Fatal(err, text)
		}
		if l.Line64 != "" {
			raw, _ := base64.StdEncoding.DecodeString(l.Line64)
			l.Line = string(raw)
		}
		got = append(got, l.Line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d lines, want %d", len(got), len(want))
	}
	t.Logf("%d lines, %d bytes", len(got), len(body))
}

func (s *site) download(t *testing.T, args string) (*http.Response, string) {
	t.Helper()
	s.searchable(t)
	resp, err := http.Get(s.URL + "/api/download?" + args) //nolint:noctx // it is read at once
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestDownload_CSVHasColumnsAndNoFormulas(t *testing.T) {
	s := newSite(t)
	s.add(t, sidA, "=web", time.UnixMilli(1_700_000_000_000),
		`{"program":"a,b","severity":"err","message":"=cmd|' /C calc'!A0\n\"two\"","fields":{"n":-5}}`)
	_, body := s.download(t, "format=csv&column=fields.n&column=absent")
	got, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	want := [][]string{
		{"time", "host", "program", "level", "message", "uid", "fields.n", "absent"},
		{"2023-11-14T22:13:20.000Z", "'=web", "a,b", "error", "'=cmd|' /C calc'!A0\n\"two\"", handshake.UID(sidA, 1), "-5", ""},
	}
	if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	table := "q=" + url.QueryEscape("| stats by (program) count() n, max(fields.n) most")
	if _, body := s.download(t, "format=csv&"+table); body != "program,n,most\n\"a,b\",1,-5\n" {
		t.Errorf("got %q", body)
	}
	if _, body := s.download(t, table); body != `{"program":"a,b","n":"1","most":"-5"}`+"\n" {
		t.Errorf("got %q", body)
	}
	if resp, body := s.download(t, "format=csv&q=nowhere"); resp.StatusCode != http.StatusOK ||
		!strings.HasPrefix(body, "time,host,") || strings.Count(body, "\n") != 1 {
		t.Errorf("of nothing: got %q", body)
	}
}

// A client that does not read a download is cut off, and keeps nobody from searching,
// not even its own user.
func TestDownload_ThatNobodyReadsEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	answerTime, rawPace = 3*time.Second, 16<<20 // on a loaded machine, the others take a while
	t.Cleanup(func() { answerTime, rawPace = usualAnswerTime, usualPace })
	s := newSite(t, Options{Who: byHeader})
	addMany(t, s)
	conn := s.unread(t, "/api/download?format=ndjson", "hog")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "hog"} {
		if got := s.within(t, "/api/search?q=x&limit=10", user); got != http.StatusOK {
			t.Errorf("%s: got %d", user, got)
		}
	}
	for deadline := time.Now().Add(time.Minute); s.within(t, "/api/download?q=nowhere", "hog") != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("its memory is not returned")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, conn); n >= 10<<20 {
		t.Errorf("%d bytes came, then: %v", n, err)
	}
}

// Very long lines of one moment are listed as far as they fit, and downloaded whole.
func TestSearch_VeryLongLinesOfOneMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t)
	at := time.Now().Add(-time.Hour)
	const n = 40
	for i := range n {
		s.add(t, sidA, "web1", at, fmt.Sprintf(`{"program":"x","n":%d,"body":%q}`, i, strings.Repeat("x", 1<<20)))
	}
	for range 5 { // the engine's workers share the lines as it happens
		for order, first := range map[string]uint64{"": n, "oldest": 1} {
			_, body, _ := s.get(t, "/api/search?limit=100&order="+order)
			if lines := strings.Count(body, `"uid"`); lines < 2 || lines > listMemory>>20 ||
				!strings.Contains(body, `"complete":false`) {
				t.Errorf("%q: %d lines, %s", order, lines, body[max(0, len(body)-300):])
			}
			if !strings.Contains(body, `"lines":[{"uid":"`+handshake.UID(sidA, first)) {
				t.Errorf("%q: does not begin with line %d: %.100s", order, first, body)
			}
		}
	}
	if _, body := s.download(t, ""); strings.Count(body, "\n") != n || len(body) < n<<20 {
		t.Errorf("downloaded %d lines, %d bytes", strings.Count(body, "\n"), len(body))
	}
}
