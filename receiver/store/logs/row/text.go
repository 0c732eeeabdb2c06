package row

import (
	"strconv"
	"strings"
)

// texts takes lines that are no JSON apart: RFC 5424 and RFC 3164, the combined
// format of web servers, logfmt. The line itself is the message of its row.
type texts struct {
	skeleton []byte // tag and names
	values   []string

	time                 string // from where the time stands
	level, host, program string // "" for none
	body                 string // what follows the header

	unescaped []byte // holds values that have escapes
}

func (t *texts) parse(line string) {
	*t = texts{skeleton: append(t.skeleton[:0], tagText), values: t.values[:0], unescaped: t.unescaped[:0]}
	s := strings.TrimPrefix(line, "\ufeff")
	if rest, priority, ok := cutPriority(s); ok {
		s = rest
		t.level = syslogLevels[priority&7]
		if priority > 7 || priority == 0 { // systemd writes levels only
			t.add("facility", facilities[min(priority>>3, len(facilities)-1)])
		}
		if after, ok := strings.CutPrefix(s, "1 "); ok && t.rfc5424(after) {
			return
		}
	}
	t.time, t.body = s, s
	if t.rfc3164(s) || t.combined(s) {
		return
	}
	for _, stream := range []string{" stdout F ", " stderr F "} { // containers, as CRI writes them
		if i := strings.Index(s[:min(len(s), 48)], stream); i > 0 {
			t.body = s[i+len(stream):]
		}
	}
	t.logfmt(t.body)
}

func (t *texts) add(name, value string) {
	if strings.IndexByte(name, mark) >= 0 { // which stands between names
		return
	}
	t.skeleton = append(append(t.skeleton, mark), name...)
	t.values = append(t.values, value)
}

// addUnescaped adds a value that has backslashes before some bytes.
func (t *texts) addUnescaped(name, value string, unescape func(dst []byte, s string) []byte) {
	if strings.IndexByte(value, '\\') >= 0 {
		from := len(t.unescaped)
		t.unescaped = unescape(t.unescaped, value)
		value = text(t.unescaped[from:])
	}
	t.add(name, value)
}

var facilities = strings.Fields(`kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron
	local0 local1 local2 local3 local4 local5 local6 local7`)

func cutPriority(s string) (rest string, priority int, ok bool) {
	if len(s) < 3 || s[0] != '<' {
		return s, 0, false
	}
	end := strings.IndexByte(s[:min(5, len(s))], '>')
	if end < 2 || !isDigits(s[1:end]) {
		return s, 0, false
	}
	priority, _ = strconv.Atoi(s[1:end])
	return s[end+1:], priority, priority < 192
}

// rfc5424 reads what follows the version: time, host, program, pid and message id,
// structured data, text.
func (t *texts) rfc5424(s string) bool {
	var header [5]string
	for i := range header {
		var ok bool
		if header[i], s, ok = strings.Cut(s, " "); !ok && i < len(header)-1 || header[i] == "" {
			return false
		}
	}
	t.time = header[0]
	t.host, t.program = header[1], header[2]
	for i, name := range []string{"pid", "msgid"} {
		if v := header[3+i]; v != "-" {
			t.add(name, v)
		}
	}
	t.body = strings.TrimPrefix(strings.TrimPrefix(t.structured(s), " "), "\ufeff")
	t.logfmt(t.body)
	return true
}

// structured reads structured data and gives what follows it.
func (t *texts) structured(s string) (rest string) {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		return rest
	}
	for strings.HasPrefix(s, "[") {
		end := strings.IndexAny(s, " ]")
		if end < 0 {
			return s
		}
		id := s[1:end]
		for s = s[end:]; strings.HasPrefix(s, " "); {
			name, after, ok := strings.Cut(s[1:], `="`)
			if !ok || strings.ContainsAny(name, " ]") {
				return s
			}
			end := closingQuote(after)
			if end < 0 {
				return s
			}
			t.addUnescaped(id+"."+name, after[:end], appendUnslashed)
			s = after[end+1:]
		}
		if !strings.HasPrefix(s, "]") {
			return s
		}
		s = s[1:]
	}
	return s
}

// closingQuote is the index of the first quote that no backslash escapes, or -1.
func closingQuote(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// appendUnslashed appends a value of structured data without its escapes.
func appendUnslashed(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`"\]`, s[i+1]) >= 0 {
			i++
		}
		dst = append(dst, s[i])
	}
	return dst
}

// rfc3164 reads time, host, program[pid]: text. The time may be that of RFC 3339,
// as rsyslog writes it. Only "program:" after the host makes it sure.
func (t *texts) rfc3164(s string) bool {
	if len(s) < len("Mar 14 02:03:04 h p: ") {
		return false
	}
	start := 0 // of the word that ends the time
	switch month := (&clock{rest: s}); {
	case month.monthName() && s[3] == ' ' && s[6] == ' ' && s[9] == ':':
		start = 7
	case s[4] != '-' || s[7] != '-' || s[10] != 'T':
		return false
	}
	_, rest, _ := strings.Cut(s[start:], " ")
	host, rest, ok := strings.Cut(rest, " ")
	tag, body, found := strings.Cut(rest, ":")
	if !ok || !found || host == "" || tag == "" || strings.ContainsAny(host, `:[]"=`) ||
		strings.ContainsAny(tag, ` "=`) || len(tag) > maxStream {
		return false
	}
	if name, pid, ok := strings.Cut(tag, "["); ok && strings.HasSuffix(pid, "]") {
		tag = name
		t.add("pid", strings.TrimSuffix(pid, "]"))
	}
	t.host, t.program, t.body = host, tag, strings.TrimPrefix(body, " ")
	t.logfmt(t.body)
	return true
}

// combined reads a line as nginx and Apache write it: client ident user [time]
// "request" status bytes "referer" "agent".
func (t *texts) combined(s string) bool {
	client, rest, ok1 := strings.Cut(s, " ")
	_, rest, ok2 := strings.Cut(rest, " ")
	user, rest, ok3 := strings.Cut(rest, " [")
	at, rest, ok4 := strings.Cut(rest, `] "`)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(client) > 64 || strings.ContainsAny(client, `"[=`) ||
		strings.Contains(user, `"`) || len(at) > 40 {
		return false
	}
	end := closingQuote(rest)
	if end < 0 || len(rest) < end+6 || rest[end+1] != ' ' || !isDigits(rest[end+2:end+5]) {
		return false
	}
	request, status := rest[:end], rest[end+2:end+5]
	size, rest, _ := strings.Cut(strings.TrimPrefix(rest[end+5:], " "), " ")
	t.time = at
	t.add("client", client)
	t.addUnless("-", "user", user)
	if method, target, ok := strings.Cut(request, " "); ok {
		t.add("method", method)
		if i := strings.LastIndexByte(target, ' '); i >= 0 {
			t.add("protocol", target[i+1:])
			target = target[:i]
		}
		t.add("path", target)
	} else {
		t.add("request", request)
	}
	t.add("status", status)
	t.addUnless("-", "bytes", size)
	for _, name := range []string{"referer", "agent"} {
		if !strings.HasPrefix(rest, `"`) {
			break
		}
		if end = closingQuote(rest[1:]); end < 0 {
			break
		}
		t.addUnless("-", name, rest[1:1+end])
		rest = strings.TrimPrefix(rest[end+2:], " ")
	}
	return true
}

func (t *texts) addUnless(none, name, value string) {
	if value != none {
		t.add(name, value)
	}
}

// logfmt reads name=value name="value" …, if all of s is that and at least two.
func (t *texts) logfmt(s string) {
	names, values := len(t.skeleton), len(t.values)
	for s = strings.TrimRight(s, " \r"); s != ""; s = strings.TrimLeft(s, " ") {
		n := 0
		for n < len(s) && isNameByte(s[n]) {
			n++
		}
		if n == 0 || n == len(s) || s[n] != '=' {
			t.skeleton, t.values = t.skeleton[:names], t.values[:values]
			return
		}
		name := s[:n]
		if s = s[n+1:]; strings.HasPrefix(s, `"`) {
			end := closingQuote(s[1:])
			if end < 0 {
				t.skeleton, t.values = t.skeleton[:names], t.values[:values]
				return
			}
			t.addUnescaped(name, s[1:1+end], appendUnescaped)
			s = s[end+2:]
			continue
		}
		end := strings.IndexByte(s, ' ')
		if end < 0 {
			end = len(s)
		}
		t.add(name, s[:end])
		s = s[end:]
	}
	if len(t.values)-values < 2 {
		t.skeleton, t.values = t.skeleton[:names], t.values[:values]
	}
}

func isNameByte(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == '@' || c == '/'
}
