package elastic

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
)

// What engines refuse, or choke on, is no field, but found by the text of the
// line; all else of the line is.
func TestDocument_WhatIsBeyondTheBoundsIsText(t *testing.T) {
	parts := func(n int) string { return strings.TrimSuffix(strings.Repeat("p.", n), ".") }
	for _, tt := range []struct{ member, omitted, why string }{
		{`"` + parts(20) + `":1`, "", ""},
		{`"` + parts(21) + `":1`, parts(21), whyDeep},
		{`"` + parts(5000) + `":1`, parts(5000)[:maxName], whyDeep},
		{`"a":{"` + parts(20) + `":1,"b":2}`, "a." + parts(20), whyDeep},
		{`"a":` + strings.Repeat(`{"b":`, 19) + "{}" + strings.Repeat("}", 19), "", ""},
		{`"a":` + strings.Repeat(`{"b":`, 20) + "1" + strings.Repeat("}", 20), "a" + strings.Repeat(".b", 20-1), whyDeep},
		{`"a":` + strings.Repeat("[", 19) + strings.Repeat("]", 19), "", ""},
		{`"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20), "a", whyDeep},
		{`"` + strings.Repeat("n", 512) + `":1`, "", ""},
		{`"` + strings.Repeat("n", 513) + `":1`, strings.Repeat("n", 512), whyName},
		{`"":1`, "", whyEmpty},
		{`" ":1`, " ", whyEmpty},
		{`".":1`, ".", whyEmpty},
		{`"a.":1`, "a.", whyEmpty},
		{`"a..b":[1,{}]`, "a..b", whyEmpty},
		{`"a":{"":1}`, "a.", whyEmpty},
		{`"a":[{"b":1},{".":1}]`, "a..", whyEmpty},
		{`"z":1,"z":2`, "z", whyTwice},
		{`"z":1,"\u007a":{}`, "z", whyTwice},
		{`"a":{"z":1 , "z" : 2 }`, "a.z", whyTwice},
		{`"a":9223372036854775807`, "", ""},
		{`"a":9223372036854775808`, "a", whyNumber},
		{`"a":1e308`, "", ""},
		{`"a":1e309`, "a", whyNumber},
		{`"a":1e-400`, "a", whyNumber},
		{`"a":[0e0,0.000000e+00,-0.0E-05]`, "", ""},
		{`"a":0e1000000000`, "a", whyNumber},
		{`"a":-0.00e-1000000000`, "a", whyNumber},
		{`"a":[1,2,1e1000000000]`, "a", whyNumber},
		{`"a":0.` + strings.Repeat("3", 100), "a", whyNumber},
		{`"@timestamp":"yesterday"`, "@timestamp", whyTime},
		{`"@timestamp":{"a":1}`, "@timestamp", whyTime},
	} {
		for _, form := range []string{`{%s}`, `{"first":1, %s}`, `{%s ,"last":2}`, `{"first":1,%s,"last":[2]}`} {
			line := fmt.Sprintf(form, tt.member)
			doc := documentOf(t, line)
			if got := gjson.Get(doc, "wsrelay.why").Str; got != tt.why {
				t.Errorf("%.80s: why is %q, want %q", line, got, tt.why)
			}
			if tt.why == "" {
				continue
			}
			if got := gjson.Get(doc, "wsrelay.omitted.#").Int(); got != 1 ||
				gjson.Get(doc, "wsrelay.omitted.0").Str != tt.omitted {
				t.Errorf("%.80s: omitted is %.200s, want %.80q", line, gjson.Get(doc, "wsrelay.omitted"), tt.omitted)
			}
			if got := gjson.Get(doc, "wsrelay.line").Str; got != line {
				t.Errorf("the line is %.80q, want %.80q", got, line)
			}
			if gjson.Get(doc, "first").Exists() != strings.Contains(form, "first") ||
				gjson.Get(doc, "last").Exists() != strings.Contains(form, "last") {
				t.Errorf("%.80s: the document lacks what fits: %.300s", line, doc)
			}
			if !gjson.Get(doc, `\@timestamp`).Exists() {
				t.Errorf("%.80s: no time", line)
			}
		}
	}
}

// In a line of a known form a sender chooses names, too: those are bounded wherever
// they stand.
func TestDocument_TheBoundsHoldInEveryForm(t *testing.T) {
	request := strings.TrimSuffix(requestLine, "}")
	for _, form := range []struct{ line, within string }{
		{syslogLineOf(`"fields":{%s}`), "fields."},
		{syslogLineOf(`"fields":` + request + `,%s}`), "fields."},
		{syslogLineOf(`"fields":` + requestLine + `,%s`), ""},
		{syslogLineOf(`"sdata":{%s}`), "log.syslog.structured_data."},
		{syslogLineOf(`"sdata":{"x@1":{%s}},"fields":` + requestLine), "log.syslog.structured_data.x@1."},
		{syslogLineOf(`%s`), ""},
		{request + `,%s}`, ""},
	} {
		for _, tt := range []struct{ member, name, why string }{
			{`"a..b":1`, "a..b", whyEmpty},
			{`"a":{"":1}`, "a.", whyEmpty},
			{`"z":1,"\u007a":2`, "z", whyTwice},
			{`"a":[1e999]`, "a", whyNumber},
			{`"` + strings.Repeat("n", 513) + `":1`, strings.Repeat("n", 513), whyName},
			{`"` + strings.Repeat("p.", 20) + `p":1`, strings.Repeat("p.", 20) + "p", whyDeep},
		} {
			line := strings.Replace(form.line, "%s", tt.member, 1)
			doc := documentOf(t, line)
			name := cut(form.within+tt.name, maxName)
			if why, omitted := gjson.Get(doc, "wsrelay.why").Str,
				gjson.Get(doc, "wsrelay.omitted").Raw; why != tt.why || omitted != fmt.Sprintf("[%q]", name) {
				t.Errorf("%.300s: omitted is %.200s, because of %q, want %.80q, %q", line, omitted, why, name, tt.why)
			}
			if gjson.Get(doc, "wsrelay.line").Str != line || !gjson.Get(doc, "log.syslog").Exists() &&
				!gjson.Get(doc, "url.path").Exists() {
				t.Errorf("%.300s: not the names of its form, or no line: %.600s", line, doc)
			}
		}
	}
}

func TestDocument_TooLargeOrTooDeepALineIsText(t *testing.T) {
	for line, why := range map[string]string{
		`{"a":"` + strings.Repeat("x", maxObject) + `"}`:                    whyLarge,
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}": whyDeepLine,
		`{"wsrelay":1}`: whyOurs,
		"plain":         "",
	} {
		doc := documentOf(t, line)
		if gjson.Get(doc, "wsrelay.why").Str != why || gjson.Get(doc, "message").Str != line {
			t.Errorf("%.40s became %.200s", line, doc)
		}
	}
}

// Times are in a form that every engine takes, and tell the same time.
func TestDocument_TimesAreInOneForm(t *testing.T) {
	for in, want := range map[string]string{
		`"2026-03-14T09:00:00.123456789+00:00"`: `"2026-03-14T09:00:00.123456789+00:00"`,
		`"2026-03-14T09:00:00Z"`:                `"2026-03-14T09:00:00Z"`,
		`"2026-03-14T9:00:00Z"`:                 `"2026-03-14T09:00:00Z"`,
		`"2026-03-14T09:00:00,5Z"`:              `"2026-03-14T09:00:00.5Z"`,
		`"2026-03-14T09:00:00+24:00"`:           `"2026-03-13T09:00:00Z"`,
		`"2026-03-14T09:00:00+18:00"`:           `"2026-03-13T15:00:00Z"`,
		`"2026-03-14T09:00:00.1234567891234Z"`:  `"2026-03-14T09:00:00.123456789Z"`,
		`"2026-03-14 09:00:00"`:                 `"2026-03-14T09:00:00Z"`,
		`"2026-03-14"`:                          `"2026-03-14T00:00:00Z"`,
		`"2026-03-14T09:00:00+0100"`:            `"2026-03-14T08:00:00Z"`,
		`"\u0032026-03-14T09:00:00Z"`:           `"2026-03-14T09:00:00Z"`,
		`1773478800000`:                         `1773478800000`,
	} {
		if got := gjson.Get(documentOf(t, `{"@timestamp":`+in+`,"a":1}`), `\@timestamp`).Raw; got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
		if _, err := time.Parse(time.RFC3339, gjson.Parse(in).Str); err != nil {
			continue
		}
		if got := gjson.Get(documentOf(t, strings.Replace(syslogLineOf(`"x":1`), `"2026-03-14T09:00:00.123456+00:00"`,
			in, 1)), `\@timestamp`).Raw; got != want {
			t.Errorf("in a message of syslog %s became %s, want %s", in, got, want)
		}
		if got := gjson.Get(documentOf(t, strings.Replace(requestLine, `"2026-03-14T09:00:00+01:00"`, in, 1)),
			`\@timestamp`).Raw; got != want {
			t.Errorf("in a request %s became %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{
		`"yesterday"`, `null`, `1e300`, `true`, `["2026-03-14"]`, `""`, `123456789012345678`,
		`-1`, `"+300000-01-01T00:00:00Z"`,
	} {
		doc := documentOf(t, `{"@timestamp":`+in+`,"a":1}`)
		if got := gjson.Get(doc, `\@timestamp`).Raw; got != `"2026-11-22T23:59:59.007Z"` ||
			!gjson.Get(doc, "wsrelay.line").Exists() {
			t.Errorf("%s: %s, want when the line came, and the line", in, doc)
		}
	}
}

// FuzzFit: what is cut, or written as fractions, leaves valid JSON, in which all
// else stands as before.
func FuzzFit(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"":2,"b":[{"c.":3},{"d":4}]}`, `{"z":1,"z":2,"z":3}`, `{ "a" : { } , ".":1 }`,
		`{"a":[1e999,2],"b":1e5}`, `{"":{}}`, `{"a":[1,-2,1.5,{"a":[3]}]}`, `{"a.b.c":{"d..e":[]},"a":{"b":{"c":1}}}`,
	} {
		f.Add([]byte(seed), "a")
	}
	f.Fuzz(func(t *testing.T, line []byte, omit string) {
		if !json.Valid(line) || len(line) > 1<<16 || gjson.ParseBytes(line).Type != gjson.JSON {
			return
		}
		b := batchOf("0123456789abcdef", 7, string(line))
		without, widened := newOps("logs", []receiver.Batch{b})[0], newOps("logs", []receiver.Batch{b})[0]
		without.omit, without.why = []string{omit}, "refused"
		widened.widen = []string{omit}
		for _, o := range []*op{without, widened} {
			new(names).write([]*op{o})
			_, doc, _ := strings.Cut(string(o.body), "\n")
			if !json.Valid([]byte(doc)) {
				t.Fatalf("%q became %q", line, doc)
			}
			if gjson.Get(doc, "wsrelay.crc").Str == "" || !gjson.Get(doc, `\@timestamp`).Exists() {
				t.Fatalf("%q lost what is ours: %q", line, doc)
			}
		}
	})
}
