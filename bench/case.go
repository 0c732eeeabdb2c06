package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// values is what one run of a case has measured, by name.
type values map[string]float64

// bench is one case. What it measures is called "name/value" afterwards.
type bench struct {
	name  string
	lines int // of the million; the number says how slow it is
	run   func(b *sandbox, n int) (values, verdict, error)
	once  bool // it runs in the first round only
}

// million is how many lines a full run feeds to the fast cases.
const million = 1_000_000

// cases is what is measured, in the order in which each round does it.
func cases() []bench {
	s2, zstd, auto := wsrelay("s2"), wsrelay("zstd"), wsrelay("auto")
	reliable, unreliable := syslogNG(true), syslogNG(false)
	assisted, disk, synced := rsyslog("assisted"), rsyslog("disk"), rsyslog("synced")
	all := []bench{
		{name: "pipe > null", lines: million, run: intoCat("/dev/null")},
		{name: "pipe > file", lines: million, run: intoCat("out")},
		{name: "cat | cat > file", lines: million, run: catToCat},
		{name: "append + fdatasync", lines: 0, run: appendAndSync},
		{name: "S2 alone", lines: million / 5, run: s2Alone},
		{name: "idle, Go", run: idleGo},

		{name: "intake", lines: million, run: intake},
		{name: "syslog-ng > null", lines: million / 2, run: underSyslogNG(null)},
		{name: "syslog-ng > wsrelay, receiver away", lines: million / 2, run: underSyslogNG(alone)},
		{name: "syslog-ng > wsrelay > wsreceive", lines: million / 2, run: underSyslogNG(connected)},

		{name: "wsrelay, s2", lines: million, run: endToEnd(s2)},
		{name: "wsrelay, zstd", lines: million, run: endToEnd(zstd)},
		{name: "wsrelay, auto", lines: million, run: endToEnd(auto)},
		{name: "syslog-ng, reliable", lines: million / 2, run: endToEnd(reliable)},
		{name: "syslog-ng, not reliable", lines: million / 2, run: endToEnd(unreliable)},
		{name: "rsyslog, disk-assisted", lines: million / 2, run: endToEnd(assisted)},
		{name: "rsyslog, disk", lines: million / 5, run: endToEnd(disk)},
		{name: "rsyslog, disk, synced", lines: million / 100, run: endToEnd(synced)},
		{name: "shell loop", lines: million / 4000, run: endToEnd(shell)},

		{name: "outage, wsrelay, s2", lines: million / 2, run: outage(s2)},
		{name: "outage, wsrelay, none", lines: million / 2, run: outage(wsrelay("none"))},
		{name: "outage, wsrelay, zstd, 100 k/s", lines: million / 5, run: pacedOutage(zstd, 100_000)},
		{name: "outage, syslog-ng, reliable", lines: million / 2, run: outage(reliable)},
		{name: "outage, rsyslog, disk", lines: million / 5, run: outage(disk)},
		{name: "intake while draining", lines: million, run: intakeWhileDraining(s2)},

		{name: "latency, wsrelay", lines: million / 2500, run: latency(auto)},
		{name: "latency, syslog-ng, reliable", lines: million / 2500, run: latency(reliable)},
		{name: "latency, rsyslog, disk-assisted", lines: million / 2500, run: latency(assisted)},

		{name: "idle, wsrelay", lines: 0, run: idle(auto)},
		{name: "wsrelay > logs", lines: million / 2, run: intoLogs(auto)},
		{name: "latency, wsrelay > logs", lines: million / 2500, run: latency(auto.into("logs:store", func(b *sandbox) error { return b.stored("store") }))},
		{name: "syslog-ng, http() > VictoriaLogs", lines: million / 4, run: intoVictoriaLogs(viaHTTP, false)},
		{name: "syslog-ng, http() > VictoriaLogs, killed", lines: million / 4, run: intoVictoriaLogs(viaHTTP, true)},
		{name: "wsrelay > VictoriaLogs, killed", lines: million / 4, run: intoVictoriaLogs(viaWsrelay, true)},
	}
	for _, p := range []byPath{fluentBit, vector} {
		all = append(all, bench{name: p.name, lines: million / 2, run: endToEnd(p.chain())})
	}
	all = append(all, killCases()...)
	return slices.DeleteFunc(all, func(c bench) bool {
		name := strings.TrimPrefix(c.name, "killed, ")
		return name == fluentBit.name && !fluentBit.here() || name == vector.name && !vector.here()
	})
}

// checkOut compares what arrived in the file out with the first n lines.
func (b *sandbox) checkOut(n int) (verdict, error) {
	got, err := os.ReadFile(b.path("out"))
	return b.in.check(got, n), err
}

// program is the path of wsrelay or wsreceive.
func (b *sandbox) program(name string) string { return filepath.Join(b.suite.dir, name) }

// mean is lines a second.
func mean(lines int, seconds float64) values { return values{"rate": float64(lines) / seconds} }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func wsURL(port int) string { return fmt.Sprintf("ws://%s/relay", loopback(port)) }
