package logsql

import (
	"fmt"
	"strings"
	"time"
)

// timeForms are the absolute times that ParseTime reads; without a zone they are
// UTC.
var timeForms = []string{
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly,
}

// ParseTime reads a time as people write it: 2026-03-14T15:09:26Z (RFC 3339),
// the same shorter down to 2026-03-14, in UTC, of the years 1970 to 2199, or
// relative to now: -90s, -15m, -1h30m, -2d, -1w, now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		if ago, err := ParseSpan(rest); err == nil {
			return now.Add(-ago), nil
		}
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 && t.Year() < 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-03-14T15:09:26Z, 2026-03-14 or -1h", s)
}

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// maxSpan is the longest time that ParseSpan reads, 50 years.
const maxSpan = 50 * 365 * 24 * time.Hour

// ParseSpan reads a length of time: 90s, 15m, 1h30m, 30d, 2w.
func ParseSpan(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time such as 90s, 15m, 1h30m or 30d", s)
	var total time.Duration
	for rest := s; rest != ""; {
		digits := strings.TrimLeft(rest, "0123456789")
		var n int64
		if _, err := fmt.Sscanf(rest[:len(rest)-len(digits)], "%d", &n); err != nil || digits == "" {
			return 0, bad
		}
		unit := units[digits[0]]
		if unit == 0 || n > int64(maxSpan/unit) {
			return 0, bad
		}
		total += time.Duration(n) * unit
		rest = digits[1:]
	}
	if total <= 0 || total > maxSpan {
		return 0, bad
	}
	return total, nil
}

// Within gives the filter for what also lies in a time: from, which is part of it,
// up to until; a zero time is no bound.
func Within(filter string, from, until time.Time) string {
	if !from.IsZero() {
		filter = fmt.Sprintf("_time:>=%s (%s)", from.UTC().Format(time.RFC3339Nano), filter)
	}
	if !until.IsZero() {
		filter = fmt.Sprintf("_time:<%s (%s)", until.UTC().Format(time.RFC3339Nano), filter)
	}
	return filter
}
