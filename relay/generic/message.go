package generic

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/tidwall/gjson"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// cutter takes blocks apart into messages.
type cutter struct {
	uid   string // name of the member that carries the UID; "": none
	sid   string
	next  buffer.Range // of what comes next; empty: nothing is left
	lines []byte       // the lines of next
	gap   *buffer.Gap  // instead
	buf   []byte       // of the lines, used again
}

// message is one line, or a gap, as it is sent.
type message struct {
	kind int // of RFC 6455: TEXT or BINARY
	text []byte
	of   buffer.Range
	uid  string
	gap  *buffer.Gap
}

// keepBuffer is the size up to which a buffer is used again, in bytes.
const keepBuffer = 4 << 20

// load takes b, without the records below from if they are not all of it.
func (c *cutter) load(b *buffer.Block, from uint64) (err error) {
	c.sid, c.next, c.gap = b.SID(), b.Range(), b.Gap()
	if c.gap != nil {
		return nil
	}
	if cap(c.buf) > keepBuffer { // occasionally a line is huge
		c.buf = nil
	}
	c.buf, err = b.Lines(c.buf[:0])
	c.lines = c.buf
	for from < c.next.End && c.next.First < from && err == nil {
		_, c.lines, _ = bytes.Cut(c.lines, newline)
		c.next.First++
	}
	return err
}

var newline = []byte{'\n'}

func (c *cutter) empty() bool { return c.next.First >= c.next.End }

// message gives the next one; its text is valid until load.
func (c *cutter) message() message {
	m := message{kind: websocket.TextMessage, of: c.next, gap: c.gap}
	if c.gap != nil {
		m.uid = handshake.GapID(c.sid, m.of.First, m.of.Len())
		m.text = c.notice(m)
		c.next.First = c.next.End
		return m
	}
	m.text, c.lines, _ = bytes.Cut(c.lines, newline)
	m.of.End = m.of.First + 1
	m.uid = handshake.UID(c.sid, m.of.First)
	c.next.First++
	if c.uid != "" {
		m.text = label(m.text, c.uid, m.uid)
	} else if !utf8.Valid(m.text) {
		m.kind = websocket.BinaryMessage
	}
	return m
}

// notice is a message that records will never come.
func (c *cutter) notice(m message) []byte {
	return encode(map[string]any{cmp.Or(c.uid, "uid"): m.uid, "gap": struct {
		Seq uint64 `json:"seq"`
		N   uint64 `json:"n"`
		buffer.Gap
	}{m.of.First, m.of.Len(), *m.gap}})
}

// label makes uid part of a line: one more member, if the line is a JSON object
// without such a member; else the line becomes the member "message" of an object,
// and, if it is not UTF-8, its bytes are in "raw" in base64.
func label(line []byte, name, uid string) []byte {
	member := encode(map[string]string{name: uid})
	if len(line) > 0 && line[0] == '{' && utf8.Valid(line) && json.Valid(line) && !has(line, name) {
		rest := bytes.TrimLeft(line[1:], " \t\r\n")
		member[len(member)-1] = ','
		if rest[0] == '}' {
			member = member[:len(member)-1]
		}
		return append(member, rest...)
	}
	object := map[string]string{name: uid, "message": string(line)}
	if !utf8.Valid(line) {
		object["raw"] = base64.StdEncoding.EncodeToString(line)
	}
	return encode(object)
}

// has reports whether a JSON object has a member of this name.
func has(object []byte, name string) (found bool) {
	gjson.ParseBytes(object).ForEach(func(key, _ gjson.Result) bool {
		found = key.String() == name
		return !found
	})
	return found
}

// encode writes JSON as short as it goes.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // of strings and numbers only
	}
	return bytes.TrimSuffix(b.Bytes(), newline)
}
