package elastic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// written gives documents with their bodies.
func written(prefix string, batches ...receiver.Batch) []*op {
	ops := newOps(prefix, batches)
	new(names).write(ops)
	return ops
}

func documentOf(t *testing.T, line string) string {
	t.Helper()
	ops := written("logs", batchOf("0123456789abcdef", 7, line))
	_, doc, _ := strings.Cut(string(ops[0].body), "\n")
	if !json.Valid([]byte(doc)) || strings.Count(doc, "\n") != 1 {
		t.Fatalf("line %q: the document %q is not one line of JSON", line, doc)
	}
	return doc
}

const own = `{"wsrelay":{"sid":"0123456789abcdef","seq":7,"crc":"CRC","at":"2026-11-22T23:59:59.007Z","host":"web1"}`

// Only a bare value whose name is one of the schema's objects becomes its field.
func TestDocument_AnObjectGoesThroughAsItIs(t *testing.T) {
	const at = `,"@timestamp":"2026-11-22T23:59:59.007Z"`
	for line, want := range map[string]string{
		`{"a": 1.50}`:                      own + at + `,"a": 1.50}`,
		"  { \"a\":1 }\r":                  own + at + `,"a":1 }`,
		`{}`:                               own + at + `}`,
		`{ }`:                              own + at + `}`,
		`{"\u0040timestamp":1}`:            own + `,"\u0040timestamp":1}`,
		`{"x":{"wsrelay":1}}`:              own + at + `,"x":{"wsrelay":1}}`,
		`{"host":{"name":"x"},"url":null}`: own + at + `,"host":{"name":"x"},"url":null}`,
		`{"host":"x", "error" : 7 }`:       own + at + `,"host":{"name":"x"}, "error" : {"message":7} }`,
		`{"event":["x"],"log":[{"a":1}]}`:  own + at + `,"event":{"action":["x"]},"log":[{"a":1}]}`,
		`{"a":"` + strings.Repeat("{", 999) + `"}`: own + at + `,"a":"` + strings.Repeat("{", 999) + `"}`,
	} {
		want = strings.Replace(want, "CRC", handshake.CRC([]byte(line)), 1) + "\n"
		if got := documentOf(t, line); got != want {
			t.Errorf("line %q:\ngot  %swant %s", line, got, want)
		}
	}
}

// The pieces of a line that is longer than the protocol takes have the greatest
// length that there is, but for the last one.
func TestDocument_APieceOfALongerLineSaysSo(t *testing.T) {
	for n, want := range map[int]string{handshake.MaxLine: "true", handshake.MaxLine - 1: "", 5: ""} {
		if got := gjson.Get(documentOf(t, strings.Repeat("x", n)), "wsrelay.cut").Raw; got != want {
			t.Errorf("%d bytes: wsrelay.cut is %q, want %q", n, got, want)
		}
	}
}

// syslog-ng writes numbers that are too large so. An integer beyond a long is no
// field, and keeps its digits in the text.
func TestDocument_ANumberThatIsNotFiniteCostsNoStructure(t *testing.T) {
	line := `{"timestamp":"2026-11-22T00:00:00+00:00","host":"web1","facility":"user","severity":"info","priority":14,"message":"m","fields":{"n":-inf,"big":12345678901234567890123,"ok":1}}`
	doc := documentOf(t, line)
	for path, want := range map[string]string{
		"fields.n": `"-inf"`, "fields.big": "", "fields.ok": "1", "message": `"m"`, "host.name": `"web1"`,
	} {
		if got := gjson.Get(doc, path).Raw; got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if got := gjson.Get(doc, "event.original").Str; got != line {
		t.Errorf("event.original %q, want the line as it came", got)
	}
}

func TestDocument_AnythingElseIsText(t *testing.T) {
	for _, line := range []string{
		"", "plain", `"string"`, "[1]", "17", "null", "{", `{"a":1} x`, `{"a":01}`, "{\"a\":\"\x01\"}",
		`{"wsrelay":1}`, `{"wsrelay.crc":"x"}`, `{"\u0077srelay":1}`, "<b>&\u2028",
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}",
		strings.Repeat(`{"a":`, 1<<20),
	} {
		doc := documentOf(t, line)
		if got := gjson.Get(doc, "message").Str; got != line {
			t.Errorf("message %q, want %q", got, line)
		}
		if got := gjson.Get(doc, `wsrelay.crc`).Str; got != handshake.CRC([]byte(line)) {
			t.Errorf("line %q: crc %q", line, got)
		}
	}
}

func TestDocument_BytesThatAreNotUTF8AreKept(t *testing.T) {
	for _, line := range []string{"caf\xe9", "{\"a\":\"\xff\"}"} {
		doc := documentOf(t, line)
		if got, want := gjson.Get(doc, "message").Str, strings.ToValidUTF8(line, "\ufffd"); got != want {
			t.Errorf("message %q, want %q", got, want)
		}
		if raw, err := base64.StdEncoding.DecodeString(gjson.Get(doc, "wsrelay.raw").Str); err != nil ||
			string(raw) != line {
			t.Errorf("raw %q, %v, want %q", raw, err, line)
		}
	}
}

// FuzzDocument: every line becomes one line of JSON that says which line it
// was, holds all of it, and fits its index.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"", "x", `{"a":1}`, `{"@timestamp":1,"a":[{}]}`, "\xff", `{"wsrelay":{}}`, `{}`, `{"host":["x"],"url" : 1 }`,
		requestLine, syslogLineOf(`"fields":` + requestLine),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		doc := documentOf(t, string(line))
		if got := gjson.Get(doc, "wsrelay.crc").Str; got != handshake.CRC(line) {
			t.Fatalf("crc %q", got)
		}
		names, _ := new(names).index("x")
		own := len(`{"wsrelay":`) + len(gjson.Get(doc, "wsrelay").Raw)
		if cuts := new(fitter).fit([]byte(doc), own, names, &op{batch: new(receiver.Batch)}); len(cuts) > 0 {
			t.Fatalf("%q became %q, of which %v does not fit", line, doc, cuts)
		}
		members, _ := new(scratch).readObject(bytes.Trim(line, " \t\r\n"))
		switch raw := gjson.Get(doc, "wsrelay.raw"); {
		case raw.Exists():
			if raw.Str != base64.StdEncoding.EncodeToString(line) {
				t.Fatalf("raw %q", raw.Str)
			}
		case gjson.Get(doc, "message").String() == string(line), gjson.Get(doc, "event.original").Str == string(line):
		case gjson.Get(doc, "wsrelay.line").String() == string(line) && gjson.Get(doc, "wsrelay.omitted").IsArray():
		case members == nil:
			t.Fatalf("%q is not in %q", line, doc)
		default:
			got := membersOf(doc, nil)
			got = got[len(got)-len(members):]
			for i, m := range members {
				if v := got[i].value; got[i].name != m.name || v != m.value &&
					(!m.bare() || v != value(`{"`+leaves[m.name]+`":`)+m.value+`}`) {
					t.Fatalf("%q became %q: %q", line, doc, v)
				}
			}
		}
	})
}
