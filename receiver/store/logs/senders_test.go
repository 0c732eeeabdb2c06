package logs

import (
	"os"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Senders that were not kept before a crash are known from the journal's streams, so
// that a host is not forgotten at the moment at which it may have fallen silent.
func TestSenders_AreMadeGoodFromTheStreams(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	sid := handshake.NewSID()
	commit := func(seq uint64) {
		t.Helper()
		if _, err := s.Commit(t.Context(), []receiver.Batch{{
			SID: sid, Host: "web1", Seq: seq, At: time.Now(),
			Lines: [][]byte{[]byte("a")},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	commit(1)
	old := receiver.Sender{
		SID: sid, Host: "web1", First: time.UnixMilli(1), Seen: time.UnixMilli(1),
		Line: time.UnixMilli(1), Lines: 7, Online: true,
	}
	if err := s.KeepSenders(t.Context(), []receiver.Sender{old}, nil, nil); err != nil {
		t.Fatal(err)
	}
	check := func(lines int64) {
		t.Helper()
		all, err := s.Senders(t.Context())
		if err != nil || len(all) != 1 || all[0].SID != sid || all[0].Host != "web1" ||
			time.Since(all[0].Line) > time.Minute || all[0].Lines != lines || all[0].Online {
			t.Errorf("got %+v, %v", all, err)
		}
	}
	check(7)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	defer s.Close()
	check(7)
	if err := os.Remove(dir + "/" + sendersName); err != nil {
		t.Fatal(err)
	}
	check(0)
	if kept, err := Senders(dir); err != nil || len(kept) != 0 {
		t.Errorf("got %+v, %v", kept, err)
	}
}
