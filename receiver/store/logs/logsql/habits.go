package logsql

import (
	"regexp"
	"strings"
	"unicode"
)

// habit is something of another query language that would be understood here as
// words, or as its opposite: it is refused, with the right spelling.
type habit struct {
	of    *regexp.Regexp // what stands where nothing is quoted; its first group, or all of it, is at fault
	write string         // the right spelling; $1 … are its groups
	why   string
}

const name = `([\pL_@][\pL\pN_.@-]*)`

var habits = []habit{
	// SQL
	{regexp.MustCompile(`(?i)^\s*(select)\s.*\bfrom\b`), `status:>=500 | stats by (host) count()`, "this is not SQL"},
	{regexp.MustCompile(`(?i)(\b` + `[\pL_][\pL\pN_.]*\s+(?:not\s+)?like\b)`), `a word, or field:~"regular expression"`, "LIKE is not an operator here"},
	{regexp.MustCompile(`(?i)\b` + name + `\s+not\s+in\s*\(`), `-$1:in(…)`, "NOT IN is not an operator here"},
	{regexp.MustCompile(`(?i)\b` + name + `\s+in\s*\(`), `$1:in(…)`, "between a field and in stands a colon"},
	{regexp.MustCompile(`(?i)\b` + name + `\s+between\s+(\S+)\s+and\s+(\S+)`), `$1:range[$2, $3]`, "BETWEEN is not an operator here"},
	{regexp.MustCompile(`(?i)\b` + name + `\s+is\s+not\s+null\b`), `$1:*`, "IS NOT NULL is not an operator here"},
	{regexp.MustCompile(`(?i)\b` + name + `\s+is\s+null\b`), `$1:""`, "IS NULL is not an operator here"},
	{regexp.MustCompile(`(?i)\b(order\s+by)\s`), `| sort by (field desc)`, "ORDER BY is not an operator here"},
	{regexp.MustCompile(`(?i)\b(group\s+by)\s`), `| stats by (field) count()`, "GROUP BY is not an operator here"},
	{regexp.MustCompile(name + `\s*(?:<>)\s*([^\s()|]*)`), `$1:!=$2`, "<> is not an operator here"},
	{regexp.MustCompile(name + `\s*(?:===?)\s*([^\s()|=]+)`), `$1:=$2`, "== is not an operator here"},
	{regexp.MustCompile(`(?:^|[\s(])` + name + `\s+(=|!=|>=|<=|>|<)\s*([^\s()|=<>]+)`), `$1:$2$3`, "between a field and its value stands a colon, and no blank"},
	{regexp.MustCompile(`(?:^|[\s(])` + name + `(!=|>=|<=)\s*([^\s()|=<>]+)`), `$1:$2$3`, "between a field and $2 stands a colon"},
	// KQL and Lucene
	{regexp.MustCompile(`(?:^|\s)(&&)(?:\s|$)`), `a b`, "&& is not an operator here: words that stand side by side must all be there"},
	{regexp.MustCompile(`(\|\|)`), `a or b`, "|| is not an operator here"},
	{regexp.MustCompile(`_exists_\s*:\s*([^\s()|]+)`), `$1:*`, "_exists_ is not a field here"},
	{regexp.MustCompile(name + `:\s*[\[{]\s*(\S+)\s+(?i:to)\s+([^\s\]}]+)\s*[\]}]`), `$1:range[$2, $3]`, "a range is written otherwise here"},
	{regexp.MustCompile(name + `:/((?:[^/\s\\]|\\.)+)/(?:\s|\)|$)`), `$1:~"$2"`, "a regular expression stands in quotes here, behind ~"},
	{regexp.MustCompile(`(?:^|\s)\+([\pL\pN_]+)`), `$1`, "+ is not an operator here: every word must be there"},
	{regexp.MustCompile(`(?:^|\s)[\pL\pN_]{3,}(~\d?)(?:\s|$)`), `a word, or the beginning of one with *`, "there is no search for similar words"},
	{regexp.MustCompile(`(?:^|[\s(-])((?:host|program|level|severity):)\s+([\pL\pN]\S*)`), `$1$2`, "between a field and its value stands no blank"},
	{regexp.MustCompile(`(?i)(@timestamp|timestamp)\s*:?\s*[<>]=?\s*now-(\d+[smhdw])`), `_time:$2`, "the time of a line is _time"},
	{regexp.MustCompile(name + `:([\pL\pN_.-]*)\?([\pL\pN_.-]*)(?:\s|\)|$)`), `$1:~"$2.$3"`, "? stands for no character here"},
	// Splunk and Loki
	{regexp.MustCompile(`(?:^|\s)((?:earliest|latest|index|sourcetype)=\S+)`), `_time:1h and host:, program: or level:`, "this is of another query language"},
	{regexp.MustCompile(`(\|[=~])`), `{host="web1"} word`, "behind the filter for streams stand words, without |= or |~"},
	// grep
	{regexp.MustCompile(`^\s*((?:grep|egrep|zgrep)\s+-?\S+)`), `the words alone`, "this is a search already"},
	{regexp.MustCompile(`^\s*(-[ivEFPwncrxoHhlABC]+(?:\s+\d+)?)(?:\s|$)`), `error, -debug for lines without it; upper and lower case are the same`, "options of grep mean nothing here"},
	{regexp.MustCompile(`(?:^|[\s(])((?:[^\s()|:~"'<>{}\[\]/]*\pL[^\s()|:~"'<>{}\[\]/]*\.[*+]|[^\s()|:~"'<>{}\[\]/]*\.[*+][^\s()|:~"'<>{}\[\]/]*\pL|[^\s()|:~"'<>{}\[\]/]*(?:\[[0-9a-zA-Z]-[0-9a-zA-Z]\]|\\[dws][+*]))[^\s()|"']*)`), `*:~"$1"`, "a regular expression stands in quotes here, behind ~"},
	{regexp.MustCompile(`(?:^|[\s(])([\pL\pN_]+)\*([\pL\pN_]+)(?:\s|\)|$)`), `*:~"$1.*$2"`, "* stands at the end of a word only"},
	{regexp.MustCompile(`(?:^|[\s(])((?:>=|<=|>|<|=)\s*\d+)(?:\s|$)`), `field:$1`, "the field is missing"},
}

// Habit reports what a query has of other languages, with the right spelling, as an
// *Error whose Query is what was typed.
func Habit(query string) error {
	bare := unquoted(query)
	for i := range habits {
		h := &habits[i]
		m := h.of.FindStringSubmatchIndex(bare)
		if m == nil {
			continue
		}
		at := m[2]
		if at < 0 {
			at = m[0]
		}
		spelling := string(h.of.ExpandString(nil, h.write, query, m))
		why := string(h.of.ExpandString(nil, h.why, query, m))
		return &Error{Problem: why + "; write " + spelling + ", or put it into quotes to search for it", Query: query, At: at}
	}
	return nil
}

// unquoted is the query with what stands in quotes blanked out, byte for byte.
func unquoted(query string) string {
	p := &plain{in: query}
	out := []byte(query)
	for i := 0; i < len(query); {
		c := query[i]
		opens := c == '"' || c == '`' || c == '\'' && (i == 0 || strings.IndexByte(" \t(:=~", query[i-1]) >= 0)
		if !opens {
			i++
			continue
		}
		n := p.quoted(i)
		for k := i + 1; k < i+n-1; k++ {
			out[k] = 'q'
		}
		i += n
	}
	return string(out)
}

// wordless reports whether a query that someone has typed has nothing in it to look
// for, and would find every line.
func wordless(query string, f *Filter) bool {
	switch {
	case strings.TrimSpace(query) == "":
		return false
	case strings.Trim(query, "\"'`(){}[] \t\n\r") == "":
		return true
	case strings.ContainsFunc(query, func(r rune) bool { return unicode.In(r, unicode.L, unicode.N) || r == '*' }):
		return false
	}
	return f.MatchRow([]Field{{Name: "_msg", Value: "zq"}})
}

// pipesOf gives what stands in a query from its first | on that is not quoted.
func pipesOf(query string) string {
	i := strings.IndexByte(unquoted(query), '|')
	if i < 0 {
		return ""
	}
	return query[i:]
}

// ParseTyped gives the filter and the pipes of what a person types. What belongs to
// other languages, and what has no word in it, is an *Error.
func ParseTyped(query string) (f *Filter, filter, pipes string, err error) {
	filter, pipes = Plain(query)
	if err := Habit(query); err != nil {
		return nil, filter, pipes, err
	}
	if f, err = Parse(filter, pipes); err != nil {
		return nil, filter, pipes, err
	}
	if wordless(query[:len(query)-len(pipesOf(query))], f) {
		return nil, filter, pipes, &Error{Problem: "there is no word in it; * finds every line", Query: query}
	}
	return f, filter, pipes, nil
}
