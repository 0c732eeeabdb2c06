package elastic

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	// maxDepth is how deep a line's JSON may be nested to go through as it
	// is. Engines refuse objects deeper than 20, but some (Elasticsearch
	// 7.10) end with a stack overflow on a thousand instead of refusing.
	maxDepth = 64

	timeFormat = "2006-01-02T15:04:05.000Z"
)

// op is one document on its way: of a line, or of a gap.
type op struct {
	batch *receiver.Batch
	of    int // index of batch in the Commit
	seq   uint64
	line  []byte // nil for a gap
	crc   string // of line; "" for a gap

	index, id string
	body      []byte // the action's line and the document's
	dead      *Error // why it goes to the dead-letter index; nil: it does not

	outcome outcome
	err     *Error // with unknown, refused and failed
	call    *call  // whoever waits for it
}

func newOps(prefix string, batches []receiver.Batch) []*op {
	var ops []*op
	for i := range batches {
		b := &batches[i]
		index := "wsrelay-" + prefix + b.At.UTC().Format("-2006.01.02")
		if g := b.Gap; g != nil {
			o := &op{batch: b, of: i, seq: g.Seq, index: index, id: handshake.GapID(b.SID, g.Seq, g.N)}
			o.body = o.appendDocument(o.appendAction(nil))
			ops = append(ops, o)
			continue
		}
		for n, line := range b.Lines {
			seq := b.Seq + uint64(n)
			o := &op{batch: b, of: i, seq: seq, line: line, crc: handshake.CRC(line), index: index, id: handshake.UID(b.SID, seq)}
			o.body = o.appendDocument(o.appendAction(make([]byte, 0, len(line)+320)))
			ops = append(ops, o)
		}
	}
	return ops
}

// deadIndex is where the document goes when its own index refuses it.
func (o *op) deadIndex() string { return "wsrelay-dead" + o.batch.At.UTC().Format("-2006.01") }

// bury turns o into its dead letter.
func (o *op) bury(why *Error) {
	o.dead = why
	refusedBy := o.index
	o.index = o.deadIndex()
	dst := o.appendAction(nil)
	dst = append(dst, '{')
	dst = o.appendOwn(dst)
	dst = o.appendText(dst)
	dst = append(dst, `,"error":{"code":"`...)
	dst = strconv.AppendInt(dst, int64(why.Status), 10)
	dst = append(dst, `","type":`...)
	dst = gjson.AppendJSONString(dst, why.Type)
	dst = append(dst, `,"message":`...)
	dst = gjson.AppendJSONString(dst, why.Reason)
	dst = append(dst, `,"index":"`...)
	dst = append(dst, refusedBy...)
	o.body = append(dst, "\"}}\n"...)
}

func (o *op) appendAction(dst []byte) []byte {
	dst = append(dst, `{"create":{"_index":"`...)
	dst = append(dst, o.index...)
	dst = append(dst, `","_id":"`...)
	dst = append(dst, o.id...)
	return append(dst, "\"}}\n"...)
}

// appendDocument appends the line as it is with our members in front, if it is
// an object that leaves them their names; else a document with the line as
// text.
func (o *op) appendDocument(dst []byte) []byte {
	dst = append(dst, '{')
	dst = o.appendOwn(dst)
	members, timed, ok := readObject(o.line)
	if !ok {
		return append(o.appendText(dst), "}\n"...)
	}
	if !timed {
		dst = o.appendTime(dst)
	}
	if members[0] != '}' {
		dst = append(dst, ',')
	}
	return append(append(dst, members...), '\n')
}

// appendOwn appends the member that says where the document comes from.
func (o *op) appendOwn(dst []byte) []byte {
	dst = append(dst, `"wsrelay":{"sid":"`...)
	dst = append(dst, o.batch.SID...)
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendUint(dst, o.seq, 10)
	if o.crc != "" {
		dst = append(dst, `,"crc":"`...)
		dst = append(dst, o.crc...)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"at":"`...)
	dst = o.batch.At.UTC().AppendFormat(dst, timeFormat)
	dst = append(dst, `","host":`...)
	dst = gjson.AppendJSONString(dst, o.batch.Host)
	if g := o.batch.Gap; g != nil {
		dst = appendGap(dst, g)
	}
	if !utf8.Valid(o.line) {
		dst = append(dst, `,"raw":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, o.line)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

func appendGap(dst []byte, g *handshake.Gap) []byte {
	dst = append(dst, `,"gap":{"n":`...)
	dst = strconv.AppendUint(dst, g.N, 10)
	dst = append(dst, `,"why":`...)
	dst = gjson.AppendJSONString(dst, g.Why)
	dst = append(dst, `,"maybe":`...)
	dst = strconv.AppendBool(dst, g.Maybe)
	if g.From != 0 {
		dst = append(dst, `,"from":"`...)
		dst = time.UnixMilli(g.From).UTC().AppendFormat(dst, timeFormat)
		dst = append(dst, `","to":"`...)
		dst = time.UnixMilli(g.To).UTC().AppendFormat(dst, timeFormat)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

func (o *op) appendTime(dst []byte) []byte {
	dst = append(dst, `,"@timestamp":"`...)
	dst = o.batch.At.UTC().AppendFormat(dst, timeFormat)
	return append(dst, '"')
}

// appendText appends time and message. What is not UTF-8 in a line becomes
// U+FFFD; its bytes are then in wsrelay.raw.
func (o *op) appendText(dst []byte) []byte {
	text := string(o.line)
	if g := o.batch.Gap; g != nil {
		text = strconv.FormatUint(g.N, 10) + " lines will not come: " + g.Why
	}
	dst = append(o.appendTime(dst), `,"message":`...)
	return gjson.AppendJSONString(dst, text)
}

// readObject gives what stands behind the opening brace if the line is a JSON
// object that can take our members, and whether it has a time of its own.
func readObject(line []byte) (members []byte, timed, ok bool) {
	line = bytes.Trim(line, " \t\r\n")
	if len(line) < 2 || line[0] != '{' || !utf8.Valid(line) || isDeep(line) || !gjson.ValidBytes(line) {
		return nil, false, false
	}
	ok = true
	gjson.ParseBytes(line).ForEach(func(key, _ gjson.Result) bool {
		switch {
		case key.Str == "@timestamp":
			timed = true
		case key.Str == "wsrelay", len(key.Str) > 8 && key.Str[:8] == "wsrelay.":
			ok = false
		}
		return ok
	})
	return bytes.TrimLeft(line[1:], " \t\r\n"), timed, ok
}

// isDeep reports whether JSON is nested deeper than maxDepth. It comes before
// any recursive reader.
func isDeep(line []byte) bool {
	if bytes.Count(line, []byte{'{'})+bytes.Count(line, []byte{'['}) <= maxDepth {
		return false
	}
	depth, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}
