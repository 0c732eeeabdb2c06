package generic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

func TestLabel_GivesALineItsUID(t *testing.T) {
	for line, want := range map[string]string{
		``:                   `{"message":"","u":"U"}`,
		`text "x" <b>`:       `{"message":"text \"x\" <b>","u":"U"}`,
		`{}`:                 `{"u":"U"}`,
		`{ }`:                `{"u":"U"}`,
		`{"a":{"u":1}}`:      `{"u":"U","a":{"u":1}}`,
		`{"u":1}`:            `{"message":"{\"u\":1}","u":"U"}`,
		`{"\u0075":1}`:       `{"message":"{\"\\u0075\":1}","u":"U"}`,
		`{"a":1} x`:          `{"message":"{\"a\":1} x","u":"U"}`,
		`[1]`:                `{"message":"[1]","u":"U"}`,
		"\xff":               `{"message":"\ufffd","raw":"/w==","u":"U"}`,
		"{\"a\":\"\xff\"}\r": `{"message":"{\"a\":\"\ufffd\"}\r","raw":"eyJhIjoi/yJ9DQ==","u":"U"}`,
	} {
		if got := string(label([]byte(line), "u", "U")); got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
}

func FuzzLabel(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"a":[1,{"b":2}]}`, "\xff", `{"uid":3}`, strings.Repeat(`{"a":`, 20000),
		`{"a":1`,
	} {
		f.Add([]byte(s), "uid")
	}
	f.Fuzz(func(t *testing.T, line []byte, name string) {
		if name == "message" || name == "raw" || !utf8.ValidString(name) {
			return
		}
		before := slices.Clone(line)
		out := label(line, name, "U")
		if !bytes.Equal(line, before) {
			t.Fatal("the line was changed")
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(out, &object); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if string(object[name]) != `"U"` {
			t.Fatalf("%q: its %q is %s", out, name, object[name])
		}
		if message, wrapped := object["message"]; wrapped && len(object) <= 3 && !gjson.ValidBytes(line) {
			var text string
			raw := gjson.GetBytes(out, "raw").Str
			must(t, json.Unmarshal(message, &text))
			if bytes, _ := base64.StdEncoding.DecodeString(raw); text != string(line) && string(bytes) != string(line) {
				t.Fatalf("%q does not hold %q", out, line)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	sid := handshake.NewSID()
	uid := handshake.UID(sid, 2)
	for _, s := range []string{
		"", "{}", `{"uid":"` + uid + `"}`, `{"uid":["` + uid + `",1,null,{"uid":"x"}],"s":1}`,
		`{"s":0}`, strings.Repeat("[", 20000), `{"uid":"` + uid + "g18446744073709551615\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, o := range []Options{
			{Receipt: "uid"},
			{Receipt: "uid", If: "s=1"},
			{Receipt: InOrder, If: "s=1"},
			{Receipt: InOrder},
			{Receipt: "items.#.create._id"},
		} {
			a, err := o.answer(msg)
			if err != nil && (a.uids != nil || a.oldest || a.refused) || a.refused && (a.uids != nil || a.oldest) {
				t.Fatalf("%+v, %v", a, err)
			}
			var w window
			for seq := range uint64(3) {
				w.add(message{of: buffer.Range{First: seq + 1, End: seq + 2}, uid: handshake.UID(sid, seq+1)})
			}
			for _, uid := range a.uids {
				if w.confirm(uid) && uid != handshake.UID(sid, 1) && uid != handshake.UID(sid, 2) &&
					uid != handshake.UID(sid, 3) {
					t.Fatalf("%q was taken for a line", uid)
				}
			}
			if last, _ := w.popDone(); last != nil && last.of.End > 4 {
				t.Fatal("more was acknowledged than sent")
			}
		}
	})
}

func TestCutter_SaysWhichLinesWillNeverCome(t *testing.T) {
	// A queue that drops its oldest lines leaves a gap.
	sid := handshake.NewSID()
	c := cutter{
		uid: "id", sid: sid, next: buffer.Range{First: 5, End: 8},
		gap: &buffer.Gap{Why: "overflow", Maybe: true, From: 1, To: 2},
	}
	m := c.message()
	want := `{"gap":{"seq":5,"n":3,"why":"overflow","maybe":true,"from":1,"to":2},"id":"` + handshake.GapID(sid, 5, 3) + `"}`
	if string(m.text) != want || !c.empty() || m.of.Len() != 3 {
		t.Errorf("got %s, want %s; %+v", m.text, want, m.of)
	}
	var w window
	w.add(m)
	if w.confirm(handshake.UID(sid, 5)) || !w.confirm(m.uid) {
		t.Error("a gap is acknowledged by its own id, and by no other")
	}
	if last, n := w.popDone(); last == nil || n != 3 || last.of.End != 8 {
		t.Errorf("settled %+v, %d", last, n)
	}
}
