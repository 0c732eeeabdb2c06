package main

import "testing"

func TestHarmless_ShowsWhatATerminalWouldObey(t *testing.T) {
	for line, want := range map[string]string{
		"Größe 東京\tx":         "Größe 東京\tx",
		"evil \x1b[2J":        `evil \x1b[2J`,
		"a\u202eb":            `a\x202eb`,
		"\u009b2J":            `\x9b2J`,
		"\x9b2J is CSI, too":  `\x9b2J is CSI, too`,
		"Stra\xdfe\x1b\xffé�": `Stra\xdfe\x1b\xffé�`,
	} {
		if got := harmless(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
