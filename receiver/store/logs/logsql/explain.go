package logsql

import (
	"errors"
	"regexp"
	"strings"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Error says why a query cannot be run.
type Error struct {
	Problem string // in plain words
	Query   string // the LogsQL
	At      int    // how many bytes of Query were understood
}

func (e *Error) Error() string {
	before, after := strings.TrimSpace(e.Query[:e.At]), strings.TrimSpace(e.Query[e.At:])
	switch {
	case before == "":
		return e.Problem + ": " + after
	case after == "":
		return e.Problem + ", after: " + before
	}
	return e.Problem + ": " + before + " ▶ " + after
}

// Check reports what is wrong with LogsQL, as an *Error.
func Check(query string) error {
	_, err := logstorage.ParseQuery(query)
	if err == nil {
		return nil
	}
	text := err.Error()
	e := &Error{Query: query, At: understood(query, text)}
	if m := tail.FindStringSubmatch(text); m != nil {
		e.At = len(query) - len(m[1])
		e.Problem = quoted(first(m[1])) + " is not expected here"
		return e
	}
	e.Problem = explain(text)
	return e
}

var (
	readSoFar = regexp.MustCompile(`(?s); context: \[(.*?)\](?:; tail: \[.*\])?$`)
	tail      = regexp.MustCompile(`(?s)^unexpected unparsed tail.*; tail: \[(.*)\]$`)
	// noise is what the errors of LogsQL say besides: links, and the query once more.
	noise = regexp.MustCompile(`(?s); (see https?://|put it into quotes|probably|context: \[).*$`)
)

// understood gives the length of the part of the query that the parser had read
// when it stopped. It names the last 50 bytes of it.
func understood(query, text string) int {
	m := readSoFar.FindStringSubmatch(text)
	switch {
	case m == nil:
		return 0
	case strings.HasPrefix(query, m[1]) && len(m[1]) < 50:
		return len(m[1])
	}
	if i := strings.Index(query, m[1]); i >= 0 {
		return i + len(m[1])
	}
	return 0
}

// wordings turn what the parser says into plain words; the first that fits counts.
var wordings = []struct {
	of *regexp.Regexp
	in string
}{
	{regexp.MustCompile(`missing '\)'`), "a closing parenthesis is missing"},
	{regexp.MustCompile("compound token cannot start with \"(?:\\\\\"|['`])\"$"), "the quotes are not closed"},
	{regexp.MustCompile(`compound token cannot start with ""$|unexpected end of query|(?:token:?|got) ""|missing .?\(`), "something is missing here"},
	{regexp.MustCompile(`compound token cannot start with (".*")$`), "$1 is not expected here; put it into quotes to search for it"},
	{regexp.MustCompile(`missing query$`), "something is missing after |"},
	{regexp.MustCompile(`unexpected pipe name (".*")$`), "$1 cannot stand after |; write a or b to look for either"},
	{regexp.MustCompile(`unknown stats func (".*")$`), "$1 is not a function of stats"},
	{regexp.MustCompile(`(?s)error parsing regexp: (.*)$`), "this is not a regular expression: $1"},
	{regexp.MustCompile(`missing whitespace or ':' between (".*") and (".*")$`), "between $1 and $2 must be a space or a colon, or quotes around the whole"},
	{regexp.MustCompile(`cannot parse duration (".*")$`), "$1 is not a time"},
	{regexp.MustCompile(`since it requires more than`), "the query needs more memory than it may have; narrow its time range or add a filter"},
	{regexp.MustCompile(`("[^"]*") as (?:unsigned integer|number)`), "$1 is not a number"},
}

// Explain gives an error in plain words of what the log database complains of.
func Explain(err error) error { return errors.New(explain(err.Error())) }

func explain(text string) string {
	text = noise.ReplaceAllString(text, "")
	for _, w := range wordings {
		if m := w.of.FindStringSubmatchIndex(text); m != nil {
			return cut(string(w.of.ExpandString(nil, w.in, text, m)))
		}
	}
	return cut(text)
}

func first(s string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return word
}

func quoted(s string) string { return `"` + cut(s) + `"` }

// cut bounds what is said of a query, whole characters of it.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 300)], "") }
