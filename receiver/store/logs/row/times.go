package row

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// parseTime reads the time that s starts with, and gives what follows it. What the
// form leaves open comes from at, the time of arrival, and zone.
func parseTime(s string, at time.Time, zone *time.Location) (t time.Time, rest string, ok bool) {
	if len(s) < len("1:02:03 ") {
		return t, s, false
	}
	c := clock{rest: s, at: at, zone: zone, year: math.MinInt}
	switch {
	case s[0] >= '0' && s[0] <= '9':
		ok = c.digits()
	case s[0] >= 'A' && s[0] <= 'Z':
		ok = c.words()
	}
	if !ok {
		return t, s, false
	}
	if c.isEpoch {
		return c.epoch, c.rest, true
	}
	t, ok = c.time()
	return t, c.rest, ok
}

// clock is a time that is being read.
type clock struct {
	rest                                       string
	at                                         time.Time
	zone                                       *time.Location
	year, month, day, hour, minute, sec, nanos int // year MinInt: unknown
	epoch                                      time.Time
	isEpoch                                    bool
}

// digits reads a form that starts with a digit.
func (c *clock) digits() bool {
	n := 0
	for n < len(c.rest) && c.rest[n] >= '0' && c.rest[n] <= '9' {
		n++
	}
	next := byte(0)
	if n < len(c.rest) {
		next = c.rest[n]
	}
	switch {
	case n == 4 && (next == '-' || next == '/'): // 2026-03-14T02:03:04.005Z, 2026/03/14 02:03:04
		return c.number(&c.year, 4) && c.literal(next) && c.number(&c.month, 2) && c.literal(next) &&
			c.number(&c.day, 2) &&
			c.oneOf("Tt _") && c.timeOfDay() && c.offset()
	case n == 8 && next == 'T': // 20260314T020304Z
		return c.number(&c.year, 4) && c.number(&c.month, 2) && c.number(&c.day, 2) && c.literal('T') &&
			c.number(&c.hour, 2) && c.number(&c.minute, 2) && c.number(&c.sec, 2) && c.fraction() && c.offset()
	case n <= 2 && next == '/': // 14/Mar/2026:02:03:04 +0000
		return c.number(&c.day, n) && c.literal('/') && c.monthName() && c.literal('/') && c.number(&c.year, 4) &&
			c.oneOf(": ") && c.timeOfDay() && c.offset()
	case n <= 2 && (next == ' ' || next == '-'): // 14 Mar 2026 02:03:04.005, 14-Mar-2026 02:03:04
		return c.number(&c.day, n) && c.literal(next) && c.monthName() && c.literal(next) && c.number(&c.year, 4) &&
			c.literal(' ') && c.timeOfDay() && c.offset()
	case n >= 9:
		return c.seconds(n)
	}
	return false
}

var dayNames = func() map[string]bool {
	names := map[string]bool{}
	for d := time.Sunday; d <= time.Saturday; d++ {
		names[d.String()], names[d.String()[:3]] = true, true
	}
	return names
}()

// words reads a form that starts with the name of a day or month, or with the letter
// of a level.
func (c *clock) words() bool {
	if len(c.rest) > len("I0314 02:03:04") && isDigits(c.rest[1:5]) { // I0314 02:03:04.000005
		c.rest = c.rest[1:]
		return c.number(&c.month, 2) && c.number(&c.day, 2) && c.literal(' ') && c.timeOfDay()
	}
	if i := strings.IndexAny(c.rest, " ,"); i >= 3 && dayNames[c.rest[:i]] {
		c.rest = strings.TrimLeft(c.rest[i:], " ,")
		if c.rest != "" && c.rest[0] <= '9' { // Sat, 14 Mar 2026 02:03:04 GMT
			return c.digits()
		}
	}
	if !c.monthName() || !c.literal(' ') { // Mar 14 02:03:04, Sat Mar 14 02:03:04.000005 2026
		return false
	}
	c.literal(' ')
	if !c.number(&c.day, 2) && !c.number(&c.day, 1) || !c.literal(' ') {
		return false
	}
	if len(c.rest) > 5 && c.rest[4] == ' ' && !c.yearFollows() { // Mar 14 2026 02:03:04
		return false
	}
	if !c.timeOfDay() {
		return false
	}
	before := *c
	if c.year == math.MinInt && (!c.literal(' ') || !c.yearFollows()) {
		*c = before
	}
	return c.offset()
}

func (c *clock) yearFollows() bool {
	if !c.number(&c.year, 4) || c.rest != "" && c.rest[0] >= '0' && c.rest[0] <= '9' {
		return false
	}
	c.literal(' ')
	return c.year >= 1970
}

func (c *clock) timeOfDay() bool {
	return c.number(&c.hour, 2) && c.literal(':') && c.number(&c.minute, 2) &&
		(!c.literal(':') || c.number(&c.sec, 2)) && c.fraction()
}

func (c *clock) fraction() bool {
	if len(c.rest) < 2 || c.rest[0] != '.' && c.rest[0] != ',' {
		return true
	}
	n := 1
	for scale := 100_000_000; n < len(c.rest) && c.rest[n] >= '0' && c.rest[n] <= '9'; n++ {
		c.nanos += int(c.rest[n]-'0') * scale
		scale /= 10
	}
	if n > 1 {
		c.rest = c.rest[n:]
	}
	return true
}

// offset reads the zone, if there is one.
func (c *clock) offset() bool {
	s := strings.TrimPrefix(c.rest, " ")
	for _, utc := range []string{"Z", "z", "UTC", "GMT"} {
		if rest, ok := strings.CutPrefix(s, utc); ok && (rest == "" || !isLetter(rest[0])) {
			c.rest, c.zone = rest, time.UTC
			return true
		}
	}
	if s == "" || s[0] != '+' && s[0] != '-' {
		if n := len(s); n >= 3 && n <= 5 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
			c.rest = "" // CET: several zones have the name
		}
		return true
	}
	sign := 1
	if s[0] == '-' {
		sign = -1
	}
	o := clock{rest: s[1:]}
	if !o.number(&o.hour, 2) {
		return true
	}
	if colon := o.literal(':'); !o.number(&o.minute, 2) && colon {
		return true
	}
	if o.rest != "" && o.rest[0] >= '0' && o.rest[0] <= '9' || o.hour > 18 || o.minute > 59 {
		return true // it is no offset: "02:03:04 -12345"
	}
	c.rest, c.zone = o.rest, time.FixedZone("", sign*(o.hour*3600+o.minute*60))
	return true
}

// seconds reads n digits as seconds, milliseconds, microseconds or nanoseconds since
// 1970, whichever puts them into our age.
func (c *clock) seconds(n int) bool {
	unit := int64(0)
	switch n {
	case 9, 10:
		unit = 1e9
	case 12, 13:
		unit = 1e6
	case 15, 16:
		unit = 1e3
	case 18, 19:
		unit = 1
	default:
		return false
	}
	whole, err := strconv.ParseInt(c.rest[:n], 10, 64)
	if err != nil || whole > math.MaxInt64/unit {
		return false
	}
	c.rest = c.rest[n:]
	c.fraction()
	c.epoch, c.isEpoch = time.Unix(0, whole*unit+int64(c.nanos)/(1e9/unit)).UTC(), true
	return true
}

func (c *clock) number(to *int, digits int) bool {
	if len(c.rest) < digits || !isDigits(c.rest[:digits]) {
		return false
	}
	n := 0
	for i := range digits {
		n = 10*n + int(c.rest[i]-'0')
	}
	*to, c.rest = n, c.rest[digits:]
	return true
}

func (c *clock) literal(b byte) bool {
	if c.rest == "" || c.rest[0] != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

func (c *clock) oneOf(bytes string) bool {
	return c.rest != "" && strings.IndexByte(bytes, c.rest[0]) >= 0 && c.literal(c.rest[0])
}

func (c *clock) monthName() bool {
	if len(c.rest) < 3 {
		return false
	}
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	i := strings.Index(months, c.rest[:3])
	if i < 0 || i%3 != 0 {
		return false
	}
	c.month, c.rest = i/3+1, c.rest[3:]
	return true
}

// time gives the time that was read. A year that is not in it is the one that
// brings it closest to the arrival.
func (c *clock) time() (t time.Time, ok bool) {
	if c.year != math.MinInt {
		return c.in(c.year)
	}
	for year := c.at.Year() - 1; year <= c.at.Year()+1; year++ {
		if near, valid := c.in(year); valid && (!ok || near.Sub(c.at).Abs() < t.Sub(c.at).Abs()) {
			t, ok = near, true
		}
	}
	return t, ok
}

func (c *clock) in(year int) (t time.Time, ok bool) {
	if c.hour > 23 || c.minute > 59 || c.sec > 60 {
		return t, false
	}
	t = time.Date(year, time.Month(c.month), c.day, c.hour, c.minute, c.sec, c.nanos, c.zone).UTC()
	days := time.Date(year, time.Month(c.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return t, c.month >= 1 && c.month <= 12 && c.day >= 1 && c.day <= days
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
