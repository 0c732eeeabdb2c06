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
	own := regexp.MustCompile(`^(pipe > file|append|S2 alone|idle, Go|killed, wsrelay$|intake/|intake$|wsrelay, s2|outage, wsrelay, s2|latency, wsrelay|wsrelay > logs)`)
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
	found := r.record(record{})
	for _, g := range table {
		for _, w := range g.rows {
			if _, ok := found.median(w.value); !ok && own.MatchString(w.value) && !strings.HasSuffix(w.value, "/drain") { // so few are there at once
				t.Errorf("%s was not measured", w.value)
			}
		}
	}
}

func measured() *record {
	r := newResults()
	r.add("wsrelay, s2", values{"rate": 1.2e6, "cpu": 2}, verdict{}, nil)
	r.add("wsrelay, s2", values{"rate": 1.0e6, "cpu": 2}, verdict{}, nil)
	r.add("wsrelay, s2", values{"rate": 1.1e6, "cpu": 2}, verdict{}, nil)
	r.add("syslog-ng, reliable", values{"rate": 1e5, "cpu": 10}, verdict{}, nil)
	r.add("rsyslog, disk", values{"rate": 9e6, "cpu": 1}, verdict{lost: 3}, nil)
	r.add("shell loop", nil, verdict{}, errMissing)
	r.add("outage, wsrelay, s2", nil, verdict{}, errors.New("ended\nwith many words"))
	r.add("append + fdatasync", values{"100 a second": 0.5}, verdict{}, nil)
	r.add("latency, wsrelay", values{"p50": 1.8}, verdict{}, nil)
	r.add("killed, wsrelay", values{"lines": 100, "lost": 0, "doubled": 0, "unordered": 0, "altered": 0}, verdict{}, nil)
	r.add("killed, rsyslog, disk", values{"lines": 100, "lost": 7, "doubled": 1, "unordered": 2, "altered": 0},
		verdict{}, nil)
	r.add("killed, vector", nil, verdict{}, errors.New("no such file"))
	return r.record(record{
		Machine: `a <machine> & "more"`, Software: "Linux", Command: "make bench", Commit: "abc",
		Date: "2026-01-02",
	})
}

func TestMarkdown_ComparesWithTheBestPeerThatWasRight(t *testing.T) {
	got := measured().markdown()
	for _, want := range []string{
		"Measured with `make bench` on a <machine> & \"more\", Linux, wsrelay abc, 2026-01-02.",
		"| wsrelay, s2 | 1.10 M lines/s | 1.00 M – 1.20 M |  |  |  |\n",
		"| — against the best peer | 1.10 M lines/s | 1.00 M – 1.20 M | 11.00 × | ≥ 4 × | met |\n",
		"| — against the best peer | 2.00 s a million lines | 2.00 – 2.00 | 0.20 × | ≤ 0.3 × | met |\n",
		"1.2 × two bare syncs + 0.3 ms | 1.80 ms | 1.80 – 1.80 | 1.20 × | ≤ 1 × | **missed** |\n",
		"| wsrelay: the worker | 0 | 0 | 0 | 0 | 100 | met |\n",
		"| rsyslog, RELP, disk queue | 7 | 1 | 2 | 0 | 100 |  |\n",
		"| Vector, disk buffer, acknowledged end to end | | | | | | failed: no such file |\n",
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
	d := xml.NewDecoder(bytes.NewReader(measured().plot()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplaced_KeepsTheTextAround(t *testing.T) {
	document := []byte("before\n" + textBegin + "old\n" + textEnd + "after\n")
	for range 2 {
		var err error
		if document, err = replaced(document, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	if want := "before\n" + textBegin + "\nnew\n\n" + textEnd + "after\n"; string(document) != want {
		t.Errorf("got %q, want %q", document, want)
	}
	if _, err := replaced([]byte("no place\n"), "new\n"); err == nil {
		t.Error("a document without a place for the results was written")
	}
}

func TestDocuments_SayWhatTheResultsSay(t *testing.T) {
	want, err := documents("..")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range want {
		got, err := os.ReadFile(filepath.Join("..", path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not say what %s says (%v): run \"go run ./bench -docs\"", path, resultsDir, err)
		}
	}
}

// What is kept is what was measured, of each machine the newest; the table of all
// machines and the sentence have the range.
func TestSaved_KeepsTheNewestRunOfEachMachine(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, resultsDir), 0o700); err != nil {
		t.Fatal(err)
	}
	save := func(machine, date, source string, own float64) {
		r := newResults()
		r.add("wsrelay, s2", values{"rate": own, "cpu": 2}, verdict{}, nil)
		r.add("syslog-ng, reliable", values{"rate": 1e5, "cpu": 8}, verdict{}, nil)
		if err := r.record(record{Machine: machine, Date: date, Source: source}).save(root); err != nil {
			t.Fatal(err)
		}
	}
	save("others' machine", "2026-03-01", "said by others", 3e5)
	save("old machine", "2026-01-01", "", 9e5)
	save("old machine", "2026-01-03", "", 7e5)
	save("new machine", "2026-02-01", "", 5e5)
	all, err := saved(root)
	if err != nil || len(all) != 3 || all[0].Machine != "new machine" || all[1].Date != "2026-01-03" {
		t.Fatalf("got %v, %v", all, err)
	}
	if got := all[0].Values["wsrelay, s2/rate"]; got != (spread{5e5, 5e5, 5e5}) {
		t.Errorf("got %v", got)
	}
	if got, want := compared(all), "| wsrelay, s2, against the best peer | 5.00 × | 7.00 × | **3.00 ×** | ≥ 4 × |\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in:\n%s", want, got)
	}
	if got, want := inShort(all), "On 3 machines, 1 of them measured by others, wsrelay, with S2, took 300 k to 700 k lines a second from a pipe to the receiver's file, synced at both ends: 3 to 7 times"; !strings.Contains(got, want) {
		t.Errorf("no %q in %q", want, got)
	}
}

func TestCases_HaveThePeersThatTheEnvironmentNames(t *testing.T) {
	for _, path := range []string{"", "/opt/vector"} {
		t.Setenv("BENCH_VECTOR", path)
		found := 0
		for _, c := range cases() {
			if c.name == "vector" || c.name == "killed, vector" {
				found++
			}
		}
		if want := map[bool]int{true: 2}[path != ""]; found != want {
			t.Errorf("BENCH_VECTOR=%s: %d cases, want %d", path, found, want)
		}
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
