package wsreceive

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/term"

	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/web"
)

// printer prints lines in one of the forms of --output.
type printer struct {
	form  string
	out   *bufio.Writer
	flush bool // after each line
	color bool
	tty   bool
	found int

	unreadable int    // lines without a text
	why        string // the first of them, and the reason
}

func (c *searchCmd) printer(to io.Writer) *printer {
	p := &printer{form: c.Output, out: bufio.NewWriter(to), flush: c.Follow}
	if f, ok := to.(*os.File); ok {
		p.tty = term.IsTerminal(int(f.Fd()))
		p.color = p.tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if p.form == "csv" {
		p.csv("time", "host", "program", "level", "message", "uid")
	}
	return p
}

// print prints a line. An error means that nobody reads any more.
func (p *printer) print(l *logs.Found) error {
	p.found++
	return p.write(l, "")
}

// write prints a line with a sign before it, in the forms for people.
func (p *printer) write(l *logs.Found, sign string) error {
	if l.Error != "" {
		if p.unreadable++; p.unreadable == 1 {
			p.why = fmt.Sprintf("%s: %s", l.UID, l.Error)
		}
		return nil
	}
	switch p.form {
	case "json":
		_ = json.NewEncoder(p.out).Encode(web.NewHit(l.UID, l.Time, l.Host, l.Text)) // Flush says what went wrong
	case "raw":
		if p.tty {
			p.out.WriteString(escapeControls(string(l.Text)) + "\n")
		} else {
			p.out.Write(append(bytes.Clone(l.Text), '\n'))
		}
	case "csv":
		m := partsOf(l)
		p.csv(l.Time.UTC().Format(web.TimeForm), l.Host, m.program, m.level, m.message, l.UID)
	default:
		p.short(l, sign)
	}
	if p.flush {
		return p.out.Flush()
	}
	_, err := p.out.Write(nil) // that of an earlier write
	return err
}

func (p *printer) csv(cells ...string) {
	w := csv.NewWriter(p.out)
	_ = w.Write(cells)
	w.Flush()
}

// parts are what the short form shows of a line.
type parts struct{ program, pid, level, message string }

// partsOf takes a line apart. Of JSON without a message all of it is the message.
func partsOf(l *logs.Found) (m parts) {
	m.message = string(l.Text)
	if len(l.Text) == 0 || l.Text[0] != '{' || !gjson.ValidBytes(l.Text) {
		return m
	}
	for i, v := range gjson.GetManyBytes(l.Text, "program", "pid", "severity", "level", "message", "msg") {
		switch s := v.String(); {
		case i == 0:
			m.program = s
		case i == 1:
			m.pid = s
		case i < 4 && m.level == "":
			m.level = s
		case i >= 4 && s != "" && (m.message == string(l.Text)):
			m.message = s
		}
	}
	return m
}

var (
	badLevel  = regexp.MustCompile(`(?i)^(emerg|alert|crit|fatal|panic|err|severe)`)
	warnLevel = regexp.MustCompile(`(?i)^warn`)
)

// Colours of a terminal.
const (
	red, yellow, cyan, dim, plain = "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
)

func (p *printer) paint(color, text string) string {
	if !p.color || text == "" || color == "" {
		return text
	}
	return color + text + plain
}

// short prints time, host, program and message. What follows in the message after
// its first line, as in a traceback, stands indented below it.
func (p *printer) short(l *logs.Found, sign string) {
	m := partsOf(l)
	color := ""
	switch {
	case badLevel.MatchString(m.level):
		color = red
	case warnLevel.MatchString(m.level):
		color = yellow
	}
	first, rest, more := strings.Cut(strings.TrimRight(m.message, "\n"), "\n")
	who := escapeControls(m.program)
	if m.pid != "" && who != "" {
		who += "[" + escapeControls(m.pid) + "]"
	}
	if who != "" {
		who += ": "
	}
	p.out.WriteString(sign + p.paint(dim, l.Time.In(time.Local).Format(web.TimeForm)) + " " +
		p.paint(cyan, escapeControls(l.Host)) + " " + who + p.paint(color, escapeControls(first)) + "\n")
	if more {
		for line := range strings.SplitSeq(rest, "\n") {
			p.out.WriteString("    " + sign + p.paint(color, escapeControls(line)) + "\n")
		}
	}
}
