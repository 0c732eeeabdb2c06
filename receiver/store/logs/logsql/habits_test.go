package logsql

import (
	"errors"
	"strings"
	"testing"
)

// What people type from habit is done, or refused with the right spelling; never
// does it silently mean something else.
func TestParseTyped_RefusesOrDoesWhatPeopleTypeFromHabit(t *testing.T) {
	for query, want := range map[string]struct{ write, at string }{
		// SQL
		`SELECT * FROM logs WHERE status = 500`: {"stats by (host) count()", ``},
		`status = 500`:                          {"write status:=500,", ``},
		`error and status == 500`:               {"write status:=500,", `error and `},
		`status <> 200`:                         {"write status:!=200,", ``},
		`status!=200`:                           {"write status:!=200,", ``},
		`status >= 500 host:web-1`:              {"write status:>=500,", ``},
		`status IN (404, 500)`:                  {"write status:in(…),", ``},
		`message LIKE '%timeout%'`:              {"field:~", ``},
		`took BETWEEN 5 AND 9`:                  {"write took:range[5, 9],", ``},
		`user IS NULL`:                          {`write user:"",`, ``},
		`user IS NOT NULL`:                      {"write user:*,", ``},
		`error ORDER BY time`:                   {"| sort by", `error `},
		// KQL, Lucene
		`error && timeout`:    {"write a b,", `error `},
		`error || timeout`:    {"write a or b,", `error `},
		`status:[400 TO 499]`: {"write status:range[400, 499],", ``},
		`_exists_:user`:       {"write user:*,", `_exists_:`},
		`path:/api.*/`:        {`write path:~"api.*",`, ``},
		`+error -debug`:       {"write error,", `+`},
		`timeout~2`:           {"similar words", `timeout`},
		`level: error`:        {"write level:error,", ``},
		`@timestamp:>now-1h`:  {"write _time:1h,", ``},
		`host:web-?`:          {`write host:~"web-.",`, ``},
		`time*out`:            {`write *:~"time.*out",`, ``},
		// Splunk, Loki
		`earliest=-1h error`:         {"_time:1h", ``},
		`{program="nginx"} |= "err"`: {`{host="web1"} word`, `{program="nginx"} `},
		// grep
		`grep -i error`: {"the words alone", ``},
		`-i error`:      {"-debug for lines without it", ``},
		`-v debug`:      {"-debug for lines without it", ``},
		`time.*out`:     {`write *:~"time.*out",`, ``},
		`.*timeout`:     {`write *:~".*timeout",`, ``},
		`user[0-9]`:     {`write *:~"user[0-9]",`, ``},
		`err|warn`:      {"write a or b", `*:i("err") |warn`},
		`>=500`:         {"write field:>=500,", ``},
		// No word in it
		`""`: {"* finds every line", ``}, `()`: {"", ``}, `-`: {"", ``}, `{}`: {"* finds every line", ``}, `''`: {"* finds every line", ``},
	} {
		_, _, _, err := ParseTyped(query)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: it is understood", query)
			continue
		}
		if !strings.Contains(e.Problem, want.write) || want.write != "" && e.Query[:e.At] != want.at {
			t.Errorf("%s: got %q after %q, want %q after %q", query, e.Problem, e.Query[:e.At], want.write, want.at)
		}
	}
	for _, query := range []string{
		"", "*", "* | stats count()", "| stats count()", "...", "level:error AND NOT timeout", "status:(404 OR 500)",
		"host:web*", "host:*web*", `"a && b"`, `"status = 500"`, "a=b", "user=alice", "http://a/b?c=d",
		"/var/log/messages", `path:~"^/api.*"`, "status:>=500 status:<600", "status:range[400, 499]", "status:!=200",
		"-debug", "!debug", "not (a or b)", "it's", "C:\\data\\x", "error: not found", "sshd[4711]: x",
		"took:>1.5", "a -> b", "x:in(1, 2)", "level:in(error, warn)", `_time:5m error`, `{program="nginx"} error`,
		`key="a >= b"`, "c++", "a+b", "1 + 1", "~/.bashrc", "2026-03-14 10:15", "select a file", "not in list",
		"10.0.0.*",
	} {
		if _, _, _, err := ParseTyped(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}
