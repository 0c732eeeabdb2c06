package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// values is what one run of a case has measured, by name.
type values map[string]float64

// bench is one case. What it measures is called "name/value" afterwards.
type bench struct {
	name  string
	lines int // of the million; the number says how slow it is
	run   func(b *sandbox, n int) (values, verdict, error)
}

// million is how many lines a full run feeds to the fast cases.
const million = 1_000_000

// cases is what is measured, in the order in which each round does it.
func cases() []bench {
	s2, zstd, auto := wsrelay("s2"), wsrelay("zstd"), wsrelay("auto")
	reliable, unreliable := syslogNG(true), syslogNG(false)
	assisted, disk, synced := rsyslog("assisted"), rsyslog("disk"), rsyslog("synced")
	return []bench{
		{"pipe > null", million, intoCat("/dev/null")},
		{"pipe > file", million, intoCat("out")},
		{"cat | cat > file", million, catToCat},
		{"append + fdatasync", 0, appendAndSync},

		{"intake", million, intake},
		{"syslog-ng > null", million / 2, underSyslogNG(null)},
		{"syslog-ng > wsrelay, receiver away", million / 2, underSyslogNG(alone)},
		{"syslog-ng > wsrelay > wsreceive", million / 2, underSyslogNG(connected)},

		{"wsrelay, s2", million, endToEnd(s2)},
		{"wsrelay, zstd", million, endToEnd(zstd)},
		{"wsrelay, auto", million, endToEnd(auto)},
		{"syslog-ng, reliable", million / 2, endToEnd(reliable)},
		{"syslog-ng, not reliable", million / 2, endToEnd(unreliable)},
		{"rsyslog, disk-assisted", million / 2, endToEnd(assisted)},
		{"rsyslog, disk", million / 5, endToEnd(disk)},
		{"rsyslog, disk, synced", million / 100, endToEnd(synced)},
		{"shell loop", million / 4000, endToEnd(shell)},

		{"outage, wsrelay, s2", million / 2, outage(s2)},
		{"outage, wsrelay, none", million / 2, outage(wsrelay("none"))},
		{"outage, wsrelay, zstd, 100 k/s", million / 5, pacedOutage(zstd, 100_000)},
		{"outage, syslog-ng, reliable", million / 2, outage(reliable)},
		{"outage, rsyslog, disk", million / 5, outage(disk)},
		{"intake while draining", million, intakeWhileDraining(s2)},

		{"latency, wsrelay", million / 2500, latency(auto)},
		{"latency, syslog-ng, reliable", million / 2500, latency(reliable)},
		{"latency, rsyslog, disk-assisted", million / 2500, latency(assisted)},

		{"idle, wsrelay", 0, idle(auto)},
		{"wsrelay > logs", million / 2, intoLogs(auto)},
		{"latency, wsrelay > logs", million / 2500, latency(auto.into("logs:store", func(b *sandbox) error { return b.stored("store") }))},
		{"syslog-ng, http() > VictoriaLogs", million / 4, intoVictoriaLogs(viaHTTP, false)},
		{"syslog-ng, http() > VictoriaLogs, killed", million / 4, intoVictoriaLogs(viaHTTP, true)},
		{"wsrelay > VictoriaLogs, killed", million / 4, intoVictoriaLogs(viaWsrelay, true)},
	}
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
