package logsql

import (
	"strings"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Field is a field of a row.
type Field = logstorage.Field

// Filter finds rows by their fields.
type Filter = logstorage.Filter

// Parse checks LogsQL, and gives its filter. What is wrong is an *Error.
func Parse(filter, pipes string) (*Filter, error) {
	if err := Check(strings.TrimSpace(filter + " " + pipes)); err != nil {
		return nil, err
	}
	f, err := logstorage.ParseFilter(filter)
	if err != nil {
		return nil, &Error{Problem: explain(err.Error()), Query: filter}
	}
	return f, nil
}
