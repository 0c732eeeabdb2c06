package logsql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// clockForms are the times of a day that may follow a date, after a blank or a T, or
// stand alone for today.
var (
	clockForms = []string{"15:04:05.999999999", "15:04"}
	relative   = regexp.MustCompile(`^([+-]?)((?:\d+\s*[a-zA-Z]+\s*)+?)(\s*\bago)?$`)
	amount     = regexp.MustCompile(`(\d+)\s*([a-zA-Z]+)`)
	weekday    = regexp.MustCompile(`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? `)
)

// ParseTime reads a time as people write it, and as journalctl takes it:
// 2026-03-14T15:09:26Z (RFC 3339) and the same shorter down to 2026-03-14, of the
// years 1970 to 2199; 15:09:26 or 15:09 of today; today, yesterday, now;
// @1773500966; -90s, -1h30m, -2d, "2 hours ago". What names no zone is in that of
// now; UTC can stand behind it.
func ParseTime(text string, now time.Time) (time.Time, error) {
	s, zone := weekday.ReplaceAllString(strings.TrimSpace(text), ""), now.Location()
	if rest, ok := strings.CutSuffix(s, " UTC"); ok {
		s, zone = rest, time.UTC
	}
	midnight := func(days int) time.Time {
		y, m, d := now.In(zone).Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, zone)
	}
	for word, t := range map[string]time.Time{
		"now": now, "today": midnight(0), "yesterday": midnight(-1),
		"tomorrow": midnight(1),
	} {
		if s == word {
			return t, nil
		}
	}
	if t, ok := parseRelative(s, now); ok {
		return t, nil
	}
	if rest, ok := strings.CutPrefix(s, "@"); ok {
		if n, err := strconv.ParseFloat(rest, 64); err == nil && n >= 0 && n < 7e9 {
			return time.UnixMicro(int64(n * 1e6)).In(zone), nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil && plausible(t) {
		return t, nil
	}
	day, clock := s, ""
	if i := strings.IndexAny(s, " T"); i > 0 {
		day, clock = s[:i], s[i+1:]
	} else if strings.Contains(s, ":") {
		day, clock = midnight(0).Format(time.DateOnly), s
	}
	for _, form := range append(clockForms, "") {
		if t, err := time.ParseInLocation(strings.TrimSpace(time.DateOnly+" "+form), strings.TrimSpace(day+" "+clock),
			zone); err == nil && plausible(t) {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-03-14 15:09, 15:09, yesterday, -1h or 2026-03-14T15:09:26Z", text)
}

func plausible(t time.Time) bool { return t.UTC().Year() >= 1970 && t.UTC().Year() < 2200 }

// parseRelative reads -1h30m, "2 hours ago" and +10min.
func parseRelative(s string, now time.Time) (time.Time, bool) {
	m := relative.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[3] == "" || m[1] != "" && m[3] != "" {
		return time.Time{}, false
	}
	var total time.Duration
	for _, part := range amount.FindAllStringSubmatch(m[2], -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := unitOf(part[2])
		if err != nil || unit == 0 || n > int64(maxSpan/unit) {
			return time.Time{}, false
		}
		total += time.Duration(n) * unit
	}
	if total <= 0 || total > maxSpan {
		return time.Time{}, false
	}
	if m[1] == "+" {
		return now.Add(total), true
	}
	return now.Add(-total), true
}

// unitOf gives the length of a unit as journalctl names them; 0: it is none.
func unitOf(name string) time.Duration {
	switch name {
	case "s", "sec", "secs", "second", "seconds":
		return time.Second
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour
	case "d", "day", "days":
		return 24 * time.Hour
	case "w", "week", "weeks":
		return 7 * 24 * time.Hour
	case "M", "month", "months":
		return 30*24*time.Hour + 10*time.Hour + 30*time.Minute // 1/12 of a year, as systemd.time(7) has it
	case "y", "year", "years":
		return 365*24*time.Hour + 6*time.Hour
	}
	return 0
}

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
		if strings.IndexByte("smhdw", digits[0]) < 0 {
			return 0, bad
		}
		unit := unitOf(digits[:1])
		if n > int64(maxSpan/unit) {
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
