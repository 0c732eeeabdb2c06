package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSearch_FindsWhatPeopleExpect: what users of grep and Kibana type finds these
// lines in the store, whose columns have types and indices of their own. Package
// logsql has the longer tables, over single rows.
func TestSearch_FindsWhatPeopleExpect(t *testing.T) {
	s := newSite(t)
	lines := map[string]string{
		"nginx":   `{"program":"nginx","fields":{"status":502,"path":"/api/Orders?id=7","ip":"10.0.0.7","agent":"curl/8.1","length":50}}`,
		"ok":      `{"program":"nginx","fields":{"status":200,"path":"/api/orders","ip":"10.0.0.70","agent":"curl/8.1","length":502}}`,
		"sshd":    `{"program":"sshd","message":"sshd[1234]: Failed password for root from 10.0.0.9 port 4242 ssh2"}`,
		"app":     `{"level":"error","msg":"Connection timeout after 30s","user":{"name":"Alice","tags":["a","vip"]},"url":"http://pay.example.com/v1"}`,
		"plain":   `error: can't open "/etc/x y": open() failed (2: No such file)`,
		"Chinese": `昨天发生错误了`,
		"colour":  "\x1b[31mERROR\x1b[0m disk full",
		"trace":   `{"msg":"java.lang.NullPointerException\n\tat com.example.Main(Main.java:7)"}`,
	}
	names := map[string]string{}
	now, i := time.Now(), 0
	for range 40 { // so that blocks have many rows, some of them with dictionaries
		s.add(t, sidB, "web9", now.Add(-time.Hour), `{"program":"cron","message":"nothing to see","fields":{"status":204,"ip":"10.9.9.9"}}`)
	}
	for name, line := range lines {
		i++
		s.add(t, sidA, "web1", now.Add(time.Duration(i)*time.Millisecond), line)
		names[fmt.Sprintf("%s%013d", sidA, i)] = name
	}
	s.searchable(t)
	for query, want := range map[string]string{
		"error":                              "app colour plain",
		"Error":                              "app colour plain",
		"502":                                "nginx ok",
		"50":                                 "nginx",
		"orders":                             "nginx ok",
		"/API/orders":                        "nginx ok",
		"10.0.0.7":                           "nginx",
		"10.0.0.*":                           "nginx ok sshd",
		"connection timeout":                 "app",
		"timeout connection":                 "app",
		`"failed password"`:                  "sshd",
		`"password failed"`:                  "",
		"sshd[1234]: failed":                 "sshd",
		"alice":                              "app",
		"vip":                                "app",
		"http://pay.example.com/v1":          "app",
		"error: can't open":                  "plain",
		`open() failed (2: No such file)`:    "plain",
		"nullpointer*":                       "trace",
		"*pointerexc*":                       "trace",
		"错误":                                 "Chinese",
		"disk full":                          "colour",
		"fields.status:>=500":                "nginx",
		"fields.status:502":                  "nginx",
		"fields.ip:ipv4_range(10.0.0.0/24)":  "nginx ok",
		"nginx -curl":                        "",
		"curl !502":                          "",
		"user.name:alice":                    "",
		"user.name:i(alice)":                 "app",
		"level:error":                        "app colour plain",
		"host:web1 (timeout or password)":    "app sshd",
		`fields.path:~"^/api/.*id=[0-9]+$"`:  "nginx",
		`fields.path:="/api/orders"`:         "ok",
		"program:nginx fields.length:<100":   "nginx",
		"Chinese or nginx":                   "nginx ok",
		"no such file":                       "plain",
		"fields.status:in(502, 200) orders*": "nginx ok",
	} {
		_, body, _ := s.get(t, "/api/search?limit=100&q="+url.QueryEscape(query))
		var found struct {
			Lines         []struct{ UID string }
			Error, LogsQL string
		}
		if err := json.Unmarshal([]byte(body), &found); err != nil || found.Error != "" {
			t.Errorf("%s: %v, %s", query, err, found.Error)
			continue
		}
		var got []string
		for _, l := range found.Lines {
			got = append(got, names[l.UID])
		}
		slices.Sort(got)
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s, %s: finds %q, want %q", query, found.LogsQL, g, want)
		}
	}
}
