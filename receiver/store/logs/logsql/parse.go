package logsql

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Field is a field of a row.
type Field = logstorage.Field

// Filter finds rows by their fields.
type Filter = logstorage.Filter

// Parse checks LogsQL, and gives its filter. The error is in plain words.
func Parse(filter, pipes string) (*Filter, error) {
	if _, err := logstorage.ParseQuery(strings.TrimSpace(filter + " " + pipes)); err != nil {
		return nil, Explain(err)
	}
	f, err := logstorage.ParseFilter(filter)
	if err != nil {
		return nil, Explain(err)
	}
	return f, nil
}

var (
	// noise is what errors of LogsQL have besides: the query once more, and links.
	noise = regexp.MustCompile(`(?s); (context: \[|see https?://|put it into quotes).*$`)
	tail  = regexp.MustCompile(`(?s)^unexpected unparsed tail.*; tail: \[(.*)\]$`)
)

const maxComplaint = 300 // bytes

// Explain says in plain words what LogsQL complains of.
func Explain(err error) error {
	text := err.Error()
	if m := tail.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%.100q is not expected here", m[1])
	}
	text = noise.ReplaceAllString(text, "")
	switch {
	case strings.HasPrefix(text, "missing ')'"):
		text = "a closing parenthesis is missing"
	case strings.HasSuffix(text, `compound token cannot start with ""`):
		text = "it ends where a value is expected"
	case strings.Contains(text, "since it requires more than"):
		text = "the query needs more memory than it may have; narrow its time range or add a filter"
	case strings.HasSuffix(text, "missing query"):
		text = "something is missing after the last |"
	}
	if len(text) > maxComplaint {
		text = strings.ToValidUTF8(text[:maxComplaint], "")
	}
	return errors.New(text)
}
