package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Inputs of the shipped sample configuration, as named in the sandbox.
const (
	AccessSocket     = "nginx-access.sock" // datagrams
	ErrorLog         = "nginx-error.log"
	SupervisorSocket = "supervisor.sock" // a stream
	SupervisorDir    = "supervisor"
	LocalSocket      = "log.sock" // datagrams
)

// SyslogNGPath finds syslog-ng, which a normal user's PATH often leaves out.
func SyslogNGPath() (string, error) {
	for _, name := range []string{"syslog-ng", "/usr/sbin/syslog-ng", "/usr/local/sbin/syslog-ng"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("syslog-ng is not installed")
}

// WriteConfig writes body as the sandbox's configuration file and returns its
// path. After the line that includes scl.conf, body gets the websocket() block
// of the checkout, with wsrelay started from where the sandbox has it.
func (s *Sandbox) WriteConfig(body string) (string, error) {
	block, err := s.shipped("websocket/plugin.conf", map[string]string{
		"/usr/bin/wsrelay":           filepath.Join(s.bin, "wsrelay"),
		"/var/lib/syslog-ng/wsrelay": s.Path("un read"),
	})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(s.Path("plugin.conf"), []byte(block), 0o600); err != nil {
		return "", err
	}
	const scl = "@include \"scl.conf\"\n"
	body, err = replaceOnce(body, scl, scl+fmt.Sprintf("@include %q\n", s.Path("plugin.conf")))
	if err != nil {
		return "", err
	}
	conf := s.Path("syslog-ng.conf")
	return conf, os.WriteFile(conf, []byte(body), 0o600)
}

// Sample is the sample configuration as shipped, with nothing changed but
// where its inputs are and which url the destination has. The local syslog is
// a socket of the sandbox instead of the system's.
func (s *Sandbox) Sample(url string) (string, error) {
	return s.shipped("syslog-ng.conf", map[string]string{
		"ws://127.0.0.1:8514/relay":    url,
		"/run/nginx-access.sock":       s.Path(AccessSocket),
		"/var/log/nginx/error.log":     s.Path(ErrorLog),
		"/run/supervisor-log.sock":     s.Path(SupervisorSocket),
		"\"/var/log/supervisor\"":      fmt.Sprintf("%q", s.Path(SupervisorDir)),
		"  system();\n  internal();\n": fmt.Sprintf("  unix-dgram(%q);\n", s.Path(LocalSocket)),
	})
}

// shipped reads a file of syslog-ng/ and replaces parts of it.
func (s *Sandbox) shipped(name string, parts map[string]string) (string, error) {
	file, err := os.ReadFile(filepath.Join(s.root, "syslog-ng", name))
	text := string(file)
	for old, with := range parts {
		if err == nil {
			text, err = replaceOnce(text, old, with)
		}
	}
	if err != nil {
		return "", fmt.Errorf("syslog-ng/%s: %w", name, err)
	}
	return text, nil
}

// replaceOnce insists that there is exactly one old to replace: a sandbox must
// not run a sample with the system's own paths in it.
func replaceOnce(text, old, with string) (string, error) {
	if n := strings.Count(text, old); n != 1 {
		return "", fmt.Errorf("%q is there %d times, want once", old, n)
	}
	return strings.Replace(text, old, with, 1), nil
}

// StartSyslogNG runs syslog-ng on the configuration file and waits until it
// serves the sockets, given by their names in the sandbox. The feeder's file is
// there before: syslog-ng 3.38.1 misses a file that appears in its directory in
// the very moment it starts.
func (s *Sandbox) StartSyslogNG(ctx context.Context, conf string, sockets ...string) (*Process, error) {
	program, err := SyslogNGPath()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Path(SupervisorDir), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.supervisorLog(), nil, 0o600); err != nil {
		return nil, err
	}
	command := slices.Concat(s.under, []string{
		program, "--foreground", "--no-caps", "--cfgfile", conf,
		"--persist-file", s.Path("syslog-ng.persist"), "--control", s.Path("syslog-ng.ctl"), "--pidfile",
		s.Path("syslog-ng.pid"),
	})
	p, err := s.Start("syslog-ng", command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	return p, p.waitReady(ctx, func() bool {
		for _, socket := range sockets {
			if !served(s.Path(socket)) {
				return false
			}
		}
		return true
	})
}

// supervisorLog is the file of the feeder's Supervisor lines. syslog-ng makes
// its name the program.
func (s *Sandbox) supervisorLog() string {
	return filepath.Join(s.Path(SupervisorDir), programs[Supervisor]+".log")
}

// served reports whether a process listens on the Unix socket.
func served(path string) bool {
	for _, network := range []string{"unixgram", "unix"} {
		if c, err := net.Dial(network, path); err == nil {
			c.Close()
			return true
		}
	}
	return false
}

var sentAgain = regexp.MustCompile(`\bsent_again=([0-9]+)`)

// SentAgain is the number of lines that went over the wire more than once.
// wsrelay tells it in its log when it ends.
func (s *Sandbox) SentAgain() (int, error) {
	log, err := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
	if err != nil {
		return 0, err
	}
	found := sentAgain.FindSubmatch(log)
	if found == nil {
		return 0, fmt.Errorf("wsrelay's log does not say sent_again:\n%s", log)
	}
	return strconv.Atoi(string(found[1]))
}
