package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const supervisordConf = `
[supervisord]
nodaemon=true
logfile=supervisord.log
pidfile=supervisord.pid
[include]
files=wsrelay-log.conf
`

func TestSupervisor_ChildReachesSyslogNGThroughItsFile(t *testing.T) {
	need(t, "syslog-ng", "supervisord")
	s := newSandbox(t, standIn(t))
	runSample(t, s, "")
	startSupervisord(t, s, map[string]string{})
	for _, d := range waitDocuments(t, s, 2) {
		if d.Program != "worker" || !strings.HasPrefix(d.Message, "made by the worker") {
			t.Errorf("got %q of %q, want the worker's lines", d.Message, d.Program)
		}
	}
}

func TestSupervisor_OwnLogReachesSyslogNGThroughSocat(t *testing.T) {
	need(t, "syslog-ng", "supervisord", "socat")
	s := newSandbox(t, standIn(t))
	body := "log { source(s_supervisor_socket); destination(d_wsrelay); flags(flow-control); };\n"
	runSample(t, s, body, SupervisorSocket)
	startSupervisord(t, s, map[string]string{"autostart=false": "autostart=true", "tail -n 0": "tail -n +1"})
	own := false
	for _, d := range waitDocuments(t, s, 4) {
		own = own || d.Program == "supervisord" && strings.Contains(d.Message, "spawned: 'log-to-socket'")
	}
	if !own {
		t.Error("supervisord's own log did not come through the socket")
	}
}

// startSupervisord runs the shipped example, with a worker that prints two
// lines, until the test ends.
func startSupervisord(t *testing.T, s *Sandbox, changes map[string]string) *Process {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(s.root, "examples/supervisor/wsrelay-log.conf"))
	must(t, err)
	changes["/usr/bin/python3 -u /srv/worker.py"] = `/bin/sh -c "echo made by the worker: 1; echo made by the worker: 2; exec sleep 60"`
	changes["/var/log/supervisor/worker.log"] = filepath.Join(s.Path(SupervisorDir), "worker.log")
	changes["/var/log/supervisor/supervisord.log"] = s.Path("supervisord.log")
	changes["/run/supervisor-log.sock"] = s.Path(SupervisorSocket)
	example := string(file)
	for old, with := range changes {
		example, err = replaceOnce(example, old, with)
		must(t, err)
	}
	must(t, os.MkdirAll(s.Path(SupervisorDir), 0o700))
	must(t, os.WriteFile(s.Path("wsrelay-log.conf"), []byte(example), 0o600))
	must(t, os.WriteFile(s.Path("supervisord.conf"), []byte(supervisordConf), 0o600))
	p, err := s.Start("supervisord", "supervisord", "-c", s.Path("supervisord.conf"))
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	return p
}

// The pipeline that starts before syslog-ng has to wait for it with what tail
// has read: a socat that exits takes these lines with it.
func TestSupervisor_SocatWaitsForSyslogNG(t *testing.T) {
	need(t, "syslog-ng", "supervisord", "socat")
	s := newSandbox(t, standIn(t))
	supervisor := startSupervisord(t, s, map[string]string{"autostart=false": "autostart=true"})
	const line = "success: worker entered RUNNING" // said once; log-to-socket may be started again
	waitFor(t, s, "supervisord.log", func(b []byte) bool { return strings.Contains(string(b), line) })
	runSample(t, s, "log { source(s_supervisor_socket); destination(d_wsrelay); flags(flow-control); };\n",
		SupervisorSocket)
	t.Cleanup(func() { must(t, supervisor.Stop()) }) // before syslog-ng, which waits for all
	for _, d := range waitDocuments(t, s, 1) {
		if strings.Contains(d.Message, line) {
			return
		}
	}
	t.Error("what was logged before syslog-ng started did not arrive")
}
