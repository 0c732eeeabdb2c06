package sqlite

import (
	"fmt"
	"strings"
	"time"

	"wsrelay/handshake"
)

// Query is a question that has been understood. The zero value asks for every
// line.
type Query struct {
	From, To time.Time // From ≤ time < To; zero: no bound
	root     node      // nil: every line
}

// QueryError says what is wrong with the text of a query, and where.
type QueryError struct {
	At      int // the character, from 1 on
	Problem string
}

func (e *QueryError) Error() string {
	return fmt.Sprintf("the query is not understood at character %d: %s", e.At, e.Problem)
}

// node is a part of a query.
type node interface {
	// match reports whether the document is meant.
	match(d *document) bool
	// expression is what the full-text index is to be asked, in the language of
	// FTS5: every document that is meant fits it. It is exact if no other does.
	// An empty one fits every document.
	expression() (fts string, exact bool)
}

// Matches reports whether a line is what the query asks for; of a long line its
// first 64 KiB count.
func (q *Query) Matches(h Hit) bool {
	sid, seq, err := handshake.ParseUID(h.UID)
	return err == nil && q.matches(&document{id: int64(seq & maxSeq), sid: sid, at: h.Time.UnixMilli(), host: h.Host, line: []byte(h.Line)})
}

// matches reports whether a document is what the query asks for.
func (q *Query) matches(d *document) bool {
	if !q.From.IsZero() && d.at < q.From.UnixMilli() || !q.To.IsZero() && d.at >= q.To.UnixMilli() {
		return false
	}
	return q.root == nil || q.root.match(d)
}

// expression is that of the root; the times are not in it.
func (q *Query) expression() (fts string, exact bool) {
	if q.root == nil {
		return "", true
	}
	return q.root.expression()
}

// Within is the query with further bounds; zero times are none.
func (q *Query) Within(from, to time.Time) *Query {
	narrow := *q
	if from.After(q.From) {
		narrow.From = from
	}
	if !to.IsZero() && (q.To.IsZero() || to.Before(q.To)) {
		narrow.To = to
	}
	return &narrow
}

// only gives the stream that alone the query can find something of, "" if there
// may be several, and the number of the line, 0 if there may be several.
func (q *Query) only() (sid string, seq uint64) {
	parts, ok := q.root.(and)
	if !ok {
		parts = and{q.root}
	}
	for _, n := range parts {
		if o, ok := n.(own); ok && o.uid {
			sid, seq, _ = handshake.ParseUID(o.value) // it was checked when it was parsed
			return sid, seq
		} else if ok {
			sid = o.value
		}
	}
	return sid, 0
}

// term is words that follow each other, in the form of fold: with a space on
// either side, but none at the end of a term whose last word is a prefix.
type term string

func newTerm(words string, prefix bool) term {
	folded := fold([]byte(words))
	if prefix {
		folded = strings.TrimSuffix(folded, " ")
	}
	return term(folded)
}

func (t term) match(d *document) bool { return t.in(d.text()) }

func (t term) in(folded string) bool { return strings.Contains(folded, string(t)) }

// The words of a term are letters and digits only: nothing needs quoting.
func (t term) expression() (string, bool) {
	if t == "" {
		return "", true
	}
	phrase := `"` + strings.TrimSpace(string(t)) + `"`
	if !strings.HasSuffix(string(t), " ") {
		phrase += "*"
	}
	return phrase, true
}

type and []node

func (a and) match(d *document) bool {
	for _, n := range a {
		if !n.match(d) {
			return false
		}
	}
	return true
}

// FTS5 knows NOT only between two expressions, so what is excluded comes last.
func (a and) expression() (string, bool) {
	var wanted, unwanted []string
	exact := true
	for _, n := range a {
		if not, ok := n.(not); ok {
			fts, ok := not.node.expression()
			if ok && fts != "" {
				unwanted = append(unwanted, fts)
			}
			exact = exact && ok && fts != ""
			continue
		}
		fts, ok := n.expression()
		if fts != "" {
			wanted = append(wanted, fts)
		}
		exact = exact && ok
	}
	if len(wanted) == 0 {
		return "", false
	}
	fts := strings.Join(wanted, " AND ")
	if len(unwanted) > 0 {
		fts = "(" + fts + ") NOT (" + strings.Join(unwanted, " OR ") + ")"
	}
	return "(" + fts + ")", exact
}

type or []node

func (o or) match(d *document) bool {
	for _, n := range o {
		if n.match(d) {
			return true
		}
	}
	return false
}

func (o or) expression() (string, bool) {
	parts := make([]string, len(o))
	exact := true
	for i, n := range o {
		fts, ok := n.expression()
		if fts == "" {
			return "", false
		}
		parts[i], exact = fts, exact && ok
	}
	return "(" + strings.Join(parts, " OR ") + ")", exact
}

type not struct{ node node }

func (n not) match(d *document) bool     { return !n.node.match(d) }
func (n not) expression() (string, bool) { return "", false }
