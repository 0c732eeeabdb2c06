package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// lines makes entries of words, and a row of those that are not in arrived.
func lines(program, words, arrived string) (logged []entry, r row) {
	file := "log.1"
	for word := range strings.FieldsSeq(words) {
		if word == "|" {
			file = "log"
			continue
		}
		logged = append(logged, entry{text: word, line: word, file: file})
	}
	var documents []entry
	for word := range strings.FieldsSeq(arrived) {
		documents = append(documents, entry{text: word})
	}
	return logged, compare(program, logged, documents)
}

func blamed(r row) (by []string) {
	for _, l := range r.gone {
		by = append(by, l.by)
	}
	return by
}

func TestStack_OnlyProvedLossesOfThePipeAreExplained(t *testing.T) {
	for name, tt := range map[string]struct {
		logged, arrived, written string // | : a new file, a new socat
		left                     bool
		want                     []string
	}{
		"the end of a connection that broke": {
			"a b c d", "a d", "a b c | d", false,
			[]string{byStream, byStream},
		},
		"a hole in a connection that broke":         {"a b c d", "a c d", "a b c | d", false, []string{""}},
		"the end of a connection that did not":      {"a b c d", "a b c", "a b | c d", false, []string{""}},
		"between one tail and the next":             {"a b c d", "a d", "a | d", false, []string{byTail, byTail}},
		"before the first tail":                     {"a b", "b", "b", false, []string{""}},
		"after the last line of the last tail":      {"a b", "a", "a", false, []string{""}},
		"a hole in what one tail has read":          {"a b c", "a c", "a c", false, []string{""}},
		"the end of a renamed file":                 {"a b | c", "a c", "a c", true, []string{byRename}},
		"the same, but tail does not say so":        {"a b | c", "a c", "a c", false, []string{""}},
		"in a renamed file, but not at its end":     {"a b x | c", "a x c", "a x c", true, []string{""}},
		"nothing, though a line stands there twice": {"a a b", "a a b", "a | a b", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			logged, r := lines("uwsgi", tt.logged, tt.arrived)
			var written [][]string
			for part := range strings.SplitSeq(tt.written, "|") {
				written = append(written, strings.Fields(part))
			}
			explainPipe(&r, logged, written, tt.left)
			if got := blamed(r); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStack_OnlyProvedLossesOfNginxAreExplained(t *testing.T) {
	for name, tt := range map[string]struct {
		logged, arrived, sent, unread, says string
		want                                []string
		unsent                              int
	}{
		"not sent, and nginx says so":         {"a b", "a", "a", "", "b", []string{byNginx}, 0},
		"not sent, and nginx does not say it": {"a b", "a", "a", "", "", []string{""}, 0},
		"sent, and left unread":               {"a b", "a", "a b", "b", "", []string{byUnread}, 0},
		"sent, and gone":                      {"a b", "a", "a b", "", "", []string{""}, 0},
		"sent and gone, though nginx says no": {"a b", "a", "a b", "", "b", []string{""}, 0},
		"one of two, left unread once":        {"a a a", "a", "a a a", "a", "", []string{byUnread, ""}, 0},
		"a trace with a hole":                 {"a b", "a b", "a", "", "", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			logged, r := lines("nginx", tt.logged, tt.arrived)
			same := func(s string) string { return s }
			says := func(e entry) bool { return slices.Contains(strings.Fields(tt.says), e.text) }
			unsent := explainNginx(&r, logged, countBy(strings.Fields(tt.sent), same),
				countBy(strings.Fields(tt.unread), same), says)
			if got := blamed(r); !slices.Equal(got, tt.want) || len(unsent) != tt.unsent {
				t.Errorf("got %q and %q as not sent, want %q and %d", got, unsent, tt.want, tt.unsent)
			}
		})
	}
}

func TestStack_ADelayIsThatOfARequestThatHasArrived(t *testing.T) {
	c := &stack{T: t, probes: map[string]time.Duration{
		"a": time.Second, "b": 3 * time.Second, "dropped": probePatience,
		"late": probePatience,
	}}
	got := c.delays(row{gone: []loss{{entry: entry{text: "dropped"}}}})
	for _, want := range []string{"2 probes: ", "p50 3s", "longest 30s", "1 more not found", "1 lost"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}
