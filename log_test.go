package main

import (
	"errors"
	"net"
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
	if !strings.HasPrefix(got[0], "<27>wsrelay[") || !strings.HasSuffix(got[0], "wsrelay.log: no such directory\nrecord\n") {
		t.Errorf("got %q", got[0])
	}
	if !strings.HasSuffix(got[perMinute], "a minute later\n") {
		t.Errorf("record %d is %q: more than %d went in a minute", perMinute+1, got[perMinute], perMinute)
	}
}
