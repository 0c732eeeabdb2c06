package stdout

import (
	"errors"
	"strings"
	"testing"

	"wsrelay/receiver"
)

func linesBatch(seq uint64, lines ...string) receiver.Batch {
	b := receiver.Batch{SID: "0123456789abcdef", Host: "web1", Seq: seq}
	for _, l := range lines {
		b.Lines = append(b.Lines, []byte(l))
	}
	return b
}

func TestStdout_WritesLinesAgain(t *testing.T) {
	var b strings.Builder
	s := New(&b)
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(1, "one", "two")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(2, "two")}); err != nil {
		t.Fatal(err)
	}
	if b.String() != "one\ntwo\ntwo\n" {
		t.Errorf("got %q", b.String())
	}
}

// flaky fails its first write.
type flaky struct {
	strings.Builder
	failed bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if !f.failed {
		f.failed = true
		return 0, errors.New("full")
	}
	return f.Builder.Write(p)
}

func TestStdout_WritesAfterAnError(t *testing.T) {
	var w flaky
	s := New(&w)
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(1, "one")}); err == nil {
		t.Error("no error")
	}
	if _, err := s.Commit(t.Context(), []receiver.Batch{linesBatch(1, "one")}); err != nil {
		t.Fatal(err)
	}
	if w.String() != "one\n" {
		t.Errorf("got %q", w.String())
	}
}
