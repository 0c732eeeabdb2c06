package elastic

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// leaves are the names that the Elastic Common Schema has for objects, and the
// field of each that a bare value belongs to. Programs write "host":"web1" as
// often as "host":{"name":"web1"}, and an index takes only one of the two.
var leaves = map[string]string{
	"error":      "message",
	"event":      "action",
	"host":       "name",
	"http":       "original",
	"log":        "original",
	"process":    "name",
	"source":     "address",
	"url":        "original",
	"user_agent": "original",
}

// value is one of JSON as it is written, without white space around; "": there is
// none.
type value string

func (v value) exists() bool { return v != "" }

func (v value) begins(with byte) bool { return v != "" && v[0] == with }

func (v value) isText() bool { return v.begins('"') }

func (v value) isObject() bool { return v.begins('{') }

// text is what a value that is a text says.
func (v value) text() string {
	if !v.isText() {
		return ""
	}
	if strings.IndexByte(string(v), '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	return gjson.Parse(string(v)).Str
}

// member is one of a JSON object.
type member struct {
	name  string // unescaped
	key   string // as it is written, with its quotes
	value value
	at    int // offset of the value in the object
}

// end is the offset behind the member in its object.
func (m *member) end() int { return m.at + len(m.value) }

// bare reports whether the member's value stands where the schema wants an
// object.
func (m *member) bare() bool {
	switch {
	case leaves[m.name] == "", m.value == "null", m.value.isObject():
		return false
	case m.value.begins('['):
		return !value(strings.TrimLeft(string(m.value[1:]), " \t\r\n")).isObject()
	}
	return true
}

// membersOf appends the members of an object, which is valid JSON.
func membersOf(object string, into []member) []member {
	for i := 1; ; {
		switch object[i] {
		case '}':
			return into
		case '"':
			end := stringEnd(object, i)
			m := member{key: object[i:end], at: valueAt(object, end)}
			m.name = value(m.key).text()
			i = skip(object, m.at)
			m.value = value(object[m.at:i])
			into = append(into, m)
		default: // a comma, white space
			i++
		}
	}
}

func has(members []member, name string) bool {
	return slices.ContainsFunc(members, func(m member) bool { return m.name == name })
}

// assignSlots moves the members that slot has a place for into their places, and
// appends the others to rest. It fails if one is there twice or keeps a name that our
// own members need.
func assignSlots(members, rest []member, slot func(name string) *value) (_ []member, ok bool) {
	for _, m := range members {
		switch place := slot(m.name); {
		case place == nil:
			_, ours := leaves[m.name]
			if ours || m.name == "@timestamp" || m.name == "message" {
				return nil, false
			}
			rest = append(rest, m)
		case place.exists():
			return nil, false
		default:
			*place = m.value
		}
	}
	return rest, true
}

// syslogLine is a message as the websocket() block of syslog-ng writes it.
type syslogLine struct {
	timestamp, host, program, pid, msgid, facility, severity, priority, message, sdata, fields value

	at      value // what timestamp tells
	rest    []member
	request *request // what fields holds, if it is one of nginx
}

func (r *scratch) readSyslog(members []member) (*syslogLine, bool) {
	if !has(members, "facility") {
		return nil, false
	}
	s := &r.syslog
	*s = syslogLine{rest: s.rest[:0]}
	var ok bool
	s.rest, ok = assignSlots(members, s.rest, func(name string) *value {
		switch name {
		case "timestamp":
			return &s.timestamp
		case "host":
			return &s.host
		case "program":
			return &s.program
		case "pid":
			return &s.pid
		case "msgid":
			return &s.msgid
		case "facility":
			return &s.facility
		case "severity":
			return &s.severity
		case "priority":
			return &s.priority
		case "message":
			return &s.message
		case "sdata":
			return &s.sdata
		case "fields":
			return &s.fields
		}
		return nil
	})
	var timed bool
	s.at, timed = lineTime(s.timestamp)
	if !ok || !timed || !isNumber(s.priority) || !s.facility.isText() || !s.severity.isText() ||
		!areText(s.host, s.program, s.pid, s.msgid, s.message) ||
		s.sdata.exists() && !s.sdata.isObject() || s.fields.exists() && !s.fields.isObject() {
		return nil, false
	}
	if s.fields.exists() {
		r.fields = membersOf(string(s.fields), r.fields[:0])
		if q, ok := r.readRequest(r.fields); ok {
			s.request = q
		}
	}
	return s, true
}

// appendTo appends the message under the schema's names. What it has no name
// for stays as it is, from the offset theirs on; line becomes event.original.
func (s *syslogLine) appendTo(dst, line []byte) (_ []byte, theirs int) {
	theirs = len(dst)
	dst = append(append(dst, `,"@timestamp":`...), s.at...)
	dst = appendRaw(dst, `,"message":`, s.message)
	dst = appendObject(dst, "host", field{"name", s.host})
	var pid value
	if digits := s.pid.text(); isDigits(digits) {
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			pid = value(strconv.FormatUint(n, 10))
		}
	}
	dst = appendObject(dst, "process", field{"name", s.program}, field{"pid", pid})
	priority := intOf(s.priority)
	dst = appendRaw(dst, `,"log":{"level":`, s.severity)
	dst = appendRaw(dst, `,"syslog":{"priority":`, s.priority)
	dst = appendObject(dst, "facility", field{"code", value(strconv.FormatInt(priority>>3, 10))},
		field{"name", s.facility})
	dst = appendObject(dst, "severity", field{"code", value(strconv.FormatInt(priority&7, 10))},
		field{"name", s.severity})
	for _, f := range []field{
		{`,"hostname":`, s.host},
		{`,"appname":`, s.program},
		{`,"procid":`, s.pid},
		{`,"msgid":`, s.msgid},
		{`,"structured_data":`, s.sdata},
	} {
		dst = appendRaw(dst, f.name, f.raw)
	}
	dst = append(dst, `}},"event":{"original":`...)
	dst = appendString(dst, line)
	if s.request != nil {
		dst = append(dst, `,"duration":`...)
		dst = append(dst, s.request.duration()...)
	}
	dst = append(dst, '}')
	if s.request != nil {
		dst = s.request.appendTo(dst)
	}
	if !s.sdata.exists() {
		theirs = len(dst)
	}
	if s.request == nil {
		dst = appendRaw(dst, `,"fields":`, s.fields)
	} else if rest := appendMembers(nil, s.request.rest); len(rest) > 0 {
		dst = append(append(append(dst, `,"fields":{`...), rest[1:]...), '}')
	}
	return appendMembers(dst, s.rest), theirs
}

// request is one as the sample log_format of nginx writes it.
type request struct {
	ip, host, path, status, referrer, agent, length, milli value

	rest []member
}

func (r *scratch) readRequest(members []member) (*request, bool) {
	if !has(members, "generation_time_milli") {
		return nil, false
	}
	q := &r.request
	*q = request{rest: q.rest[:0]}
	var ok bool
	q.rest, ok = assignSlots(members, q.rest, func(name string) *value {
		switch name {
		case "ip":
			return &q.ip
		case "host":
			return &q.host
		case "path":
			return &q.path
		case "status":
			return &q.status
		case "referrer":
			return &q.referrer
		case "user_agent":
			return &q.agent
		case "length":
			return &q.length
		case "generation_time_milli":
			return &q.milli
		}
		return nil
	})
	ok = ok && q.ip.isText() && q.path.isText() && isNumber(q.status) && isNumber(q.milli) &&
		areText(q.host, q.referrer, q.agent) && (isNumber(q.length) || !q.length.exists())
	return q, ok
}

// duration is in nanoseconds, as event.duration is.
func (r *request) duration() value { return value(strconv.FormatInt(intOf(r.milli)*1e6, 10)) }

func (r *request) appendTo(dst []byte) []byte {
	address := "address"
	if ip, err := netip.ParseAddr(r.ip.text()); err == nil && ip.Zone() == "" {
		address = "ip"
	}
	dst = appendObject(dst, "source", field{address, r.ip})
	path, query, found := strings.Cut(string(r.path), "?")
	if found {
		path, query = path+`"`, `"`+query
	}
	dst = appendObject(dst, "url", field{"original", r.path}, field{"path", value(path)}, field{"query", value(query)},
		field{"domain", r.host})
	dst = append(dst, `,"http":{"response":{"status_code":`...)
	dst = append(dst, r.status...)
	dst = appendRaw(dst, `,"body":{"bytes":`, r.length)
	if r.length.exists() {
		dst = append(dst, '}')
	}
	dst = append(dst, '}')
	dst = appendObject(dst, "request", field{"referrer", r.referrer})
	dst = append(dst, '}')
	return appendObject(dst, "user_agent", field{"original", r.agent})
}

// time is when nginx says that the request was, if it does.
func (r *request) time() (at value) {
	if i := slices.IndexFunc(r.rest, func(m member) bool { return m.name == "date" }); i >= 0 {
		at, _ = lineTime(r.rest[i].value)
	}
	return at
}

// field is a member to write; raw is JSON, or empty for none.
type field struct {
	name string
	raw  value
}

// appendObject appends a further member that is an object, if it has any
// member that is not empty.
func appendObject(dst []byte, name string, fields ...field) []byte {
	begun := false
	for _, f := range fields {
		if f.raw == "" || f.raw == `""` {
			continue
		}
		dst = append(dst, `,"`...)
		if !begun {
			dst = append(append(dst, name...), `":{"`...)
			begun = true
		}
		dst = append(append(append(dst, f.name...), `":`...), f.raw...)
	}
	if begun {
		dst = append(dst, '}')
	}
	return dst
}

// appendRaw appends a value behind its key, if it is there.
func appendRaw(dst []byte, key string, v value) []byte {
	if !v.exists() {
		return dst
	}
	return append(append(dst, key...), v...)
}

func appendMembers(dst []byte, members []member) []byte {
	for _, m := range members {
		dst = append(append(append(append(dst, ','), m.key...), ':'), m.value...)
	}
	return dst
}

// lineTime gives the time that v tells in the form of RFC 3339, or nearly so, as
// timeOf does.
func lineTime(v value) (raw value, ok bool) {
	if _, err := time.Parse(time.RFC3339, v.text()); err != nil {
		return "", false
	}
	return timeOf(v)
}

// isNumber reports whether v is a whole number that fits into a long, also
// after it became nanoseconds.
func isNumber(v value) bool { return isDigits(string(v)) }

// intOf is the number that v is, if it is one by isNumber.
func intOf(v value) int64 {
	n, _ := strconv.ParseInt(string(v), 10, 64)
	return n
}

func isDigits(s string) bool { return len(s) <= 12 && allDigits(s) }

// areText reports whether all that are there are strings.
func areText(values ...value) bool {
	return !slices.ContainsFunc(values, func(v value) bool { return v.exists() && !v.isText() })
}
