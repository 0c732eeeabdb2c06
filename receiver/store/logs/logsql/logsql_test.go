package logsql

import (
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// rows are some lines as the store has them.
var rows = map[string][]logstorage.Field{
	"nginx":    {{Name: "host", Value: "web-1"}, {Name: "program", Value: "nginx"}, {Name: "status", Value: "502"}, {Name: "request", Value: "GET /api/Orders?id=7 HTTP/1.1"}, {Name: "remote_addr", Value: "10.0.0.7"}, {Name: "agent", Value: "curl/8.1"}},
	"sshd":     {{Name: "host", Value: "db-1"}, {Name: "program", Value: "sshd"}, {Name: "_msg", Value: "Failed password for root from 10.0.0.9 port 4242 ssh2"}},
	"app":      {{Name: "host", Value: "app-1"}, {Name: "program", Value: "billing"}, {Name: "level", Value: "error"}, {Name: "_msg", Value: "Connection timeout after 30s: user=alice url=http://pay.example.com/v1 at 10:15:30"}},
	"Chinese":  {{Name: "host", Value: "app-1"}, {Name: "program", Value: "billing"}, {Name: "_msg", Value: "昨天发生错误了"}},
	"trace":    {{Name: "host", Value: "app-2"}, {Name: "level", Value: "debug"}, {Name: "_msg", Value: "java.lang.NullPointerException\n\tat com.example.Main(Main.java:7)"}},
	"exact 50": {{Name: "host", Value: "web-2"}, {Name: "status", Value: "50"}},
}

// TestPlain_FindsWhatPeopleExpect is what users of grep and Kibana type, and what
// they expect to see.
func TestPlain_FindsWhatPeopleExpect(t *testing.T) {
	for query, want := range map[string]string{
		"":                                   "Chinese app exact 50 nginx sshd trace",
		"*":                                  "Chinese app exact 50 nginx sshd trace",
		"502":                                "nginx",
		"50":                                 "exact 50",
		"50*":                                "exact 50 nginx",
		"error":                              "app",
		"ERROR":                              "app",
		"failed password":                    "sshd",
		"password failed":                    "sshd",
		`"failed password"`:                  "sshd",
		`"password failed"`:                  "",
		"timeout billing":                    "app",
		"timeout or sshd":                    "app sshd",
		"timeout OR sshd":                    "app sshd",
		"(timeout or sshd) app-1":            "app",
		"billing -timeout":                   "Chinese",
		"billing NOT timeout":                "Chinese",
		"status:>=500":                       "nginx",
		"status:>=50":                        "exact 50 nginx",
		"status:!=502 host:web-2":            "exact 50",
		"host:web-1":                         "nginx",
		`host:="web-1" curl`:                 "nginx",
		"program:in(sshd, nginx)":            "nginx sshd",
		"level:error timeout":                "app",
		"user=alice":                         "app",
		"http://pay.example.com/v1":          "app",
		"10:15:30":                           "app",
		"10.0.0.9":                           "sshd",
		"orders":                             "nginx",
		"/api/orders":                        "nginx",
		"错误":                                 "Chinese",
		"NullPointerException":               "trace",
		"nullpointer*":                       "trace",
		"*pointerexc*":                       "trace",
		"_msg:~\"time.*30s\"":                "app",
		"remote_addr:ipv4_range(10.0.0.0/8)": "nginx",
		"status:range[500, 599)":             "nginx",
		"i(FAILED)":                          "sshd",
		"'failed password'":                  "sshd",
		"!billing !nginx !sshd":              "exact 50 trace",
	} {
		q, _ := Plain(query)
		f, err := logstorage.ParseFilter(q)
		if err != nil {
			t.Errorf("%s: %s: %v", query, q, err)
			continue
		}
		var got []string
		for _, name := range []string{"Chinese", "app", "exact 50", "nginx", "sshd", "trace"} {
			if f.MatchRow(rows[name]) {
				got = append(got, name)
			}
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: %s finds %q, want %q", query, q, g, want)
		}
	}
}

func TestPlain_LeavesPipesAlone(t *testing.T) {
	for query, want := range map[string]string{
		"error | stats by (host) count() n":                `*:i("error") | stats by (host) count() n`,
		"| stats count()":                                  "* | stats count()",
		`{program="nginx"} status:>=500 | top 5 by (path)`: `{program="nginx"} status:>=500 | top 5 by (path)`,
		`"a|b" | limit 3`:                                  `*:i("a|b") | limit 3`,
		"_time:[2026-03-14, 2026-03-15) x":                 `_time:[2026-03-14, 2026-03-15) *:i("x")`,
	} {
		filter, pipes := Plain(query)
		if got := strings.TrimSpace(filter + " " + pipes); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		} else if _, err := logstorage.ParseQuery(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, q := range []string{`a "b`, `((`, `x:(`, `'`, "{", `a\`, "-", "a:b:c", `"\"`} {
		f.Add(q)
	}
	f.Fuzz(func(_ *testing.T, q string) {
		filter, pipes := Plain(q)
		_, _ = logstorage.ParseQuery(filter + pipes) // neither may panic or hang
	})
}

func TestParse_SaysInPlainWordsWhatIsWrong(t *testing.T) {
	for query, want := range map[string]string{
		"(a or b":      "a closing parenthesis is missing",
		"a)":           `")" is not expected here`,
		"status:>=":    "it ends where a value is expected",
		"host:in(":     "it ends where a value is expected",
		"a |":          "something is missing after the last |",
		"a | foo":      `unexpected pipe name "foo"; probably, 'filter' is missing in front of "foo"`,
		"_time:x":      `cannot parse duration at _time filter: cannot parse duration "x"`,
		`x:~"("`:       "invalid regexp \"x\":\"(\": error parsing regexp: missing closing ): `(`",
		"a | stats x(": `cannot parse "stats" pipe: unknown stats func "x"`,
	} {
		filter, pipes := Plain(query)
		if _, err := Parse(filter, pipes); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
	if _, err := Parse(Plain("a b | stats count()")); err != nil {
		t.Error(err)
	}
	if _, err := Parse("x:"+strings.Repeat("(", 5000), ""); err == nil || len(err.Error()) > maxComplaint {
		t.Errorf("got %v", err)
	}
}
