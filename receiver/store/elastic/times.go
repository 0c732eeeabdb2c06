package elastic

import "time"

// timeLayouts are forms of @timestamp that engines take as well, or that
// programs write and engines do not take.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999Z07",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04Z07:00",
	"2006-01-02T15:04", "2006-01-02",
}

// timeOf gives the time that a value tells as JSON that every engine takes: as
// it is where that is sure, else in one form, UTC. What Go reads engines do not
// always: hours of one digit, a comma, an offset of a day.
func timeOf(v value) (raw value, ok bool) {
	if !v.isText() { // milliseconds
		return v, len(v) <= 14 && allDigits(string(v))
	}
	text := v.text()
	if isPlainTime(text) && len(v) == len(text)+2 {
		return v, true
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return value(`"` + t.UTC().Format(time.RFC3339Nano) + `"`), true
		}
	}
	return "", false
}

// isPlainTime reports whether s is a time to the letter of RFC 3339.
func isPlainTime(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[13] != ':' || s[16] != ':' || s[19] == ',' {
		return false
	}
	if _, err := time.Parse(time.RFC3339, s); err != nil {
		return false
	}
	zone := 1
	if s[len(s)-1] != 'Z' {
		zone = len("+01:00")
		if hours := s[len(s)-5 : len(s)-3]; hours > "17" {
			return false
		}
	}
	return len(s)-zone <= len("2006-01-02T15:04:05.999999999")
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
