package elastic

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
)

// requestLine is a request as examples/nginx writes it.
const requestLine = `{"ip":"203.0.113.7","host":"shop.example","path":"/orders/7?q=caf\u00e9&x=\"?","status":200,` +
	`"referrer":"https://shop.example/cart","user_agent":"Mozilla/5.0 (\"x\")","length":512,"generation_time_milli":42,"date":"2026-03-14T09:00:00+01:00"}`

// syslogLineOf is a message as the websocket() block writes it, with further
// members.
func syslogLineOf(more string) string {
	return `{"timestamp":"2026-03-14T09:00:00.123456+00:00","host":"web1","program":"nginx","pid":"0412","msgid":"ID7","facility":"local7","severity":"info","priority":190,"message":"it\tsays",` + more + `}`
}

func checkFields(t *testing.T, doc string, want map[string]string) {
	t.Helper()
	for path, value := range want {
		got := gjson.Get(doc, path).Raw
		if path == "@timestamp" {
			got = gjson.Get(doc, `\@timestamp`).Raw
		}
		if got != value {
			t.Errorf("%s is %s, want %s, in %s", path, got, value, doc)
		}
	}
}

var requestFields = map[string]string{
	"source.ip":                 `"203.0.113.7"`,
	"url.original":              `"/orders/7?q=caf\u00e9&x=\"?"`,
	"url.path":                  `"/orders/7"`,
	"url.query":                 `"q=caf\u00e9&x=\"?"`,
	"url.domain":                `"shop.example"`,
	"http.response.status_code": `200`,
	"http.response.body.bytes":  `512`,
	"http.request.referrer":     `"https://shop.example/cart"`,
	"user_agent.original":       `"Mozilla/5.0 (\"x\")"`,
	"event.duration":            `42000000`,
}

func TestDocument_ARequestOfNginxHasTheSchemasNames(t *testing.T) {
	doc := documentOf(t, requestLine)
	checkFields(t, doc, requestFields)
	checkFields(t, doc, map[string]string{
		"@timestamp": `"2026-03-14T09:00:00+01:00"`,
		"date":       `"2026-03-14T09:00:00+01:00"`, "host": "", "ip": "",
	})
	if got := gjson.Get(doc, "message").Str; got != requestLine {
		t.Errorf("message %q, want the line", got)
	}
	for change, want := range map[string]map[string]string{
		`"ip":"unix:"`:                 {"source.address": `"unix:"`, "source.ip": ""},
		`"ip":"fe80::1%eth0"`:          {"source.address": `"fe80::1%eth0"`, "source.ip": ""},
		`"ip":"2001:db8::1"`:           {"source.ip": `"2001:db8::1"`},
		`"referrer":""`:                {"http.request": "", "http.response.status_code": "200"},
		`"path":"/"`:                   {"url.path": `"/"`, "url.query": "", "url.original": `"/"`},
		`"date":"yesterday"`:           {"@timestamp": `"2026-11-22T23:59:59.007Z"`, "date": `"yesterday"`},
		`"status":200,"upstream":[1]`:  {"upstream": "[1]", "http.response.status_code": "200"},
		`"generation_time_milli":0`:    {"event.duration": "0"},
		`"status":"200"`:               {"status": `"200"`, "http": ""}, // not that format: as it is
		`"status":200.5`:               {"status": `200.5`, "http": ""},
		`"status":1,"status":2`:        {"http": ""},
		`"status":200,"message":"own"`: {"message": `"own"`, "http": ""},
	} {
		key, _, _ := strings.Cut(change, ":")
		line := changed(requestLine, key, change)
		checkFields(t, documentOf(t, line), want)
	}
}

// changed replaces the first member that is called key.
func changed(line, key, with string) string {
	at := strings.Index(line, key+":")
	value := gjson.Get(line, strings.Trim(key, `"`)).Raw
	return line[:at] + with + line[at+len(key)+1+len(value):]
}

func TestDocument_AMessageOfSyslogHasTheSchemasNames(t *testing.T) {
	line := syslogLineOf(`"sdata":{"x@1":{"a":"b"}},"fields":{"a":1},"extra":true`)
	checkFields(t, documentOf(t, line), map[string]string{
		"@timestamp":                 `"2026-03-14T09:00:00.123456+00:00"`,
		"message":                    `"it\tsays"`,
		"host.name":                  `"web1"`,
		"process.name":               `"nginx"`,
		"process.pid":                `412`,
		"log.level":                  `"info"`,
		"log.syslog.priority":        `190`,
		"log.syslog.facility.code":   `23`,
		"log.syslog.facility.name":   `"local7"`,
		"log.syslog.severity.code":   `6`,
		"log.syslog.severity.name":   `"info"`,
		"log.syslog.hostname":        `"web1"`,
		"log.syslog.appname":         `"nginx"`,
		"log.syslog.procid":          `"0412"`,
		"log.syslog.msgid":           `"ID7"`,
		"log.syslog.structured_data": `{"x@1":{"a":"b"}}`,
		"event.original":             string(appendString(nil, []byte(line))),
		"fields":                     `{"a":1}`,
		"extra":                      `true`,
		"timestamp":                  "",
		"program":                    "",
	})
	doc := documentOf(t, syslogLineOf(`"fields":`+requestLine))
	checkFields(t, doc, requestFields)
	checkFields(t, doc, map[string]string{
		"fields": `{"date":"2026-03-14T09:00:00+01:00"}`, "host.name": `"web1"`,
		"message": `"it\tsays"`,
	})

	for name, line := range map[string]string{
		"a time that is none": strings.Replace(line, "2026-03-14T", "soon", 1),
		"no facility":         strings.Replace(line, "facility", "f", 1),
		"twice a host":        strings.Replace(line, "extra", "host", 1),
		"an event of its own": strings.Replace(line, "extra", "event", 1),
		"sdata that is text":  strings.Replace(line, `{"x@1":{"a":"b"}}`, `"b"`, 1),
		"a number as program": strings.Replace(line, `"nginx"`, `7`, 1),
	} {
		if doc := documentOf(t, line); gjson.Get(doc, "log.syslog").Exists() ||
			!strings.Contains(doc, `"severity":"info"`) {
			t.Errorf("%s: %s, want the line as it is", name, doc)
		}
	}
}

func BenchmarkDocument(b *testing.B) {
	for _, line := range []string{
		"plain text of a line", `{"a":1,"message":"as it is"}`, requestLine,
		syslogLineOf(`"fields":` + requestLine),
	} {
		batch := batchOf("0123456789abcdef", 1, line)
		o := newOps("logs", []receiver.Batch{batch})[0]
		b.Run(strconv.Itoa(len(line)), func(b *testing.B) {
			b.ReportAllocs()
			buf, r := make([]byte, 0, 4096), new(scratch)
			k, _ := new(names).index("x")
			for b.Loop() {
				o.appendDocument(buf, r, k)
			}
		})
	}
}
