package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func testInput(t *testing.T, n int) *input {
	t.Helper()
	in, err := newInput(filepath.Join(t.TempDir(), "input"), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.close() })
	return in
}

func TestCheck_NamesWhatIsWrong(t *testing.T) {
	in := testInput(t, 4)
	line := func(k int) string { return string(in.lines(k, k+1)) }
	for _, tt := range []struct {
		name, got string
		want      verdict
	}{
		{"all there", line(0) + line(1) + line(2) + line(3), verdict{}},
		{"nothing there", "", verdict{lost: 4}},
		{"lost", line(0) + line(1) + line(3), verdict{lost: 1}},
		{"doubled", line(0) + line(1) + line(1) + line(2) + line(3), verdict{doubled: 1}},
		{"out of order", line(1) + line(0) + line(2) + line(3), verdict{unordered: 1}},
		{"altered", line(0) + strings.Replace(line(1), "path", "PATH", 1) + line(2) + line(3), verdict{altered: 1}},
		{"made up", line(0) + line(1) + "hello\n" + line(2) + line(3), verdict{altered: 1}},
		{"cut off", line(0) + line(1) + line(2) + strings.TrimSuffix(line(3), "\n"), verdict{altered: 1}},
	} {
		if got := in.check([]byte(tt.got), 4); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestInput_IsNumberedAndTheSameEachTime(t *testing.T) {
	const n = 2000
	a, b := testInput(t, n), testInput(t, n)
	if !bytes.Equal(a.data, b.data) {
		t.Error("two inputs differ")
	}
	for k := range n {
		if got := number(a.lines(k, k+1)); got != k {
			t.Fatalf("line %d has the number %d", k, got)
		}
	}
	if mean := len(a.data) / n; mean < 260 || mean > 300 {
		t.Errorf("a line has %d bytes, want about 277", mean)
	}
}

// Some cases that need nothing but this checkout, with few lines: what they
// carry is complete, and their rows are filled.
func TestCases_MeasureWhatTheTableShows(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	own := regexp.MustCompile(`^(pipe > file|intake/|intake$|wsrelay, s2|outage, wsrelay, s2|latency, wsrelay|wsrelay > logs)`)
	o := &options{share: 0.02, rounds: 1, idle: time.Millisecond, only: own}
	b, err := makeBed(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	r, err := b.rounds(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range r.failed {
		t.Errorf("%s: %v", name, err)
	}
	for name, v := range r.wrong {
		t.Errorf("%s: %v", name, v)
	}
	for _, g := range table {
		for _, w := range g.rows {
			if _, ok := r.median(w.value); !ok && own.MatchString(w.value) && !strings.HasSuffix(w.value, "/drain") { // so few are there at once
				t.Errorf("%s was not measured", w.value)
			}
		}
	}
}

func measured() *results {
	r := newResults()
	r.add("wsrelay, s2", values{"rate": 1.2e6, "cpu": 2}, verdict{}, nil)
	r.add("wsrelay, s2", values{"rate": 1.0e6, "cpu": 2}, verdict{}, nil)
	r.add("wsrelay, s2", values{"rate": 1.1e6, "cpu": 2}, verdict{}, nil)
	r.add("syslog-ng, reliable", values{"rate": 1e5, "cpu": 10}, verdict{}, nil)
	r.add("rsyslog, disk", values{"rate": 9e6, "cpu": 1}, verdict{lost: 3}, nil)
	r.add("shell loop", nil, verdict{}, errMissing)
	r.add("outage, wsrelay, s2", nil, verdict{}, errors.New("ended\nwith many words"))
	return r
}

func TestMarkdown_ComparesWithTheBestPeerThatWasRight(t *testing.T) {
	got := measured().markdown("a machine", "make bench")
	for _, want := range []string{
		"Measured with `make bench` on a machine.",
		"| wsrelay, s2 | 1.10 M lines/s | 1.00 M – 1.20 M |  | ≥ 1 M | met |\n",
		"| — against the best peer | 1.10 M lines/s | 1.00 M – 1.20 M | 11.00 × | ≥ 4 × | met |\n",
		"| wsrelay, s2 | 2.00 s a million lines | 2.00 – 2.00 |  | ≤ 1.60 | **missed** |\n",
		"| 9.00 M – 9.00 M |  |  | WRONG: 3 lost |\n",
		"|  |  |  |  | not here |\n",
		"| failed: ended |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no %q:\n%s", want, got)
		}
	}
}

func TestPlot_IsXML(t *testing.T) {
	d := xml.NewDecoder(bytes.NewReader(measured().plot(`a <machine> & "more"`)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplaceTable_KeepsTheTextAround(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + tableBegin + "old\n" + tableEnd + "after\n")
	for range 2 {
		if err := replaceTable(path, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + tableBegin + "\nnew\n\n" + tableEnd + "after\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	write("no place\n")
	if err := replaceTable(path, "new\n"); err == nil {
		t.Error("a document without a place for the table was written")
	}
}

func TestRounds_EndWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &suite{dir: t.TempDir(), in: testInput(t, 10)}
	cancel()
	if _, err := b.rounds(ctx, &options{share: 0, rounds: 1, only: regexp.MustCompile("^cat")}); err == nil {
		t.Error("got no error of an interrupted run")
	}
}
