package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"wsrelay/receiver"
)

func TestStore_AStreamHasTheOwnerThatCameFirst(t *testing.T) {
	const sid = "0123456789abcdef"
	path := filepath.Join(t.TempDir(), "db")
	for round := range 2 {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		set := func(from, to, want string) {
			t.Helper()
			if got, err := s.SetOwner(t.Context(), sid, from, to); err != nil || got != want {
				t.Errorf("from %q to %q: got %q, %v; want %q", from, to, got, err, want)
			}
		}
		if round == 0 {
			set("", "web-a", "web-a")
			set("web-b", "web-c", "web-a")
		}
		set("", "web-b", "web-a")
		got := map[string]string{}
		if err := s.EachOwner(t.Context(), func(sid, owner string) bool { got[sid] = owner; return true }); err != nil {
			t.Error(err)
		}
		if len(got) != 1 || got[sid] != "web-a" {
			t.Errorf("got %v", got)
		}
		if round == 1 {
			set("web-a", "web-b", "web-b")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStore_RefusesWhatItCannotNumber(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Commit(t.Context(), []receiver.Batch{{SID: "0123456789abcdef", Seq: 1 << 41, Lines: [][]byte{[]byte("x")}}})
	if refused := (*receiver.RefusedError)(nil); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
}
