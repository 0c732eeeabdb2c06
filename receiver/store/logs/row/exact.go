package row

import (
	"math"
	"strconv"
	"strings"
)

// The library keeps the values of a field as numbers, IPv4 addresses or times if all
// values of a block look like it, and writes them back in one form: 0.120 comes back
// as 0.12, 0.3 as 0.30000000000000004, 1_000 as 1000. What this file says of its forms was
// read in lib/logstorage/values_encoder.go; a test compares it with the library.

// decimals is the number of decimals that the skeleton keeps for a value, or 0: of
// values that the library does not return as they are, and of those with as many
// as clocks have, so that the lines of one program share a skeleton.
func decimals(b []byte) int {
	s := text(b)
	whole, fraction, ok := splitDecimal(s)
	if !ok || len(fraction) > maxDecimals {
		return 0
	}
	n := len(fraction)
	clocks := n == 3 || n == 6 || n == 9
	if clocks && len(whole)+n <= 15 { // a float64 has more digits
		return n
	}
	library := libraryFloat(whole, fraction)
	if toDecimals(library, n) != s || !clocks && library == s {
		return 0
	}
	return n
}

// splitDecimal takes a number with a point apart, if it is one that the library would
// keep as a number.
func splitDecimal(s string) (whole, fraction string, ok bool) {
	if len(s) < 3 || len(s) > 26 {
		return "", "", false
	}
	point := strings.IndexByte(s, '.')
	if point <= 0 || point == len(s)-1 {
		return "", "", false
	}
	whole, fraction = s[:point], s[point+1:]
	digits := strings.TrimPrefix(whole, "-")
	if digits == "" || len(digits) > 1 && digits[0] == '0' || !isDigits(digits) || !isDigits(fraction) {
		return "", "", false
	}
	return whole, fraction, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// libraryFloat is what the library makes of a number with a point.
func libraryFloat(whole, fraction string) string {
	w, err := strconv.ParseUint(strings.TrimPrefix(whole, "-"), 10, 64)
	if err != nil {
		return whole + "." + fraction // it stays text
	}
	n, err := strconv.ParseUint(fraction, 10, 64)
	if err != nil {
		return whole + "." + fraction
	}
	f := math.FMA(float64(n), math.Pow10(-len(fraction)), float64(w))
	if whole[0] == '-' {
		f = -f
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// toDecimals writes a number of the library's with n decimals.
func toDecimals(s string, n int) string {
	if point := strings.IndexByte(s, '.'); point >= 0 && len(s)-point-1 == n {
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return strconv.FormatFloat(f, 'f', n, 64)
}

// keeps reports whether the library gives a value back as it is.
func keeps(s string) bool {
	if s == "" || (s[0] < '0' || s[0] > '9') && s[0] != '-' || len(s) > 26 {
		return true
	}
	switch strings.Count(s, ".") {
	case 1:
		whole, fraction, ok := splitDecimal(s)
		if ok {
			return libraryFloat(whole, fraction) == s
		}
	case 3:
		return keepsAddress(s)
	}
	if len(s) == len(isoMillis) && s[4] == '-' && s[13] == ':' && s[19] == '.' && s[23] == 'Z' {
		c := clock{rest: s}
		if !c.digits() || s[10] != 'T' || c.rest != "" || c.sec > 59 {
			return false
		}
		_, ok := c.in(c.year)
		return ok
	}
	if s[0] == '-' && strings.Trim(s[1:], "0_") == "" {
		return false
	}
	return !strings.Contains(s, "_") || strings.Trim(s, "-._0123456789") != ""
}

const isoMillis = "2006-01-02T15:04:05.000Z"

func keepsAddress(s string) bool {
	kept := true
	for octet := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(octet, 10, 8)
		switch {
		case len(octet) == 2 && octet[0] >= '0' && octet[0] <= '9' && err != nil:
			kept = false // the library looks only at the first of two digits
		case err != nil || len(octet) > 3:
			return true // it stays text
		case strconv.FormatUint(n, 10) != octet:
			kept = false
		}
	}
	return kept
}
