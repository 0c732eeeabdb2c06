package row

import (
	"strconv"
	"strings"
)

// levels are the values of the field level by what programs write, in lower case.
var levels = map[string]string{
	"emerg": "emerg", "emergency": "emerg",
	"alert": "alert",
	"crit":  "crit", "critical": "crit", "fatal": "crit", "panic": "crit", "dpanic": "crit", "fault": "crit",
	"err": "error", "error": "error", "severe": "error",
	"warn": "warn", "warning": "warn",
	"notice": "notice",
	"info":   "info", "information": "info", "informational": "info", "log": "info", "default": "info",
	"debug": "debug", "dbug": "debug", "fine": "debug", "config": "debug", "verbose": "debug",
	"debug1": "debug", "debug2": "debug", "debug3": "debug", "debug4": "debug", "debug5": "debug",
	"trace": "trace", "finer": "trace", "finest": "trace",
}

// syslogLevels are the levels by their number in syslog.
var syslogLevels = []string{"emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"}

// letters are levels by the letter that MongoDB, Android and klog write.
var letters = map[byte]string{'F': "crit", 'E': "error", 'W': "warn", 'I': "info", 'D': "debug", 'V': "trace"}

// levelOf gives the level that the value of the field name tells, "" if none.
func levelOf(name, value string) string {
	if value == "" || len(value) > len("informational")+4 {
		return ""
	}
	if isDigits(value) {
		n, err := strconv.Atoi(value)
		if err != nil {
			return ""
		}
		return numericLevel(name, n)
	}
	if len(value) == 1 || name == "s" && len(value) == 2 && value[0] == 'D' {
		return letters[value[0]]
	}
	if name == "s" {
		return ""
	}
	return levelNamed(strings.Trim(value, "[]<>: "))
}

func numericLevel(name string, n int) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case strings.EqualFold(last, "severity_number") || strings.EqualFold(last, "severitynumber"): // OpenTelemetry
		if n >= 1 && n <= 24 {
			return []string{"trace", "debug", "info", "warn", "error", "crit"}[(n-1)/4]
		}
	case last == "priority" || last == "pri": // facility and severity
		if n < 192 {
			return syslogLevels[n&7]
		}
	case n < len(syslogLevels):
		return syslogLevels[n]
	case n <= 60 && n%10 == 0 && (last == "levelno" || last == "levelnum"): // Python
		return [...]string{"", "debug", "info", "warn", "error", "crit", "crit"}[n/10]
	case n <= 60 && n%10 == 0: // pino, bunyan
		return [...]string{"", "trace", "debug", "info", "warn", "error", "crit"}[n/10]
	}
	return ""
}

// wordsForLevel is how many words at the start of a text may be its level.
const wordsForLevel = 8

// levelInText gives the level that a text names at its start: in capitals, or in
// any case in brackets, or before a colon as its first word.
func levelInText(s string) string {
	s = s[:min(len(s), 200)]
	for n := range wordsForLevel {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return ""
		}
		word := s
		if i := strings.IndexAny(s, " \t"); i >= 0 {
			word = s[:i]
		}
		s = s[len(word):]
		if level := levelWord(word, n == 0); level != "" {
			return level
		}
	}
	return ""
}

// wordsAlso are names of levels that stand in texts for other things.
var wordsAlso = map[string]bool{"LOG": true, "DEFAULT": true, "CONFIG": true, "FINE": true, "FAULT": true}

func levelWord(word string, first bool) string {
	inner := strings.Trim(word, "[]<>()|:,-*")
	if len(inner) < 3 || len(inner) > len("informational") {
		if i := strings.IndexByte(word, ':'); i >= 3 { // ERROR:root:text
			inner = word[:i]
		} else {
			return ""
		}
	} else if i := strings.IndexAny(inner, ":]"); i >= 3 {
		inner = inner[:i]
	}
	marked := word[0] == '[' || word[0] == '<' || word[0] == '(' || first && word[len(word)-1] == ':'
	if !marked && (strings.IndexFunc(inner, isLower) >= 0 || word[len(word)-1] != ':' && wordsAlso[inner]) {
		return ""
	}
	return levelNamed(inner)
}

func isLower(r rune) bool { return r >= 'a' && r <= 'z' }

// levelNamed looks a name up in levels.
func levelNamed(name string) string {
	var lower [len("informational")]byte
	if len(name) > len(lower) {
		return ""
	}
	for i := range len(name) {
		lower[i] = name[i]
		if c := name[i]; c >= 'A' && c <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	return levels[string(lower[:len(name)])]
}
