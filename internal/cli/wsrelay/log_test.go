package wsrelay

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type brokenFile struct{}

func (brokenFile) Write([]byte) (int, error) { return 0, errors.New("no such directory") }

func TestSystemLog_IsNoLoopThroughTheSystemsLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	system, err := net.ListenPacket("unixgram", name)
	if err != nil {
		t.Fatal(err)
	}
	defer system.Close()
	l := &systemLog{file: brokenFile{}, name: "/q/wsrelay.log", socket: name}
	for range 3 * perMinute {
		_, _ = l.Write([]byte("record\n"))
	}
	l.since = l.since.Add(-time.Minute)
	_, _ = l.Write([]byte("a minute later\n"))

	var got []string
	for range perMinute + 1 {
		b := make([]byte, 1000)
		n, _, err := system.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b[:n]))
	}
	if !strings.HasPrefix(got[0], "<27>wsrelay[") || !strings.HasSuffix(got[0],
		"wsrelay.log: no such directory\nrecord\n") {
		t.Errorf("got %q", got[0])
	}
	if !strings.HasSuffix(got[perMinute], "a minute later\n") {
		t.Errorf("record %d is %q: more than %d went in a minute", perMinute+1, got[perMinute], perMinute)
	}
}

// The record after that is for the system's log, too: nobody may look into a log
// that was removed.
func TestLogFile_IsMadeAgainAndSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	l := &logFile{dir: dir, base: "wsrelay.log"}
	write := func(text string, want error) {
		t.Helper()
		if _, err := l.Write([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "wsrelay.log")); err != nil || !strings.HasSuffix(string(b), text) {
			t.Errorf("%q is not in the file: %q, %v", text, b, err)
		}
	}
	write("one\n", nil)
	write("two\n", nil)
	for _, gone := range []string{filepath.Join(dir, "wsrelay.log"), dir} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		write("after\n", errRemoved)
		write("then\n", nil)
	}
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	dir = away // the log goes with the queue
	write("away\n", nil)
}
