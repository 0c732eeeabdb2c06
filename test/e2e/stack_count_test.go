package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entry is what a program has logged: once by its own log, once by a document.
type entry struct {
	at       time.Time // zero: the program does not say it
	severity string    // empty: it does not say it
	text     string    // the message, and what else is of several lines
	line     string    // of the log, as it stands there
	file     string    // that it stands in
}

// key is the same for an entry and its document. Time is a part of it: a
// document with another time is not the entry's.
func (e entry) key() string {
	if e.at.IsZero() {
		return e.text
	}
	return strconv.FormatInt(e.at.UnixMicro(), 10) + " " + e.text
}

// source is one program's log.
type source struct {
	program string                          // in the documents
	files   string                          // a pattern: the log, and what it was renamed to
	parse   func(text string) (entry, bool) // false: it is no entry, and stays a message
}

var (
	supervOne = regexp.MustCompile(`^([\d-]+ [\d:]+,\d+) ([A-Z]+) (.*)$`)
	redisOne  = regexp.MustCompile(`^\d+:[XCSM] (\d+ \w+ \d+ [\d:.]+) ([.\-*#]) (.*)$`)
	nginxOne  = regexp.MustCompile(`^\d{4}/\d\d/\d\d [\d:]+ \[(\w+)\] `)
)

var sources = []source{
	{program: "nginx-error", files: "nginx/shop-error.log*", parse: parseNginxError},
	{program: "uwsgi", files: "shop/uwsgi.log*", parse: parseUWSGI},
	{program: "django", files: "shop/django.json*", parse: parsePython},
	{program: "celery", files: "shop/celery.json*", parse: parsePython},
	{program: "celery-beat", files: "shop/beat.json*", parse: parsePython},
	{program: "supervisord", files: "shop/supervisord.log*", parse: parseSupervisor},
	{program: "postgresql", files: "postgresql/*.json", parse: parsePostgreSQL},
	{program: "redis", files: "redis/redis-server.log*", parse: parseRedis},
}

func dated(layout, at, severity, text string, zone *time.Location) (entry, bool) {
	when, err := time.ParseInLocation(layout, at, zone)
	return entry{at: when, severity: severity, text: text}, err == nil
}

// severityOf is syslog's name for a level of nginx or Python.
func severityOf(level string) string {
	switch level {
	case "error":
		return "err"
	case "critical":
		return "crit"
	case "warn":
		return "warning"
	}
	return level
}

func parseNginxError(text string) (entry, bool) {
	m := nginxOne.FindStringSubmatch(text)
	if m == nil {
		return entry{}, false
	}
	return entry{severity: severityOf(m[1]), text: text}, true
}

func parseUWSGI(text string) (entry, bool) {
	var e struct {
		Time, Message string
		RequestID     string `json:"request_id"`
		Status        int
	}
	if json.Unmarshal([]byte(text), &e) != nil {
		return entry{}, false
	}
	ms, err := strconv.ParseInt(e.Time, 10, 64)
	severity := "info"
	if e.Status >= 500 {
		severity = "err"
	}
	return entry{at: time.UnixMilli(ms), severity: severity, text: e.RequestID + " " + e.Message}, err == nil
}

func parsePython(text string) (entry, bool) {
	var e struct {
		Time      time.Time
		Level     string
		Message   string
		RequestID string `json:"request_id"`
		Traceback string
	}
	if json.Unmarshal([]byte(text), &e) != nil {
		return entry{}, false
	}
	return entry{at: e.Time, severity: severityOf(e.Level), text: e.RequestID + " " + e.Message + e.Traceback}, true
}

func parseSupervisor(text string) (entry, bool) {
	m := supervOne.FindStringSubmatch(text)
	if m == nil {
		return entry{}, false
	}
	return dated("2006-01-02 15:04:05,000", m[1], map[string]string{
		"INFO": "info", "WARN": "warning", "ERRO": "err",
		"CRIT": "crit",
	}[m[2]], m[3], time.Local)
}

func parsePostgreSQL(text string) (entry, bool) {
	var e struct {
		Timestamp, Message, Statement string
		SessionID                     string `json:"session_id"`
		Line                          int    `json:"line_num"`
		Severity                      string `json:"error_severity"`
	}
	if json.Unmarshal([]byte(text), &e) != nil {
		return entry{}, false
	}
	return dated("2006-01-02 15:04:05.000 MST", e.Timestamp,
		map[string]string{
			"LOG": "info", "NOTICE": "notice", "WARNING": "warning", "ERROR": "err", "FATAL": "crit",
			"PANIC": "crit",
		}[e.Severity],
		fmt.Sprintf("%s.%d %s%s", e.SessionID, e.Line, e.Message, e.Statement), time.UTC)
}

func parseRedis(text string) (entry, bool) {
	m := redisOne.FindStringSubmatch(text)
	if m == nil {
		return entry{}, false
	}
	return dated("2 Jan 2006 15:04:05.000", m[1], map[string]string{
		"#": "warning", ".": "debug", "*": "notice",
		"-": "notice",
	}[m[2]], m[3], time.Local)
}

// entries is what the program's own files have.
func (c *stack) entries(src source) (all []entry) {
	c.Helper()
	names, err := filepath.Glob(filepath.Join(c.s.Path("log"), src.files))
	must(c.T, err)
	if len(names) > 1 && !strings.HasSuffix(src.files, ".json") { // the one that is not renamed yet is the newest
		names = append(names[1:], names[0])
	}
	for _, name := range names {
		file, err := os.ReadFile(name)
		must(c.T, err)
		for text := range strings.Lines(string(file)) {
			text = strings.TrimSuffix(text, "\n")
			if text == "" { // Celery prints some; syslog-ng has no message without text
				continue
			}
			e, ok := src.parse(text)
			if !ok {
				e = entry{text: text}
			}
			e.line, e.file = text, name
			all = append(all, e)
		}
	}
	return all
}

// stored is the entry of a document.
func (c *stack) stored(line []byte) (program string, e entry) {
	c.Helper()
	var d document
	if err := json.Unmarshal(line, &d); err != nil {
		c.Fatalf("%v: %s", err, line)
	}
	e = entry{severity: d.Severity, text: d.Message}
	if d.Fields == nil {
		return d.Program, e
	}
	var err error
	e.at, err = time.Parse(time.RFC3339Nano, d.Timestamp)
	must(c.T, err)
	field := func(name string) string { s, _ := d.Fields[name].(string); return s }
	switch d.Program {
	case "nginx":
		e.text = field("request_id")
	case "uwsgi", "django", "celery", "celery-beat":
		e.text = field("request_id") + " " + d.Message + field("traceback")
	case "postgresql":
		e.text = fmt.Sprintf("%s.%v %s%s", field("session_id"), d.Fields["line_num"], d.Message, field("statement"))
	}
	return d.Program, e
}

// row is a line of the table.
type row struct {
	program                                                string
	logged, documents, lost, doubled, levels, lines, whole int
	lostAt                                                 []bool // by entry
	gone                                                   []loss // the lost
	more                                                   []string
}

func (r *row) lostBy(by string) (n int) {
	for _, l := range r.gone {
		if l.by == by {
			n++
		}
	}
	return n
}

// compare counts the entries of one program against its documents.
func compare(program string, logged, documents []entry) row {
	r := row{program: program, logged: len(logged), documents: len(documents), lostAt: make([]bool, len(logged))}
	there := make(map[string][]entry)
	for _, e := range documents {
		there[e.key()] = append(there[e.key()], e)
	}
	for i, e := range logged {
		several := strings.Contains(e.text, "\n")
		if several {
			r.lines++
		}
		found := there[e.key()]
		if len(found) == 0 {
			r.lost++
			r.lostAt[i] = true
			r.gone = append(r.gone, loss{entry: e})
			continue
		}
		there[e.key()] = found[1:]
		if several {
			r.whole++
		}
		if e.severity == "" || e.severity == found[0].severity {
			r.levels++
		}
	}
	for key, left := range there {
		r.doubled += len(left)
		if len(left) > 0 {
			r.more = append(r.more, key)
		}
	}
	slices.Sort(r.more)
	return r
}

// nginxRow counts the requests that were answered: the client knows their ids.
func (c *stack) nginxRow(documents []entry) row {
	c.Helper()
	if n := c.countedByNginx(); n != len(c.asked) {
		c.Errorf("nginx counts %d requests, the client %d", n, len(c.asked))
	}
	var logged []entry
	for _, a := range c.asked {
		severity := "info"
		if a.status >= 500 {
			severity = "err"
		}
		logged = append(logged, entry{severity: severity, text: a.id})
	}
	wrong := 0
	for i, d := range documents {
		if a, ok := c.asked[d.text]; ok && (d.at.Before(a.from.Add(-2*time.Millisecond)) ||
			d.at.After(a.until.Add(2*time.Millisecond))) {
			wrong++
		}
		documents[i].at = time.Time{}
	}
	if wrong > 0 {
		c.Errorf("%d documents of nginx have a time outside of their requests", wrong)
	}
	r := compare("nginx", logged, documents)
	if !c.files {
		c.blameNginx(&r, logged)
	}
	return r
}

func (c *stack) table() []row {
	c.Helper()
	documents := make(map[string][]entry)
	for _, line := range c.store.documents(c) {
		program, e := c.stored(line)
		documents[program] = append(documents[program], e)
	}
	rows := []row{c.nginxRow(documents["nginx"])}
	for _, src := range sources {
		logged := c.entries(src)
		r := compare(src.program, logged, documents[src.program])
		switch {
		case c.files:
		case src.program == "nginx-error":
			c.blameNginx(&r, logged)
		case src.program == "uwsgi":
			c.blamePipe(&r, logged)
		}
		rows = append(rows, r)
		delete(documents, src.program)
	}
	delete(documents, "nginx")
	for program, d := range documents {
		c.Errorf("%d documents of %q, which is no source", len(d), program)
	}
	return rows
}
