package cli

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestFor_AFileHasTimes(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, out := range []*os.File{f, w} {
		slog.New(For(out, "wsreceive", slog.LevelInfo)).Info("ready")
	}
	if text, err := os.ReadFile(f.Name()); err != nil || !regexp.MustCompile(`^\d{4}-\S+Z? wsreceive: info: ready\n$`).Match(text) {
		t.Errorf("the file has %q (%v)", text, err)
	}
	b := make([]byte, 100)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "wsreceive: info: ready\n" {
		t.Errorf("the pipe has %q (%v)", b[:n], err)
	}
}

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
		"PRIORITY=4\nSYSLOG_IDENTIFIER=wsrelay\nMESSAGE\n" + "\x66\x00\x00\x00\x00\x00\x00\x00" +
			"wsrelay: warn: disconnected url=ws://r attempts=2\nwsrelay: effect: nothing is lost\nwsrelay: hint: look\n",
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
