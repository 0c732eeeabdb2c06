package wsreceive

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"wsrelay/receiver/store/logs"
)

func TestEscapeControls_ShowsWhatATerminalWouldObey(t *testing.T) {
	for line, want := range map[string]string{
		"Größe 東京\tx":         "Größe 東京\tx",
		"evil \x1b[2J":        `evil \x1b[2J`,
		"a\u202eb":            `a\x202eb`,
		"\u009b2J":            `\x9b2J`,
		"\x9b2J is CSI, too":  `\x9b2J is CSI, too`,
		"Stra\xdfe\x1b\xffé�": `Stra\xdfe\x1b\xffé�`,
	} {
		if got := escapeControls(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestSearchURL_GetsAllLinesInOneAnswer(t *testing.T) {
	const n = 1000
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/select/lines" || r.FormValue("query") != "x" || r.FormValue("limit") != "2000" {
			t.Errorf("asked for %s", r.URL)
		}
		for range n {
			_ = json.NewEncoder(w).Encode(logs.Found{UID: "u", Text: []byte("x\xff")})
		}
	}))
	defer s.Close()
	r := &remoteDatabase{base: s.URL}
	got := 0
	err := r.lines(t.Context(), url.Values{"query": {"x"}, "limit": {"2000"}, "follow": {"false"}},
		func(l *logs.Found) error {
			if string(l.Text) == "x\xff" {
				got++
			}
			return nil
		})
	if err != nil || got != n || asked != 1 {
		t.Errorf("%d lines, %d requests, %v; want %d and 1", got, asked, err, n)
	}
}

func TestSearch_SaysThatTheReceiverExited(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Read(make([]byte, 1<<10))
		_ = theirs.Close()
	}()
	d := newLocalDatabase(func(context.Context) (net.Conn, error) { return ours, nil })
	if _, err := d.get(t.Context(), "/lines", nil); err == nil || !strings.Contains(err.Error(), "exited before") {
		t.Errorf("error %v", err)
	}
}
