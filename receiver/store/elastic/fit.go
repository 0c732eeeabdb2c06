package elastic

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/tidwall/gjson"
)

// Bounds of what reaches the parser of an engine as fields. What is beyond them
// stays in the text of the line. They are below those of every engine, which
// refuses, or takes minutes, beyond its own.
const (
	maxObject = 1 << 20 // bytes of a line that is read as an object
	maxLevels = 20      // objects, arrays and parts of dotted names, one within another
	maxName   = 512     // bytes of a full name
	maxNumber = 64      // bytes of a number
	maxListed = 20      // omitted names that a document lists
)

// Why a member is not a field of its document.
const (
	whyDeep     = "nested deeper than 20 levels, the parts of dotted names counted"
	whyName     = "a name of more than 512 bytes"
	whyEmpty    = "a name with an empty part"
	whyTwice    = "a name that is there twice"
	whyNumber   = "a number that is no 64-bit integer or double"
	whyNames    = "more names than the index has space for"
	whyTime     = "a time that cannot be read"
	whyDeepLine = "nested deeper than 64 levels"
	whyLarge    = "an object of more than 1 MiB"
	whyOurs     = "a name that is wsreceive's own"
)

// omission is a member that is left out of a document: its bytes, its full name and
// the reason.
type omission struct {
	from, to int
	name     string
	why      string
}

// fitter reads a document member by member and notes what must not reach the
// engine. The document is valid JSON and nested no deeper than maxDepth.
type fitter struct {
	doc   []byte
	known *known
	omit  []string // names of members that are to stay out, for what a refusal of the engine has mentioned
	why   string   // that refusal
	widen []string // names of members whose integers may become fractions

	path  []byte
	keys  [][]byte        // of the objects that are open
	cuts  []omission      // disjoint, in ascending order
	fresh []omission      // members whose name the index does not have yet
	new   map[string]bool // their names
	hit   bool            // a name in omit was found

	mayWiden bool  // the member that is read has a name in widen
	integers []int // offsets behind the integers in such members
	fraction bool  // there is a fraction in them, too
}

// fit gives what must be cut out of doc, of which the members from the offset
// at on are those of o's line.
func (f *fitter) fit(doc []byte, at int, k *known, o *op) []omission {
	f.doc, f.known, f.omit, f.why, f.widen, f.hit = doc, k, o.omit, o.why, o.widen, false
	f.path, f.keys, f.cuts, f.fresh = f.path[:0], f.keys[:0], f.cuts[:0], f.fresh[:0]
	f.mayWiden, f.integers, f.fraction = false, f.integers[:0], false
	clear(f.new)
	k.mu.RLock()
	f.members(at, 1)
	k.mu.RUnlock()
	if refused := k.add(o.batch.SID, f.fresh, len(f.new)); len(refused) > 0 {
		f.cuts = outermost(append(f.cuts, refused...))
	}
	return f.cuts
}

// outermost sorts cuts and drops those within another.
func outermost(cuts []omission) []omission {
	slices.SortFunc(cuts, func(a, b omission) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	end := 0
	return slices.DeleteFunc(cuts, func(c omission) bool {
		inner := c.from < end
		end = max(end, c.to)
		return inner
	})
}

// members reads those of one object, from the offset i in it to its end, and
// gives the offset behind that.
func (f *fitter) members(i, level int) int {
	first := len(f.keys)
	for {
		switch f.doc[i] {
		case '}':
			f.keys = f.keys[:first]
			return i + 1
		case '"':
			i = f.member(i, level, first)
		default: // a comma, white space
			i++
		}
	}
}

// member reads one, and cuts it if its name or value does not fit.
func (f *fitter) member(i, level, first int) int {
	c := omission{from: i}
	end := stringEnd(f.doc, i)
	name := f.doc[i+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(gjson.ParseBytes(f.doc[i:end]).Str)
	}
	i = valueAt(f.doc, end)
	before := len(f.path)
	if before > 0 {
		f.path = append(f.path, '.')
	}
	f.path = append(f.path, name...)
	cuts, fresh := len(f.cuts), len(f.fresh)
	level += bytes.Count(name, []byte{'.'})
	compound := f.doc[i] == '{' || f.doc[i] == '['
	if c.why = f.checkName(name, level, first); c.why == "" && f.isIn(f.omit, compound) {
		c.why, f.hit = f.why, true
	}
	if c.why == "" {
		f.keys = append(f.keys, name)
		outer := f.mayWiden
		f.mayWiden = f.isIn(f.widen, compound)
		i, c.why = f.value(i, level)
		f.mayWiden = outer
	} else {
		i = skip(f.doc, i)
	}
	c.to = i
	switch {
	case c.why != "":
		c.name = string(f.path)
		f.cuts, f.fresh = append(f.cuts[:cuts], c), f.fresh[:fresh]
	case len(f.fresh) > fresh && f.fresh[fresh].name == string(f.path):
		f.fresh[fresh].from, f.fresh[fresh].to = c.from, c.to
	}
	f.path = f.path[:before]
	return i
}

// checkName says why a name cannot be one of a field.
func (f *fitter) checkName(name []byte, level, first int) string {
	switch {
	case level > maxLevels:
		return whyDeep
	case len(f.path) > maxName:
		return whyName
	case hasEmptyPart(name):
		return whyEmpty
	case !f.known.has(f.path) && !f.isNew():
		return whyNames
	case slices.ContainsFunc(f.keys[first:], func(other []byte) bool { return bytes.Equal(name, other) }):
		return whyTwice
	}
	return ""
}

// isNew notes a name that the index does not have, or reports that the document
// has too many of them to be anything but data.
func (f *fitter) isNew() bool {
	if !f.new[string(f.path)] {
		if len(f.new) >= maxFresh {
			return false
		}
		if f.new == nil {
			f.new = make(map[string]bool)
		}
		f.new[string(f.path)] = true
	}
	f.fresh = append(f.fresh, omission{name: string(f.path), why: whyNames})
	return true
}

func hasEmptyPart(name []byte) bool {
	for part := range bytes.SplitSeq(name, []byte{'.'}) {
		if len(bytes.TrimSpace(part)) == 0 {
			return true
		}
	}
	return false
}

// isIn reports whether a refusal has mentioned the member, or something within a
// member that has no names in it, such as a subfield of the mapping.
func (f *fitter) isIn(mentioned []string, compound bool) bool {
	return slices.ContainsFunc(mentioned, func(name string) bool {
		rest, ok := bytes.CutPrefix([]byte(name), f.path)
		return ok && (len(rest) == 0 || rest[0] == '.' && !compound)
	})
}

// value reads one of so many levels and gives the offset behind it, or says why
// the member that holds it does not fit.
func (f *fitter) value(i, level int) (end int, why string) {
	switch c := f.doc[i]; {
	case c == '{':
		if level >= maxLevels {
			return f.emptyOr(i, whyDeep)
		}
		return f.members(i+1, level+1), ""
	case c == '[':
		if level >= maxLevels {
			return skip(f.doc, i), whyDeep
		}
		start := i
		for i = space(f.doc, i+1); f.doc[i] != ']'; i = space(f.doc, i) {
			if f.doc[i] == ',' {
				i++
				continue
			}
			if i, why = f.value(i, level+1); why != "" {
				return skip(f.doc, start), why
			}
		}
		return i + 1, ""
	case c == '"':
		return stringEnd(f.doc, i), ""
	case c == '-' || c >= '0' && c <= '9':
		end := skip(f.doc, i)
		if f.mayWiden {
			f.noteNumber(i, end)
		}
		return end, checkNumber(f.doc[i:end])
	}
	return skip(f.doc, i), ""
}

func (f *fitter) noteNumber(i, end int) {
	if bytes.ContainsAny(f.doc[i:end], ".eE") {
		f.fraction = true
	} else {
		f.integers = append(f.integers, end)
	}
}

// widened gives the document with the integers as fractions that stand beside
// fractions under one of the names in widen, or nil if there are none. Engines
// that guess a type for each value refuse the two under a new name.
func (f *fitter) widened() (doc []byte) {
	if len(f.integers) == 0 || !f.fraction {
		return nil
	}
	at := 0
	for _, end := range f.integers {
		doc = append(append(doc, f.doc[at:end]...), ".0"...)
		at = end
	}
	return append(doc, f.doc[at:]...)
}

// emptyOr skips an object; one that is not empty does not fit.
func (f *fitter) emptyOr(i int, why string) (end int, _ string) {
	if f.doc[space(f.doc, i+1)] == '}' {
		why = ""
	}
	return skip(f.doc, i), why
}

// checkNumber wants what engines take for a long or a double.
func checkNumber(raw []byte) string {
	if len(raw) > maxNumber {
		return whyNumber
	}
	text := string(raw)
	if bytes.ContainsAny(raw, ".eE") {
		if n, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(n, 0) || n == 0 && !isZero(raw) {
			return whyNumber
		}
		return ""
	}
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return whyNumber
	}
	return ""
}

// isZero reports whether a number that reads as zero is written as zero, such as
// the 0.000000e+00 of C's printf, and is not one too small for a double. A long
// exponent does not count as zero's, because some parsers compute with it.
func isZero(raw []byte) bool {
	i := bytes.IndexAny(raw, "eE")
	if i < 0 {
		i = len(raw)
	}
	return !bytes.ContainsAny(raw[:i], "123456789") && len(raw)-i <= len("e+000")
}

// jsonText is valid JSON that is read byte by byte.
type jsonText interface{ ~string | ~[]byte }

// valueAt gives the offset of a member's value; i is the one behind its name.
func valueAt[T jsonText](doc T, i int) int {
	for doc[i] != ':' {
		i++
	}
	return space(doc, i+1)
}

// space gives the offset of the first byte from i on that is no white space.
func space[T jsonText](doc T, i int) int {
	for isSpace(doc[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skip gives the offset behind the value at i, however deep it is.
func skip[T jsonText](doc T, i int) int {
	for depth := 0; ; {
		switch doc[i] {
		case '"':
			i = stringEnd(doc, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default:
			for i++; doc[i] != ',' && doc[i] != ']' && doc[i] != '}' && !isSpace(doc[i]); i++ {
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// stringEnd gives the offset behind the string that begins at i.
func stringEnd[T jsonText](doc T, i int) int {
	for i++; ; i++ {
		switch doc[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// without appends doc from the offset at on to dst without what is cut, and
// without the commas that would be too many.
func without(dst, doc []byte, at int, cuts []omission) []byte {
	for _, c := range cuts {
		if c.to == 0 { // a value that was replaced
			continue
		}
		dst = append(dst, doc[at:c.from]...)
		rest := bytes.TrimLeft(doc[c.to:], " \t\r\n")
		if rest[0] == ',' {
			at = len(doc) - len(rest) + 1
			continue
		}
		at = c.to
		if short := bytes.TrimRight(dst, " \t\r\n"); short[len(short)-1] == ',' {
			dst = short[:len(short)-1]
		}
	}
	return append(dst, doc[at:]...)
}
