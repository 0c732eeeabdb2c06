package elastic

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	// maxDepth is how deep a line's JSON may be nested to go through as it
	// is. Engines refuse objects deeper than 20, but some (Elasticsearch
	// 7.10) end with a stack overflow on a thousand instead of refusing.
	maxDepth = 64

	pageBytes = 64 << 10 // of the memory of several bodies

	timeFormat = "2006-01-02T15:04:05.000Z"
)

// op is one document on its way: of a line, or of a gap.
type op struct {
	batch *receiver.Batch
	of    int    // index of batch in the Commit
	at    string // when the batch entered its sender's queue
	seq   uint64
	line  []byte // nil for a gap
	crc   string // of line; "" for a gap

	index, id string   // index: of a data stream the backing index
	stream    string   // the data stream that it is for; "": none
	pipeline  string   // the ingest pipeline that it goes through; "": that of its index
	body      []byte   // the action's line and the document's; nil: not written yet
	asText    bool     // the line is only text, or is to be: none of its members are fields
	omit      []string // names of members that are to stay out
	why       string   // why that is so: what the engine has said
	widen     []string // names of members whose integers become fractions if they stand beside some
	hit       bool     // something in omit is a member, or something in widen was done
	less      *op      // the form of it with less of the line that was refused last
	refusals  int      // of forms of the document
	routing   string   // what its shard is chosen by; "": the id
	probes    bool     // it is none: an empty document that asks whether the shard takes one
	probed    bool     // an empty document was sent to its shard
	probeID   string   // with stream: the id that this has there
	dead      *Error   // why it goes to the dead-letter index; nil: it does not
	refusedBy string   // with dead: the index that it was for
	takenIn   string   // with exists: the index that has the id; "": the answer names none

	outcome outcome
	err     *Error // with unknown, refused and failed
	call    *call  // the caller that waits for it
}

// newOps gives the documents of batches, without their bodies: which names a
// document may bring only its index tells.
func newOps(prefix string, batches []receiver.Batch) []*op {
	var ops []*op
	for i := range batches {
		b := &batches[i]
		index, at := "wsrelay-"+prefix+placed(b.At).Format("-2006.01.02"), b.At.UTC().Format(timeFormat)
		if g := b.Gap; g != nil {
			ops = append(ops, &op{
				batch: b, of: i, at: at, seq: g.Seq, index: index,
				id: handshake.GapID(b.SID, g.Seq, g.N),
			})
			continue
		}
		own := make([]op, len(b.Lines))
		ops = slices.Grow(ops, len(own))
		for n, line := range b.Lines {
			seq, o := b.Seq+uint64(n), &own[n]
			*o = op{batch: b, of: i, at: at, seq: seq, line: line, crc: handshake.CRC(line), index: index, id: handshake.UID(b.SID, seq)}
			ops = append(ops, o)
		}
	}
	return ops
}

// write makes the bodies of those that have none.
func (n *names) write(ops []*op) {
	var r scratch
	var page []byte // that the bodies lie in, one behind the other
	for _, o := range ops {
		if o.body != nil {
			continue
		}
		if likely := 2*len(o.line) + 2<<10; cap(page)-len(page) < likely {
			page = make([]byte, 0, max(likely, pageBytes))
		}
		start := len(page)
		k, _ := n.index(o.index)
		page = o.appendDocument(o.appendAction(page), &r, k)
		o.body = page[start:len(page):len(page)]
	}
}

// deadIndex is where the document goes when its own index refuses it.
func (o *op) deadIndex() string { return "wsrelay-dead" + placed(o.batch.At).Format("-2006.01") }

// bury turns o into its dead letter.
func (o *op) bury(why *Error) {
	o.dead, o.refusedBy, o.index, o.why = why, cmp.Or(o.stream, o.index), o.deadIndex(), ""
	o.body = append(o.appendAction(nil), o.deadDocument()...)
}

func (o *op) deadDocument() []byte {
	dst := o.appendOwn([]byte{'{'})
	dst = o.appendText(dst, "")
	dst = append(dst, `,"error":{"code":"`...)
	dst = strconv.AppendInt(dst, int64(o.dead.Status), 10)
	dst = append(dst, `","type":`...)
	dst = gjson.AppendJSONString(dst, o.dead.Type)
	dst = append(dst, `,"message":`...)
	dst = gjson.AppendJSONString(dst, o.dead.Reason)
	dst = append(dst, `,"index":"`...)
	dst = append(dst, o.refusedBy...)
	return append(dst, "\"}}\n"...)
}

// appendAction appends what is to be done with the document. A dead letter goes
// through no pipeline: it has to be what was sent.
func (o *op) appendAction(dst []byte) []byte {
	dst = append(dst, `{"create":{"_index":"`...)
	if o.inStream() {
		dst = append(dst, o.stream...)
	} else {
		dst = append(dst, o.index...)
	}
	dst = append(dst, `","_id":"`...)
	dst = append(dst, o.id...)
	if o.routing != "" {
		dst = append(append(dst, `","routing":"`...), o.routing...)
	}
	if o.pipeline != "" && o.dead == nil {
		dst = append(append(dst, `","pipeline":"`...), o.pipeline...)
	}
	return append(dst, "\"}}\n"...)
}

// appendDocument appends the line under the schema's names where its form is
// known; as it is, with our members in front, if it is an object that leaves
// them their names; else a document with the line as text. What of it must not
// be a field is cut out, and the line is then there as text as well.
func (o *op) appendDocument(dst []byte, r *scratch, k *known) []byte {
	start := len(dst)
	dst = append(dst, '{')
	dst = o.appendOwn(dst)
	own := len(dst)
	line := bytes.Trim(o.line, " \t\r\n")
	members, why := r.readObject(line)
	if members == nil && why == "" {
		if finite, ok := quoteNonFinite(line); ok {
			line = finite
			members, why = r.readObject(line)
		}
	}
	if o.asText || members == nil {
		o.asText = true
		if o.why == "" && why != "" {
			dst = append(appendString(append(dst[:own-1], `,"why":`...), []byte(why)), '}')
		}
		return append(o.appendText(dst, ""), "}\n"...)
	}
	r.cuts = r.cuts[:0]
	dst, theirs := o.appendObject(dst, r, line, members)
	if len(o.omit)+len(o.widen) > 0 { // which may name members that are ours
		theirs = own
	}
	cuts := r.fitter.fit(dst[start:], theirs-start, k, o)
	o.hit = r.fitter.hit
	if doc := r.fitter.widened(); doc != nil {
		dst = append(dst[:start], doc...)
		cuts = r.fitter.fit(dst[start:], own-start, k, o)
		o.hit = true
	}
	r.cuts = append(r.cuts, cuts...)
	if len(r.cuts) == 0 {
		return dst
	}
	doc := bytes.Clone(dst[start:])
	dst = o.appendCuts(append(dst[:start], doc[:own-start-1]...), r.cuts)
	return without(dst, doc, own-start-1, r.cuts)
}

// appendObject appends the members of a line that is an object. From the offset
// theirs on, their names and values are the sender's. What is before that fits: its
// names are among ours and none of the line's, its values are texts, times, and
// numbers of few digits.
func (o *op) appendObject(dst []byte, r *scratch, line []byte, members []member) (_ []byte, theirs int) {
	if s, ok := r.readSyslog(members); ok {
		dst, theirs = s.appendTo(dst, o.line)
		return append(dst, "}\n"...), theirs
	}
	if q, ok := r.readRequest(members); ok {
		dst = q.appendTo(o.appendText(dst, q.time()))
		dst = appendObject(dst, "event", field{"duration", q.duration()})
		return append(appendMembers(dst, q.rest), "}\n"...), len(dst)
	}
	return append(o.appendAsIs(dst, r, line, members), '\n'), len(dst)
}

// appendCuts appends to our own members which members of the line are no fields
// and why, and the line: its text is found all the same.
func (o *op) appendCuts(dst []byte, cuts []omission) []byte {
	dst = appendString(append(dst, `,"line":`...), o.line)
	dst = append(dst, `,"omitted":[`...)
	var reasons []string
	for i, c := range cuts {
		if i < maxListed {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, []byte(cut(c.name, maxName)))
		}
		if !slices.Contains(reasons, c.why) {
			reasons = append(reasons, c.why)
		}
	}
	if o.why != "" { // is there already
		return append(dst, ']')
	}
	return appendString(append(dst, `],"why":`...), []byte(strings.Join(reasons, "; ")))
}

// appendAsIs appends what stands behind the opening brace of an object, with
// nothing changed but bare values made fields of the objects that their names
// are for.
func (o *op) appendAsIs(dst []byte, r *scratch, line []byte, members []member) []byte {
	if !has(members, "@timestamp") {
		dst = o.appendTime(dst)
	}
	if len(members) > 0 {
		dst = append(dst, ',')
	}
	at := len(line) - len(bytes.TrimLeft(line[1:], " \t\r\n"))
	for _, m := range members {
		if m.name == "@timestamp" {
			dst = append(dst, line[at:m.at]...)
			dst = o.appendLineTime(dst, r, m.value)
			at = m.end()
			continue
		}
		if !m.bare() {
			continue
		}
		dst = append(dst, line[at:m.at]...)
		dst = append(append(append(dst, `{"`...), leaves[m.name]...), `":`...)
		dst = append(append(dst, m.value...), '}')
		at = m.end()
	}
	return append(dst, line[at:]...)
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
	dst = append(dst, o.at...)
	dst = append(dst, `","host":`...)
	dst = gjson.AppendJSONString(dst, o.batch.Host)
	if o.inStream() {
		dst = o.appendPin(append(dst, ','))
	}
	if g := o.batch.Gap; g != nil {
		dst = appendGap(dst, g)
	}
	if len(o.line) == handshake.MaxLine { // a longer one comes in pieces of this length
		dst = append(dst, `,"cut":true`...)
	}
	if !utf8.Valid(o.line) {
		dst = append(dst, `,"raw":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, o.line)
		dst = append(dst, '"')
	}
	if o.why != "" {
		dst = appendString(append(dst, `,"why":`...), []byte(o.why))
	}
	return append(dst, '}')
}

// appendPin appends the member that only the document's backing index takes.
func (o *op) appendPin(dst []byte) []byte {
	dst = append(dst, `"pin":{"`...)
	dst = append(dst, pinOf(o.index)...)
	return append(dst, `":true}`...)
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

// appendLineTime appends the time that a line tells, or else when it came.
func (o *op) appendLineTime(dst []byte, r *scratch, stated value) []byte {
	if raw, ok := timeOf(stated); ok {
		return append(dst, raw...)
	}
	r.cuts = append(r.cuts, omission{name: "@timestamp", why: whyTime})
	dst = append(dst, '"')
	dst = append(dst, o.at...)
	return append(dst, '"')
}

func (o *op) appendTime(dst []byte) []byte {
	dst = append(dst, `,"@timestamp":"`...)
	dst = append(dst, o.at...)
	return append(dst, '"')
}

// appendText appends time, ours if the line tells none, and message. What is
// not UTF-8 in a line becomes U+FFFD; its bytes are then in wsrelay.raw.
func (o *op) appendText(dst []byte, at value) []byte {
	text := o.line
	if g := o.batch.Gap; g != nil {
		text = fmt.Appendf(nil, "%d lines will not come: %s", g.N, g.Why)
	}
	if at != "" {
		dst = append(append(dst, `,"@timestamp":`...), at...)
	} else {
		dst = o.appendTime(dst)
	}
	return appendString(append(dst, `,"message":`...), text)
}

// escaped has the bytes that cannot stand in a string of JSON as they are.
var escaped = func() (table [256]bool) {
	for c := range byte(' ') {
		table[c] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// appendString appends text as a string of JSON. A line that is JSON itself has
// something to escape every few bytes, so it goes byte by byte.
func appendString(dst, text []byte) []byte {
	if !utf8.Valid(text) {
		return gjson.AppendJSONString(dst, string(text))
	}
	n := len(dst)
	dst = slices.Grow(dst, 2*len(text)+2)
	dst = dst[:cap(dst)]
	dst[n] = '"'
	n++
	for i, c := range text {
		switch {
		case !escaped[c]:
			dst[n] = c
			n++
		case c >= ' ':
			dst[n], dst[n+1] = '\\', c
			n += 2
		default: // longer, and rare
			dst = append(dst[:n], '\\', 'u', '0', '0', '0'+c>>4, "0123456789abcdef"[c&15])
			n = len(dst)
			dst = slices.Grow(dst, 2*len(text[i:]))
			dst = dst[:cap(dst)]
		}
	}
	dst[n] = '"'
	return dst[:n+1]
}

// scratch is memory that is used again for each line that is read.
type scratch struct {
	members, fields []member
	syslog          syslogLine
	request         request
	fitter          fitter
	cuts            []omission
}

// readObject gives the members of a line that is a JSON object and can take
// ours, or says why not, if it is one. They are good until the next line is
// read, and lie in the line's memory.
func (r *scratch) readObject(line []byte) (_ []member, why string) {
	switch {
	case len(line) < 2 || line[0] != '{' || !utf8.Valid(line):
		return nil, ""
	case len(line) > maxObject:
		return nil, whyLarge
	case isDeep(line, maxDepth):
		return nil, whyDeepLine
	case !gjson.ValidBytes(line):
		return nil, ""
	}
	text := unsafe.String(unsafe.SliceData(line), len(line))
	r.members = membersOf(text, r.members[:0])
	if slices.ContainsFunc(r.members, func(m member) bool {
		return m.name == "wsrelay" || strings.HasPrefix(m.name, "wsrelay.")
	}) {
		return nil, whyOurs
	}
	if r.members == nil {
		r.members = make([]member, 0, 8)
	}
	return r.members, ""
}
