package logsql

import (
	"errors"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// rows are some lines as the store has them.
var rows = map[string][]logstorage.Field{
	"nginx": {
		{Name: "host", Value: "web-1"},
		{Name: "program", Value: "nginx"},
		{Name: "status", Value: "502"},
		{Name: "request", Value: "GET /api/Orders?id=7 HTTP/1.1"},
		{Name: "remote_addr", Value: "10.0.0.7"},
		{Name: "agent", Value: "curl/8.1"},
	},
	"sshd": {
		{Name: "host", Value: "db-1"},
		{Name: "program", Value: "sshd"},
		{Name: "_msg", Value: "Failed password for root from 10.0.0.9 port 4242 ssh2"},
	},
	"app": {
		{Name: "host", Value: "app-1"},
		{Name: "program", Value: "billing"},
		{Name: "level", Value: "error"},
		{Name: "_msg", Value: "Connection timeout after 30s: user=alice url=http://pay.example.com/v1 at 10:15:30"},
	},
	"Chinese": {{Name: "host", Value: "app-1"}, {Name: "program", Value: "billing"}, {Name: "_msg", Value: "昨天发生错误了"}},
	"trace": {
		{Name: "host", Value: "app-2"},
		{Name: "level", Value: "debug"},
		{Name: "_msg", Value: "java.lang.NullPointerException\n\tat com.example.Main(Main.java:7)"},
	},
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

// TestPlain_FindsPiecesOfLines: what people copy out of lines, or remember of them,
// finds these lines, and not every line.
func TestPlain_FindsPiecesOfLines(t *testing.T) {
	for query, line := range map[string]string{
		`error: connection refused`:            `app error: Connection refused by peer`,
		`Out of memory: Killed process`:        `kernel: Out of memory: Killed process 123`,
		`sshd[1234]: Failed password`:          `sshd[1234]: Failed password for root`,
		`TypeError: x`:                         `TypeError: x is not a function`,
		`java.lang.NullPointerException: null`: `java.lang.NullPointerException: null`,
		`exit code: 1`:                         `done, exit code: 1`,
		`user@example.com`:                     `mail from user@example.com ok`,
		`[error]`:                              `2026 [error] 12#0: x`,
		`foo=bar`:                              `a foo=bar b`,
		`key="a value"`:                        `a key="a value" b`,
		`key='v w'`:                            `a key='v w' b`,
		`level=error msg="x y"`:                `level=error msg="x y" z`,
		`/var/log/messages`:                    `open /var/log/messages failed`,
		`C:\Windows`:                           `at C:\Windows\x`,
		`a,b`:                                  `x a,b y`,
		`100%`:                                 `disk 100% full`,
		`$HOME`:                                `in $HOME dir`,
		`(root) CMD`:                           `CRON[1]: (root) CMD (run)`,
		`it's`:                                 `it's done`,
		`can't open`:                           `we can't open it`,
		`<script>`:                             `x <script> y`,
		`2026-03-14T10:15:30Z`:                 `2026-03-14T10:15:30Z x`,
		`2026-03-14 10:15`:                     `2026-03-14 10:15:00 x`,
		`::1`:                                  `from ::1 port`,
		`fe80::1`:                              `from fe80::1 port`,
		`10.0.0.1:8080`:                        `to 10.0.0.1:8080 ok`,
		`std::vector`:                          `in std::vector y`,
		`{"a":1}`:                              `got {"a":1} x`,
		`foo()`:                                `call foo() now`,
		`foo(bar, 1)`:                          `call foo(bar, 1) now`,
		`open() failed (2: No such file)`:      `open() failed (2: No such file) here`,
		`upstream timed out (110: Connection`:  `upstream timed out (110: Connection timed out) while`,
		`--help`:                               `try --help for more`,
		`#1234`:                                `issue #1234`,
		`a && b`:                               `a && b`,
		`"`:                                    `say "hi" to`,
		`https://x.example/a?b=c&d=e`:          `GET https://x.example/a?b=c&d=e`,
		`ÉTÉ`:                                  `un été`,
		`"GET /api/v1" 502`:                    `"GET /api/v1 HTTP/1.1" 502 17`,
		`panic: runtime error: index out of range`: `panic: runtime error: index out of range [3]`,
	} {
		q, pipes := Plain(query)
		f, err := logstorage.ParseFilter(q)
		if err != nil {
			// A parenthesis that nothing closes is a mistake in LogsQL, and said to be one.
			if strings.Count(query, "(") == strings.Count(query, ")") ||
				!strings.Contains(Check(q).Error(), "closing parenthesis") {
				t.Errorf("%s: %s: %v", query, q, err)
			}
			continue
		}
		has := func(msg string) bool {
			return f.MatchRow([]logstorage.Field{{Name: "host", Value: "web1"}, {Name: "_msg", Value: msg}})
		}
		if !has(line) || pipes != "" {
			t.Errorf("%s: %s %s does not find it", query, q, pipes)
		}
		if has("a line of something else") {
			t.Errorf("%s: %s finds what it should not", query, q)
		}
	}
}

func TestPlain_LeavesLogsQLAlone(t *testing.T) {
	for _, query := range []string{
		`_time:5m offset 1h`, `_time:day_range[08:00, 18:00) offset 2h`, `_time:2026-03-14T10:15:30Z`,
		`_time:>=2026-03-14T10:15:30+01:00`, `_stream:{host="web1"}`,
		`{host="web1", program=~"ng.*"}`, `{host in ("a", "b")}`, `status:range[500, 599)`, `host:in(* | fields host)`,
		`"odd name":=x`, `x:i("a b"*)`, `x:~"a.*b"`,
		`x:=""`, `x:*`, `x:!=5`, `x:<5`, `kubernetes.labels.app:web`, `*:i("a")`, `x:eq_field(y)`, `!(x:a or -y:b)`,
		`@level:3`, `x:-5`,
	} {
		if got, pipes := Plain(query); got != query || pipes != "" {
			t.Errorf("%s: got %s %s", query, got, pipes)
		} else if err := Check(got); err != nil && query[0] != '@' {
			t.Error(err)
		}
	}
	for query, want := range map[string]string{
		`mail:a@b.c`: `mail:"a@b.c"`, `mail:~a@b.c`: `mail:~"a@b.c"`,
		`mail:a@b*`: `mail:"a@b"*`,
	} {
		if got, _ := Plain(query); got != want || Check(got) != nil {
			t.Errorf("%s: got %s, want %s", query, got, want)
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

func TestParse_BoundsWhatItSays(t *testing.T) {
	if _, err := Parse(Plain("a b | stats count()")); err != nil {
		t.Error(err)
	}
	var e *Error
	if _, err := Parse("x:"+strings.Repeat("(", 5000), ""); !errors.As(err, &e) || len(e.Problem) > 300 {
		t.Errorf("got %v", err)
	}
}
