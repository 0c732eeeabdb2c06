package row

import (
	"strings"
)

const (
	tagJSON = 'J' // the skeleton of a JSON object: tag, style, text with marks
	tagText = 'T' // the names of the fields that a text has: tag, names each with a zero byte before it

	maxName = 128 // bytes of a field's name: the library drops rows with longer ones
)

// The names under which programs write what every row has, the best first.
var (
	messageNames = []string{
		"_msg", "message", "msg", "MESSAGE", "Message", "log", "event.original",
		"body", "short_message", "@m", "textPayload",
	}
	timeNames = []string{
		"@timestamp", "timestamp", "time", "ts", "_time", "Timestamp", "TIMESTAMP", "ISODATE", "R_ISODATE", "DATE",
		"date", "datetime",
		"asctime", "eventTime", "event_time", "event.created", "time_iso8601", "time_local", "msec", "@t",
		"t", "t.$date", "timeMillis", "instant.epochSecond",
		"_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "timeUnixNano", "observedTimestamp", "fields.time",
		"fields.date",
	}
	levelNames = []string{
		"level", "log.level", "levelname", "severity_text", "severityText", "severity", "SEVERITY",
		"loglevel", "log_level", "logLevel",
		"LEVEL", "Level", "@l", "lvl", "fields.level", "fields.severity", "error_severity", "LEVEL_NAME",
		"level_name", "PRIORITY", "priority", "levelno", "severity_number",
		"severityNumber", "log.syslog.severity.name", "s", "pri",
	}
	hostNames = []string{
		"HOST", "host", "hostname", "HOSTNAME", "host.name", "_HOSTNAME", "host.hostname",
		"log.syslog.hostname",
	}
	programNames = []string{
		"PROGRAM", "program", "appname", "APPNAME", "app_name", "APP_NAME", "SYSLOG_IDENTIFIER",
		"app", "application", "service.name",
		"service", "process.name", "log.syslog.appname", "program_name", "ident", "kubernetes.container_name",
		"container_name", "logger", "logger_name",
		"log.logger", "loggerName", "_COMM",
	}
)

// shape is what the lines of one skeleton have in common.
type shape struct {
	skeleton string
	style    style
	parts    []string // of a JSON object: the text before each value, and after the last
	values   []slot
	whole    bool // all values have fields of their own: the line can be built again

	message                     int // index of the value that is the message, or -1
	times, levels, hosts, progs []int
}

// slot is where a value stands.
type slot struct {
	name     string // of its field; empty: it has none
	path     string // the names of the members that lead to it, with dots
	other    string // the field's name where name is one of ours, whose value differs
	kind     byte
	decimals int
}

const prefix = "wsrelay." // of names that only we give to fields

// newShape reads a skeleton.
func newShape(skeleton string) *shape {
	s := &shape{skeleton: skeleton, whole: true, message: -1}
	if skeleton[0] == tagText {
		for name := range strings.SplitSeq(strings.TrimPrefix(skeleton[1:], "\x00"), "\x00") {
			s.values = append(s.values, slot{path: name, kind: kindString})
		}
	} else {
		s.style = style(skeleton[1] - firstStyle)
		s.readObject(skeleton[2:])
	}
	index := make(map[string]int, len(s.values))
	for i, v := range s.values {
		if _, twice := index[v.path]; twice {
			s.whole = false
		}
		index[v.path] = i // the last of several, as most readers of JSON do
	}
	s.nameValues(index)
	s.times, s.levels = find(index, timeNames), find(index, levelNames)
	s.hosts, s.progs = find(index, hostNames), find(index, programNames)
	return s
}

// bytes is about how much memory the shape takes.
func (s *shape) bytes() int { return 2*len(s.skeleton) + 160*len(s.values) + 512 }

func find(index map[string]int, names []string) (found []int) {
	for _, name := range names {
		if i, ok := index[name]; ok {
			found = append(found, i)
		}
	}
	return found
}

// nameValues gives the values their fields.
func (s *shape) nameValues(index map[string]int) {
	if s.skeleton[0] == tagJSON {
		for _, i := range find(index, messageNames) {
			if k := s.values[i].kind; k == kindString || k == kindQuoted || s.values[i].path == "_msg" {
				s.message = i
				break
			}
		}
	}
	for path, i := range index {
		v := &s.values[i]
		switch {
		case i == s.message:
			v.name = "_msg"
		case path == "" || len(path) > maxName || path == "_msg" || path == "_time" || path == "_stream" || path == "_stream_id" || strings.HasPrefix(path, prefix):
			s.whole = false
		default:
			v.name = path
			if path == "level" || path == "host" || path == "program" {
				v.other = prefix + path
			}
		}
	}
}

// readObject reads the text with marks of a JSON object.
func (s *shape) readObject(text string) {
	var path []byte   // with a dot at the end, unless it is empty
	var lengths []int // of path, outside each open object
	start, key := 0, ""
	for i := 0; i < len(text); {
		switch text[i] {
		case '"':
			from := i + 1
			for i = from; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			key = string(appendUnescaped(nil, text[from:i]))
		case '{':
			lengths = append(lengths, len(path))
			if len(lengths) > 1 {
				path = append(append(path, key...), '.')
			}
		case '}':
			path = path[:lengths[len(lengths)-1]]
			lengths = lengths[:len(lengths)-1]
		case mark:
			v := slot{path: string(path) + key, kind: text[i+1]}
			s.parts = append(s.parts, text[start:i])
			if i++; v.kind == kindQuoted || v.kind == kindDecimals {
				i++
				v.decimals = int(text[i] - firstDecimals)
			}
			start = i + 1
			s.values = append(s.values, v)
		}
		i++
	}
	s.parts = append(s.parts, text[start:])
}

// fieldNames are the names of the shape's fields, each once.
func (s *shape) fieldNames(yield func(name string) bool) {
	for i := range s.values {
		if n := s.values[i].name; n != "" && !yield(n) {
			return
		}
	}
}

// build appends the line that has this shape and the values that fields has.
func (s *shape) build(dst []byte, fields *lookup) []byte {
	for i := range s.values {
		v := &s.values[i]
		dst = append(dst, s.parts[i]...)
		value := ""
		if v.other != "" {
			value = fields.get(v.other)
		}
		if value == "" {
			value = fields.get(v.name)
		}
		switch v.kind {
		case kindString:
			dst = append(appendEscaped(append(dst, '"'), value, s.style), '"')
		case kindQuoted:
			dst = append(append(append(dst, '"'), toDecimals(value, v.decimals)...), '"')
		case kindDecimals:
			dst = append(dst, toDecimals(value, v.decimals)...)
		case kindLiteral:
			if value == "" {
				value = "null"
			}
			dst = append(dst, value...)
		}
	}
	return append(dst, s.parts[len(s.values)]...)
}
