// Package row makes a line a row of the log database, and the row the line again,
// byte for byte.
//
// A line that is a JSON object becomes its fields and the number of its skeleton: the line without
// its values, which a table keeps once. Any other line is the message of its row and has
// fields beside it where its form is known. Invariants:
//
//  1. Text gives each line as it came, or the error that says why it cannot.
//  2. The library takes each row: it drops those beyond its limits without an error, also
//     when it merges rows later. See maxNames, maxRow and maxName.
//  3. Each word of a line is found: in a field, else in _msg or wsrelay.line.
//  4. Row decides by the line, its arrival and the table, never by the clock.
package row

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wsrelay/handshake"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The names of the fields that are ours.
const (
	FieldSID      = prefix + "sid"
	FieldSeq      = prefix + "seq"
	FieldCRC      = prefix + "crc" // of the line, in decimal
	FieldSegment  = prefix + "segment"
	FieldAt       = prefix + "at"       // arrival, where _time is the line's own time
	FieldSender   = prefix + "sender"   // the sender's host, where host is another
	fieldSkeleton = prefix + "skeleton" // the number of the line's skeleton
	FieldLine     = prefix + "line"     // the line, where no skeleton and no message gives it
	fieldBytes    = prefix + "bytes"    // which characters are bytes of a line that is not UTF-8
	fieldSize     = prefix + "size"     // the line's length, where the row has only its beginning
	FieldGap      = prefix + "gap"      // how many lines a gap stands for
	fieldWhy      = prefix + "why"      // a gap's reason
)

const (
	maxStream = 128            // bytes of a value that tells streams apart
	maxRow    = 2<<20 - 64<<10 // bytes of a row, as the library counts; it drops larger ones than 2 MiB
	maxText   = 1 << 20        // bytes of the message of a line that no row can hold
	keptBytes = 4 << 20        // of memory that a Coder keeps for the next line
	maxAhead  = 24 * time.Hour // of a line's own time before its arrival
)

// Line is what a row is made of.
type Line struct {
	SID, Host, Segment string
	Seq                uint64
	At                 time.Time // of arrival
	Text               []byte
}

// Row is what the database stores of a line or a gap.
type Row struct {
	Time   time.Time
	Fields []logstorage.Field // the first Stream of them are the stream's
	Stream int
	Whole  bool // the line's bytes have to be kept elsewhere: the row has only their beginning
}

// Queried gives the fields of the row as a query finds them: with its time and the name of
// its stream.
func (r *Row) Queried() []logstorage.Field {
	var labels []string
	for _, f := range r.Fields[:r.Stream] {
		labels = append(labels, f.Name+"="+strconv.Quote(f.Value))
	}
	return append(r.Fields, logstorage.Field{Name: "_time", Value: r.Time.UTC().Format(time.RFC3339Nano)},
		logstorage.Field{Name: "_stream", Value: "{" + strings.Join(labels, ",") + "}"})
}

// Coder makes rows of lines, and lines of rows.
type Coder struct {
	table *Table
	cache map[string]*cached // by skeleton

	cacheBytes int

	scanner scanner
	texts   texts
	buf     []byte // holds values that are not in the line as they are
	clean   []byte // the line, if it is not UTF-8
	was     []byte // see wasByte
	built   []byte
	values  []string

	stream string // the last sender, host and program that were allowed
	at     time.Time
	atText string
}

// cached is a shape and what programs may have of it.
type cached struct {
	shape  *shape
	grants map[string]grant
}

// Row makes a row of a line. The row's strings hold until the next call, and as
// long as the line's bytes do.
func (c *Coder) Row(dst *Row, l *Line) {
	dst.Fields, dst.Whole = dst.Fields[:0], false
	c.buf, c.clean, c.was = c.buf[:0], c.clean[:0], c.was[:0]
	line := l.Text
	if !utf8.Valid(line) {
		c.clean, c.was = decodeInvalid(c.clean, c.was, line)
		line = c.clean
	}
	var f facts
	isObject := c.scanner.scan(line)
	if isObject {
		c.object(&f, l)
	} else {
		c.text(&f, l, text(line))
	}
	dst.Time = l.At
	if f.timed {
		dst.Time = f.time
	}
	program := c.streamFields(dst, &f, l)
	head := len(dst.Fields)
	g := c.valueFields(dst, &f, program)
	switch {
	case isObject && !c.table.opts.Raw && g.ok && f.exact && f.shape.shape.whole && c.rebuilds(dst, f.shape.shape, line):
		dst.add(fieldSkeleton, c.held(strconv.AppendUint(append(c.buf, skeletonMark), uint64(g.number), 10)))
	case isObject && f.message == "" && strings.IndexByte(text(line), escape[0]) < 0:
		dst.add("_msg", text(line))
	case c.table.opts.Raw && len(line) == 0: // a server fills an empty _msg
		dst.add(FieldLine, guard)
	case isObject || f.message != text(line) || !keeps(f.message):
		dst.add("_msg", f.message)
		dst.add(FieldLine, c.guarded(text(line)))
	default:
		dst.add("_msg", f.message)
	}
	dst.add(fieldBytes, text(c.was))
	c.origin(dst, l, f.timed)
	if logstorage.EstimatedJSONRowLen(dst.Fields) > maxRow {
		dst.Fields, dst.Whole = dst.Fields[:head], true
		dst.add("_msg", c.uncoloured(Cut(text(line), maxText)))
		dst.add(fieldSize, c.decimal(uint64(len(l.Text))))
		c.origin(dst, l, f.timed)
	}
	c.release()
}

// release lets memory go that only a huge line needs.
func (c *Coder) release() {
	for _, b := range []*[]byte{
		&c.buf, &c.clean, &c.was, &c.built, &c.scanner.skeleton, &c.texts.skeleton,
		&c.texts.unescaped,
	} {
		if cap(*b) > keptBytes {
			*b = nil
		}
	}
	if cap(c.scanner.spans) > 100_000 {
		c.scanner.spans, c.values, c.texts.values = nil, nil, nil
	}
}

func (r *Row) add(name, value string) {
	if value != "" {
		r.Fields = append(r.Fields, logstorage.Field{Name: name, Value: value})
	}
}

// shape gives the shape of a skeleton.
func (c *Coder) shape(skeleton []byte) *cached {
	if s := c.cache[string(skeleton)]; s != nil {
		return s
	}
	s := &cached{newShape(string(skeleton)), map[string]grant{}}
	if len(skeleton) <= maxSkeleton {
		if c.cacheBytes += s.shape.bytes(); c.cacheBytes > maxCached {
			clear(c.cache)
			c.cacheBytes = s.shape.bytes()
		}
		c.cache[s.shape.skeleton] = s
	}
	return s
}

// streamFields adds host and program, and gives the name under which the table
// keeps the names of the stream's fields.
func (c *Coder) streamFields(dst *Row, f *facts, l *Line) (program string) {
	sender := streamValue(l.Host)
	f.host, f.program = streamValue(f.host), streamValue(f.program)
	if f.host == "" {
		f.host = sender
	}
	if !c.allowed(l, f) {
		dst.add("host", sender)
		dst.Stream = len(dst.Fields)
		dst.add("program", f.program)
		f.host, program = sender, ""
	} else {
		dst.add("host", f.host)
		dst.add("program", f.program)
		dst.Stream, program = len(dst.Fields), f.program
	}
	if program == "" {
		program = f.host
	}
	if sender != f.host {
		dst.add(FieldSender, sender)
	}
	dst.add("level", f.level)
	return program
}

func (c *Coder) allowed(l *Line, f *facts) bool {
	from := len(c.buf)
	c.buf = append(append(append(append(append(append(c.buf, l.SID...), 0), f.host...), 0), f.program...), 0)
	c.buf = strconv.AppendInt(c.buf, dayOf(l.At), 10)
	key := c.buf[from:]
	if string(key) != c.stream {
		if !c.table.hasStream(l, string(key)) {
			return false
		}
		c.stream = string(key)
	}
	return true
}

// valueFields adds the fields of the values.
func (c *Coder) valueFields(dst *Row, f *facts, program string) (g grant) {
	if f.shape == nil {
		return g
	}
	s := f.shape.shape
	g, ok := f.shape.grants[program]
	if !ok {
		if g = c.table.grant(program, s); g.ok {
			f.shape.grants[strings.Clone(program)] = g
		}
	}
	if g.left != nil {
		f.exact = false
	}
	if s.message >= 0 && g.left != nil && g.left[s.message] {
		f.message = ""
	}
	for i, v := range f.values {
		slot := &s.values[i]
		if slot.name == "" || g.left != nil && g.left[i] || i == s.message {
			continue
		}
		name := slot.name
		if slot.other != "" {
			switch ours := Value(dst.Fields, name); ours {
			case v:
				continue
			case "":
			default:
				name = slot.other
			}
		}
		dst.add(name, v)
	}
	return g
}

// rebuilds reports whether the row's fields and the skeleton give the line.
func (c *Coder) rebuilds(dst *Row, s *shape, line []byte) bool {
	if s.message >= 0 {
		dst.add("_msg", c.values[s.message])
	}
	fields := newLookup(dst.Fields)
	c.built = s.build(c.built[:0], &fields)
	if text(c.built) == text(line) {
		return true
	}
	if s.message >= 0 && c.values[s.message] != "" {
		dst.Fields = dst.Fields[:len(dst.Fields)-1]
	}
	return false
}

// origin adds the fields that say where the line comes from.
func (c *Coder) origin(dst *Row, l *Line, timed bool) {
	dst.add(FieldSID, l.SID)
	dst.add(FieldSeq, c.decimal(seqBase+l.Seq))
	dst.add(FieldCRC, c.decimal(uint64(crc32.Checksum(l.Text, castagnoli))))
	dst.add(FieldSegment, l.Segment)
	if timed {
		if c.atText == "" || !c.at.Equal(l.At) {
			c.at, c.atText = l.At, l.At.UTC().Format(time.RFC3339Nano)
		}
		dst.add(FieldAt, c.atText)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Gap makes a row of a gap. Of the line, Text is not looked at.
func (c *Coder) Gap(dst *Row, l *Line, g *handshake.Gap) {
	dst.Fields, dst.Whole, dst.Time = dst.Fields[:0], false, l.At
	c.buf = c.buf[:0]
	dst.add("host", streamValue(l.Host))
	dst.Stream = len(dst.Fields)
	dst.add("level", "error")
	what := "lines are lost"
	if g.Maybe {
		what = "lines may be lost"
	}
	message := fmt.Sprintf("%d %s: %s", g.N, what, streamValue(g.Why))
	if g.From > 0 && g.To > 0 {
		message += fmt.Sprintf(", of %s to %s", time.UnixMilli(g.From).UTC().Format(time.RFC3339),
			time.UnixMilli(g.To).UTC().Format(time.RFC3339))
	}
	dst.add("_msg", message)
	dst.add(FieldSID, l.SID)
	dst.add(FieldSeq, c.decimal(seqBase+g.Seq))
	dst.add(FieldGap, c.decimal(g.N))
	dst.add(fieldWhy, streamValue(g.Why))
	dst.add(FieldSegment, l.Segment)
}

// guard stands before a raw line that the library would otherwise take for a number,
// or that begins with one, and for an empty line on a server.
const guard = `\`

func (c *Coder) guarded(line string) string {
	if keeps(line) && !strings.HasPrefix(line, guard) {
		return line
	}
	return c.held(append(append(c.buf, guard...), line...))
}

func (c *Coder) uncoloured(s string) string { return c.held(appendUncoloured(c.buf, s)) }

func (c *Coder) decimal(n uint64) string { return c.held(strconv.AppendUint(c.buf, n, 10)) }

// held makes longer, which begins with c.buf, the new c.buf, and gives what it has more.
func (c *Coder) held(longer []byte) string {
	from := len(c.buf)
	c.buf = longer
	return text(longer[from:])
}

// Value gives the value of a field, which is empty if there is none.
func Value(fields []logstorage.Field, name string) string {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i].Value
		}
	}
	return ""
}
