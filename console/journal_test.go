package console

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
)

func TestJournal_GivesEachRecordAsOneEntry(t *testing.T) {
	name := filepath.Join(t.TempDir(), "socket")
	journal, err := net.ListenPacket("unixgram", name)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	log := slog.New(NewJournal(name, "wsrelay", slog.LevelInfo))
	log.Debug("not this one")
	log.With("url", "ws://r").Warn("disconnected", "attempts", 2, Effect, "nothing is lost", Hint, "look")
	log.Error("short")

	for _, want := range []string{
		"PRIORITY=4\nSYSLOG_IDENTIFIER=wsrelay\nMESSAGE\n" + "\x64\x00\x00\x00\x00\x00\x00\x00" +
			"wsrelay: warn: disconnected url=ws://r attempts=2\nwsrelay: logs: nothing is lost\nwsrelay: hint: look\n",
		"PRIORITY=3\nSYSLOG_IDENTIFIER=wsrelay\nMESSAGE\n\x15\x00\x00\x00\x00\x00\x00\x00wsrelay: error: short\n",
	} {
		b := make([]byte, 1000)
		n, _, err := journal.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[:n]); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
