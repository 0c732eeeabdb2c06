package intake

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/buffer"
)

// sink is a queue that remembers.
type sink struct {
	t          *testing.T
	lines      [][]byte
	unfinished int // of them, pieces that the next line continues
}

func (s *sink) Append(_ context.Context, lines []byte, n int, o buffer.Origin) (buffer.Range, error) {
	var got [][]byte
	for line := range bytes.Lines(lines) {
		got = append(got, bytes.Clone(line))
	}
	if len(got) != n || n > buffer.MaxBlockLines || len(lines) > buffer.MaxBlock && n > 1 ||
		n > 0 && !bytes.HasSuffix(lines, []byte("\n")) {
		s.t.Errorf("%d lines in %d bytes, said to be %d", len(got), len(lines), n)
	}
	s.lines = append(s.lines, got...)
	if o.Unfinished {
		s.unfinished++
	}
	return buffer.Range{}, nil
}

func (s *sink) IntakeEnd(uint64) int64 { return 0 }

func (s *sink) Reserve() {}

// intakeOf gives what the intake makes of an input that comes in these pieces.
func intakeOf(t *testing.T, pieces ...string) [][]byte {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		for _, p := range pieces {
			_, _ = w.WriteString(p)
		}
	}()
	return run(t, r, t.Context()).lines
}

func run(t *testing.T, r *os.File, stop context.Context) *sink {
	t.Helper()
	in, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{t: t}
	if err := in.Run(t.Context(), stop, s, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return s
}

// What the queue has of a line that is too long is known as a piece, whichever program
// reads the queue.
func TestIntake_SaysWhatIsAPieceOfALine(t *testing.T) {
	longest := strings.Repeat("y", buffer.MaxLine)
	for text, want := range map[string]int{
		longest + "\n": 0, longest + "y\n": 1, longest + longest + "y": 2,
		"a\nb": 0,
	} {
		file := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		f, err := os.Open(file)
		must(t, err)
		if got := run(t, f, t.Context()).unfinished; got != want {
			t.Errorf("%d bytes: %d pieces, want %d", len(text), got, want)
		}
		_ = f.Close()
	}
}

func TestIntake_CutsLinesAndKeepsTheirBytes(t *testing.T) {
	long := strings.Repeat("x", buffer.MaxBlock+1)
	longest := strings.Repeat("y", buffer.MaxLine)
	for _, tc := range []struct {
		name string
		in   []string
		want []string
	}{
		{"nothing", nil, nil},
		{"only empty lines", []string{"\n\n", "\n"}, nil},
		{"one line", []string{"a\n"}, []string{"a\n"}},
		{"no newline at the end", []string{"a\nb"}, []string{"a\n", "b\n"}},
		{"empty lines between", []string{"a\n\n\nb\n\n"}, []string{"a\n", "b\n"}},
		{"CR, NUL and bytes that are not UTF-8", []string{"a\r\n\x00\n\xff\xfe\r\n\r\n"}, []string{"a\r\n", "\x00\n", "\xff\xfe\r\n", "\r\n"}},
		{"a line in pieces", []string{"a", "b", "", "c\nd"}, []string{"abc\n", "d\n"}},
		{"a line longer than a block", []string{"a\n" + long + "\nb\n"}, []string{"a\n", long + "\n", "b\n"}},
		{"the longest line", []string{longest + "\nb\n"}, []string{longest + "\n", "b\n"}},
		{"one byte more", []string{longest + "z\nb\n"}, []string{longest + "\n", "z\n", "b\n"}},
		{"much more", []string{"a\n" + longest + longest + longest}, []string{"a\n", longest + "\n", longest + "\n", longest + "\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := intakeOf(t, tc.in...)
			if len(got) != len(tc.want) {
				t.Fatalf("%d lines, want %d", len(got), len(tc.want))
			}
			for k := range got {
				if string(got[k]) != tc.want[k] {
					t.Errorf("line %d: %d bytes %.20q, want %d bytes %.20q", k, len(got[k]), got[k], len(tc.want[k]),
						tc.want[k])
				}
			}
		})
	}
}

func TestIntake_GivesTheSameLinesHoweverTheyCome(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var in strings.Builder
	for range 30000 {
		in.WriteString(strings.Repeat("z", rnd.IntN(30)*rnd.IntN(30)) + "\n")
	}
	var pieces []string
	for s := in.String(); s != ""; {
		n := min(len(s), 1+rnd.IntN(1+rnd.IntN(200000)))
		pieces, s = append(pieces, s[:n]), s[n:]
	}
	var want []byte
	for line := range strings.Lines(in.String()) {
		if line != "\n" {
			want = append(want, line...)
		}
	}
	if got := bytes.Join(intakeOf(t, pieces...), nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
}

func TestIntake_TakesWhatIsThereAndEndsWhenStopped(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	if _, err := w.WriteString("a\nb\npart"); err != nil {
		t.Fatal(err)
	}
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	if got, want := string(bytes.Join(run(t, r, stop).lines, nil)), "a\nb\npart\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
