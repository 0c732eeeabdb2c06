package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginxConf runs nginx in the sandbox with the shipped log format.
const nginxConf = `
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log;
events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include wsrelay-log.conf;
    server {
        listen unix:%s;
        location / { return 404 "nothing here\n"; }
    }
}
`

func TestNginx_LogsEveryRequestAsJSON(t *testing.T) {
	need(t, "syslog-ng", "nginx")
	s := newSandbox(t, standIn(t))
	if err := os.Chmod(s.Dir, 0o711); err != nil { // nginx's workers drop root
		t.Fatal(err)
	}
	runSample(t, s, "")
	startNginx(t, s)

	requests := []struct{ path, referrer, agent string }{
		{"/plain", "", "curl/8"},
		{"/a?b=c&d=%22e%22", `https://example.com/"quoted"`, "tab\tand back\\slash"},
		{"/é/", "é", "\x01control"},
	}
	for _, r := range requests {
		request(t, s, r.path, r.referrer, r.agent)
	}
	for i, d := range waitDocuments(t, s, len(requests)) {
		want := map[string]any{
			"ip": "unix:", "host": "shop.example", "path": requests[i].path, "status": 404., "length": 13.,
			"referrer": requests[i].referrer, "user_agent": requests[i].agent,
		}
		for key, value := range want {
			if got := d.Fields[key]; got != value && value != "" {
				t.Errorf("%s: fields.%s = %#v, want %#v", requests[i].path, key, got, value)
			}
		}
		if ms, ok := d.Fields["generation_time_milli"].(float64); !ok || ms < 0 || ms > 60_000 {
			t.Errorf("generation_time_milli = %#v", d.Fields["generation_time_milli"])
		}
		date, _ := d.Fields["date"].(string)
		if _, err := time.Parse(time.RFC3339, date); err != nil {
			t.Error(err)
		}
	}
}

// startNginx runs nginx until the test ends.
func startNginx(t *testing.T, s *Sandbox) {
	t.Helper()
	example, err := os.ReadFile(filepath.Join(s.root, "examples/nginx/wsrelay-log.conf"))
	if err != nil {
		t.Fatal(err)
	}
	logConf, err := replaceOnce(string(example), "/run/nginx-access.sock", s.Path(AccessSocket))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"wsrelay-log.conf": logConf,
		"nginx.conf":       fmt.Sprintf(strings.TrimSpace(nginxConf), s.Path("web.sock")),
	} {
		if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.Start("nginx", "nginx", "-p", s.Dir, "-e", "nginx.log", "-c", "nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := p.waitReady(t.Context(), func() bool { return served(s.Path("web.sock")) }); err != nil {
		t.Fatal(err)
	}
}

// request sends a request as it is and waits for the end of the answer.
func request(t *testing.T, s *Sandbox, path, referrer, agent string) {
	t.Helper()
	conn, err := net.Dial("unix", s.Path("web.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: shop.example\r\nReferer: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", path, referrer, agent)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
}
