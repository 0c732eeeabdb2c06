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

// member is one of a JSON object.
type member struct {
	name  string // unescaped
	key   string // as it is written, with its quotes
	value gjson.Result
}

// bare reports whether the member's value stands where the schema wants an
// object.
func (m *member) bare() bool {
	switch {
	case leaves[m.name] == "", m.value.Type == gjson.Null, m.value.IsObject():
		return false
	case m.value.IsArray():
		return !m.value.Get("0").IsObject()
	}
	return true
}

func membersOf(object gjson.Result, into []member) []member {
	object.ForEach(func(key, value gjson.Result) bool {
		into = append(into, member{key.Str, key.Raw, value})
		return true
	})
	return into
}

func has(members []member, name string) bool {
	return slices.ContainsFunc(members, func(m member) bool { return m.name == name })
}

// assignSlots moves the members that slot has a place for into their places, and
// appends the others to rest. It fails if one is there twice or keeps a name that our
// own members need.
func assignSlots(members, rest []member, slot func(name string) *gjson.Result) (_ []member, ok bool) {
	for _, m := range members {
		switch place := slot(m.name); {
		case place == nil:
			_, ours := leaves[m.name]
			if ours || m.name == "@timestamp" || m.name == "message" {
				return nil, false
			}
			rest = append(rest, m)
		case place.Exists():
			return nil, false
		default:
			*place = m.value
		}
	}
	return rest, true
}

// syslogLine is a message as the websocket() block of syslog-ng writes it.
type syslogLine struct {
	timestamp, host, program, pid, msgid, facility, severity, priority, message, sdata, fields gjson.Result

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
	s.rest, ok = assignSlots(members, s.rest, func(name string) *gjson.Result {
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
	if !ok || !isTime(s.timestamp) || !isNumber(s.priority) || s.facility.Type != gjson.String || s.severity.Type != gjson.String ||
		!areText(s.host, s.program, s.pid, s.msgid, s.message) ||
		s.sdata.Exists() && !s.sdata.IsObject() || s.fields.Exists() && !s.fields.IsObject() {
		return nil, false
	}
	r.fields = membersOf(s.fields, r.fields[:0])
	if q, ok := r.readRequest(r.fields); ok {
		s.request = q
	}
	return s, true
}

// appendTo appends the message under the schema's names. What it has no name
// for stays as it is, from the offset theirs on; line becomes event.original.
func (s *syslogLine) appendTo(dst, line []byte) (_ []byte, theirs int) {
	theirs = len(dst)
	at, _ := timeOf(s.timestamp)
	dst = append(append(dst, `,"@timestamp":`...), at...)
	dst = appendRaw(dst, `,"message":`, s.message)
	dst = appendObject(dst, "host", field{"name", s.host.Raw})
	pid := ""
	if isDigits(s.pid.Str) {
		if n, err := strconv.ParseUint(s.pid.Str, 10, 32); err == nil {
			pid = strconv.FormatUint(n, 10)
		}
	}
	dst = appendObject(dst, "process", field{"name", s.program.Raw}, field{"pid", pid})
	priority := s.priority.Int()
	dst = appendRaw(dst, `,"log":{"level":`, s.severity)
	dst = appendRaw(dst, `,"syslog":{"priority":`, s.priority)
	dst = appendObject(dst, "facility", field{"code", strconv.FormatInt(priority>>3, 10)}, field{"name", s.facility.Raw})
	dst = appendObject(dst, "severity", field{"code", strconv.FormatInt(priority&7, 10)}, field{"name", s.severity.Raw})
	for _, f := range []field{{`,"hostname":`, s.host.Raw}, {`,"appname":`, s.program.Raw}, {`,"procid":`, s.pid.Raw}, {`,"msgid":`, s.msgid.Raw}, {`,"structured_data":`, s.sdata.Raw}} {
		if f.raw != "" {
			dst = append(append(dst, f.name...), f.raw...)
		}
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
	if !s.sdata.Exists() {
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
	ip, host, path, status, referrer, agent, length, milli gjson.Result

	rest []member
}

func (r *scratch) readRequest(members []member) (*request, bool) {
	if !has(members, "generation_time_milli") {
		return nil, false
	}
	q := &r.request
	*q = request{rest: q.rest[:0]}
	var ok bool
	q.rest, ok = assignSlots(members, q.rest, func(name string) *gjson.Result {
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
	ok = ok && q.ip.Type == gjson.String && q.path.Type == gjson.String && isNumber(q.status) && isNumber(q.milli) &&
		areText(q.host, q.referrer, q.agent) && (isNumber(q.length) || !q.length.Exists())
	return q, ok
}

// duration is in nanoseconds, as event.duration is.
func (r *request) duration() string { return strconv.FormatInt(r.milli.Int()*1e6, 10) }

func (r *request) appendTo(dst []byte) []byte {
	address := "address"
	if ip, err := netip.ParseAddr(r.ip.Str); err == nil && ip.Zone() == "" {
		address = "ip"
	}
	dst = appendObject(dst, "source", field{address, r.ip.Raw})
	path, query, found := strings.Cut(r.path.Raw, "?")
	if found {
		path, query = path+`"`, `"`+query
	}
	dst = appendObject(dst, "url", field{"original", r.path.Raw}, field{"path", path}, field{"query", query}, field{"domain", r.host.Raw})
	dst = append(dst, `,"http":{"response":{"status_code":`...)
	dst = append(dst, r.status.Raw...)
	dst = appendRaw(dst, `,"body":{"bytes":`, r.length)
	if r.length.Exists() {
		dst = append(dst, '}')
	}
	dst = append(dst, '}')
	dst = appendObject(dst, "request", field{"referrer", r.referrer.Raw})
	dst = append(dst, '}')
	return appendObject(dst, "user_agent", field{"original", r.agent.Raw})
}

// time is when nginx says that the request was, if it does.
func (r *request) time() (at string) {
	if i := slices.IndexFunc(r.rest, func(m member) bool { return m.name == "date" }); i >= 0 && isTime(r.rest[i].value) {
		at, _ = timeOf(r.rest[i].value)
	}
	return at
}

// field is a member to write; raw is JSON, or empty for none.
type field struct{ name, raw string }

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
func appendRaw(dst []byte, key string, value gjson.Result) []byte {
	if !value.Exists() {
		return dst
	}
	return append(append(dst, key...), value.Raw...)
}

func appendMembers(dst []byte, members []member) []byte {
	for _, m := range members {
		dst = append(append(append(append(dst, ','), m.key...), ':'), m.value.Raw...)
	}
	return dst
}

func isTime(v gjson.Result) bool {
	if _, err := time.Parse(time.RFC3339, v.Str); err != nil {
		return false
	}
	_, ok := timeOf(v)
	return ok
}

// isNumber reports whether v is a whole number that fits into a long, also
// after it became nanoseconds.
func isNumber(v gjson.Result) bool { return v.Type == gjson.Number && isDigits(v.Raw) }

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 12
}

// areText reports whether all that are there are strings.
func areText(values ...gjson.Result) bool {
	return !slices.ContainsFunc(values, func(v gjson.Result) bool { return v.Exists() && v.Type != gjson.String })
}
