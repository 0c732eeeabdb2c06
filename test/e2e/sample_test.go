package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// document is what the sample configuration makes of a line.
type document struct {
	Timestamp, Host, Program, PID, Facility, Severity, Message string
	Priority                                                   int
	Fields                                                     map[string]any
}

// runSample starts the sample configuration, and more, with the stand-in.
func runSample(t *testing.T, s *Sandbox, more string, sockets ...string) {
	t.Helper()
	body, err := s.Sample("ws://127.0.0.1:8514/relay")
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, body+more, append(sockets, AccessSocket, LocalSocket)...)
}

func waitDocuments(t *testing.T, s *Sandbox, n int) []document {
	t.Helper()
	var docs []document
	for _, line := range waitLines(t, s, n) {
		var d document
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		docs = append(docs, d)
	}
	return docs
}

func TestSample_PassesSyntaxCheck(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, standIn(t))
	body, err := s.shipped("syslog-ng.conf", nil)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := s.WriteConfig(body)
	if err != nil {
		t.Fatal(err)
	}
	out, err := syntaxOnly(t, conf)
	out = regexp.MustCompile(`^(\[.*\] )?Setting current version as config version.*\n`).ReplaceAllString(out, "") // 4.8 says so of "@version: current"
	if err != nil || out != "" {
		t.Errorf("syslog-ng -s: %v\n%s", err, out)
	}
}

// syslog-ng names the sockets by the beginning of their paths, if they have no
// persist-name(), and does not start where two are alike.
func TestSample_NginxRequestBecomesTypedFields(t *testing.T) {
	need(t, "syslog-ng")
	long := filepath.Join(os.TempDir(), "wsrelay-a-directory-with-a-long-path")
	must(t, os.MkdirAll(long, 0o777))
	t.Cleanup(func() { _ = os.Remove(long) }) // unless another test run uses it, too
	t.Setenv("TMPDIR", long)
	s := newSandbox(t, standIn(t))
	runSample(t, s, "")
	sendAll(t, "unixgram", s.Path(AccessSocket), []string{
		Access.frame(3),
		"<190>Mar 14 09:00:00 nginx: no JSON at all",
	})
	docs := waitDocuments(t, s, 2)
	if got := docs[0]; got.Message != Access.Message(3) || got.Program != "nginx" || got.Facility != "local7" ||
		got.Priority != 190 {
		t.Errorf("got %+v", got)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(Access.Message(3)), &want); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if got := docs[0].Fields[key]; got != value {
			t.Errorf("fields.%s = %#v, want %#v", key, got, value)
		}
	}
	if got := docs[1]; got.Message != "no JSON at all" || got.Fields != nil {
		t.Errorf("a line that is not JSON became %+v", got)
	}
}

func TestSample_FollowsFiles(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, standIn(t))
	if err := os.WriteFile(s.Path(ErrorLog), []byte("2026/03/14 09:00:00 [warn] a buffered body\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	runSample(t, s, "")
	waitDocuments(t, s, 1)
	for _, name := range []string{"supervisord.log", "shop-stdout.log"} {
		if err := os.WriteFile(filepath.Join(s.Path(SupervisorDir), name), []byte("spawned\nstopped\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string][]string{}
	for _, d := range waitDocuments(t, s, 5) {
		got[d.Program] = append(got[d.Program], d.Message)
	}
	for program, want := range map[string]string{
		"nginx-error": "2026/03/14 09:00:00 [warn] a buffered body",
		"supervisord": "spawned,stopped",
		"shop-stdout": "spawned,stopped",
	} {
		if got := strings.Join(got[program], ","); got != want {
			t.Errorf("program %s: got %q, want %q", program, got, want)
		}
	}
}

// The original way: tail follows the log, socat turns \n into \r\n and writes
// it to the socket.
func TestSample_TakesSupervisorThroughSocat(t *testing.T) {
	need(t, "syslog-ng", "socat")
	s := newSandbox(t, standIn(t))
	runSample(t, s, "log { source(s_supervisor_socket); destination(d_wsrelay); flags(flow-control); };\n",
		SupervisorSocket)
	lines := []string{"first", "  indented\tmore  ", "é € \\ \""}
	if err := os.WriteFile(s.Path("supervisord.log"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := "tail -n +1 -F supervisord.log | socat -u - UNIX-CONNECT:" + s.Path(SupervisorSocket) + ",crnl"
	p, err := s.Start("socat", "/bin/sh", "-c", shell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.KillGroup)
	for i, d := range waitDocuments(t, s, len(lines)) {
		if d.Message != lines[i] || d.Program != "supervisord" {
			t.Errorf("got %q of %q, want %q of supervisord", d.Message, d.Program, lines[i])
		}
	}
}
