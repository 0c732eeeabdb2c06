package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// errMissing says that a peer cannot be had here.
var errMissing = errors.New("not here")

const (
	rsyslogSender = `global(workDirectory="%s")
		main_queue(queue.type="Direct") # else lines wait there, in memory
		module(load="imptcp") module(load="omrelp")
		template(name="raw" type="string" string="%%rawmsg%%")
		input(type="imptcp" path="%s" ruleset="ship")
		ruleset(name="ship") { action(type="omrelp" target="127.0.0.1" port="%d" windowSize="2000" template="raw"
			action.resumeRetryCount="-1" action.resumeInterval="1" queue.filename="queue" queue.dequeueBatchSize="2000" %s) }`
	rsyslogReceiver = `global(workDirectory="%s")
		module(load="imrelp")
		template(name="raw" type="string" string="%%rawmsg%%\n")
		input(type="imrelp" port="%d" address="127.0.0.1" ruleset="store")
		ruleset(name="store") { action(type="omfile" file="%s" template="raw" ioBufferSize="256k") }`
)

var rsyslogQueues = map[string]string{
	"assisted": `queue.type="LinkedList" queue.size="100000" queue.maxFileSize="64m" queue.checkpointInterval="1000"`,
	"disk":     `queue.type="Disk" queue.size="100000000" queue.maxFileSize="64m" queue.checkpointInterval="1000"`,
	"synced":   `queue.type="Disk" queue.size="100000000" queue.maxFileSize="64m" queue.syncQueueFiles="on" queue.checkpointInterval="1000"`,
}

// rsyslog is a chain of two rsyslogs over RELP, which has receipts; the window
// is larger than by default, without which it is far slower.
func rsyslog(queue string) chain {
	return chain{
		queue: "work",
		send: func(b *sandbox, port int) (*sender, error) {
			return b.socketSender(b.startRsyslog("work", fmt.Sprintf(rsyslogSender, b.path("work"), b.path("in.sock"),
				port, rsyslogQueues[queue])))
		},
		receive: func(b *sandbox, port int) (*process, error) {
			p, err := b.startRsyslog("receiver", fmt.Sprintf(rsyslogReceiver, b.path("receiver"), port, b.path("out")))
			if err != nil {
				return nil, err
			}
			return p, b.awaitPort(p, port)
		},
	}
}

func (b *sandbox) startRsyslog(work, conf string) (*process, error) {
	if b.rsyslog() == "" {
		return nil, fmt.Errorf("%w: rsyslog cannot be downloaded with apt-get", errMissing)
	}
	if err := os.MkdirAll(b.path(work), 0o700); err != nil {
		return nil, err
	}
	path, err := b.write(work+".conf", conf)
	if err != nil {
		return nil, err
	}
	return b.startCommand(b.rsyslogCommand("-n", "-f", path, "-i", b.path(work+".pid")))
}

// rsyslogCommand runs rsyslogd with the libraries and modules beside it.
func (b *suite) rsyslogCommand(args ...string) *exec.Cmd {
	library, _ := filepath.Glob(filepath.Join(b.rsyslog(), "usr/lib/*/rsyslog"))
	modules := strings.Join(library, ":")
	c := exec.Command(filepath.Join(b.rsyslog(), "usr/sbin/rsyslogd"), append([]string{"-M", modules}, args...)...)
	c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Dir(modules))
	return c
}

// unpackRsyslog gets Debian's rsyslog into dir, beside the system's packages:
// installed it would take the place of syslog-ng. "" if that is not possible.
func unpackRsyslog(ctx context.Context, dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "usr/sbin/rsyslogd")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return ""
	}
	c := exec.CommandContext(ctx, "/bin/sh", "-ec", `
		apt-get -qq download rsyslog rsyslog-relp librelp0 libestr0 libfastjson4 libyaml-0-2 2>&1
		for deb in *.deb; do dpkg -x "$deb" .; rm "$deb"; done`)
	c.Dir = dir
	if c.Run() != nil {
		return ""
	}
	return dir
}
