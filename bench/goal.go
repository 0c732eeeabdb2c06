package main

// row is a line of the table: a value, or its ratio to another, and what it
// ought to be.
type row struct {
	text    string
	value   string // "case/value"
	unit    unit
	against string // ratio to this value; "": none
	goal    goal   // of the ratio if there is one, else of the value
	beside  bool   // also shown where machines are compared, as all with a goal are
}

// goal is a bound, if it is not 0.
type goal struct{ atLeast, atMost float64 }

// group is rows under a heading.
type group struct {
	heading string
	rows    []row
}

// Derived values: the best of the peers; and what acknowledged lines need at
// least: 1.2 times two syncs in a row of the same pace, and 0.3 ms.
const (
	bestRate = "best peer/rate"
	bestCPU  = "best peer/cpu"
	soonest  = "two syncs/ms"
)

// peers are those that bestRate and bestCPU are found among.
var peers = []string{
	"syslog-ng, reliable", "syslog-ng, not reliable", "rsyslog, disk-assisted", "rsyslog, disk",
	"rsyslog, disk, synced", "fluent-bit", "vector",
}

var table = []group{
	{"Floor: what the machine can do", []row{
		{text: "one write a line into `cat >/dev/null`", value: "pipe > null/rate", unit: rate},
		{text: "one write a line into `cat >file`", value: "pipe > file/rate", unit: rate},
		{text: "`cat file \\| cat >file`", value: "cat | cat > file/rate", unit: rate},
		{text: "append 250 B + fdatasync", value: "append + fdatasync/250 B", unit: milliseconds},
		{text: "append 250 B + fdatasync, 100 a second", value: "append + fdatasync/100 a second", unit: milliseconds},
		{text: "append 64 KiB + fdatasync", value: "append + fdatasync/64 KiB, rate", unit: megabytes},
		{text: "append 1 MiB + fdatasync", value: "append + fdatasync/1 MiB, rate", unit: megabytes},
		{text: "the same, in lines", value: "append + fdatasync/rate", unit: rate},
		{text: "S2 encodes the lines, on one core", value: "S2 alone/encode", unit: rate},
		{text: "S2 encodes and decodes the lines, on one core", value: "S2 alone/rate", unit: rate},
		{text: "two Go processes that do nothing (PSS)", value: "idle, Go/pss", unit: mebibytes},
	}},
	{"Intake: the receiver is away, every line is on disk, synced", []row{
		{text: "one write a line into wsrelay, against `cat >file`", value: "intake/rate", unit: rate, against: "pipe > file/rate", goal: goal{atLeast: 0.95}},
		{text: "syslog-ng into `program(\"cat >/dev/null\")`", value: "syslog-ng > null/rate", unit: rate},
		{text: "syslog-ng into `program(wsrelay)`, against that", value: "syslog-ng > wsrelay, receiver away/rate", unit: rate, against: "syslog-ng > null/rate", goal: goal{atLeast: 0.97}},
		{text: "the same with session and wsreceive on the same cores", value: "syslog-ng > wsrelay > wsreceive/rate", unit: rate, against: "syslog-ng > null/rate"},
	}},
	{"End to end: from a pipe, or a socket, to the receiver's file", []row{
		{text: "wsrelay, s2", value: "wsrelay, s2/rate", unit: rate, beside: true},
		{text: "— against S2 alone, on one core", value: "wsrelay, s2/rate", unit: rate, against: "S2 alone/rate", goal: goal{atLeast: 0.5}},
		{text: "— against the best peer", value: "wsrelay, s2/rate", unit: rate, against: bestRate, goal: goal{atLeast: 4}},
		{text: "— against syslog-ng, reliable", value: "wsrelay, s2/rate", unit: rate, against: "syslog-ng, reliable/rate", goal: goal{atLeast: 9}},
		{text: "wsrelay, zstd", value: "wsrelay, zstd/rate", unit: rate, against: bestRate},
		{text: "wsrelay, auto", value: "wsrelay, auto/rate", unit: rate, against: bestRate, beside: true},
		{text: "syslog-ng, disk-buffer(reliable)", value: "syslog-ng, reliable/rate", unit: rate},
		{text: "syslog-ng, disk-buffer, not reliable", value: "syslog-ng, not reliable/rate", unit: rate},
		{text: "rsyslog, RELP, disk-assisted queue", value: "rsyslog, disk-assisted/rate", unit: rate},
		{text: "rsyslog, RELP, disk queue", value: "rsyslog, disk/rate", unit: rate},
		{text: "rsyslog, RELP, disk queue, syncQueueFiles", value: "rsyslog, disk, synced/rate", unit: rate},
		{text: "Fluent Bit, forward, acknowledged", value: "fluent-bit/rate", unit: rate},
		{text: "Vector, disk buffer, acknowledged end to end", value: "vector/rate", unit: rate},
		{text: "`tail -f \\| while read line; do echo $line \\| socat …; done`", value: "shell loop/rate", unit: rate},
	}},
	{"CPU of both ends", []row{
		{text: "wsrelay, s2", value: "wsrelay, s2/cpu", unit: cpuSeconds, beside: true},
		{text: "— against S2 alone", value: "wsrelay, s2/cpu", unit: cpuSeconds, against: "S2 alone/cpu", goal: goal{atMost: 3}},
		{text: "— against the best peer", value: "wsrelay, s2/cpu", unit: cpuSeconds, against: bestCPU, goal: goal{atMost: 0.3}},
		{text: "— of that, wsrelay", value: "wsrelay, s2/cpu sender", unit: cpuSeconds},
		{text: "— of that, wsreceive", value: "wsrelay, s2/cpu receiver", unit: cpuSeconds},
		{text: "wsrelay, zstd, against the best peer", value: "wsrelay, zstd/cpu", unit: cpuSeconds, against: bestCPU, goal: goal{atMost: 0.8}},
		{text: "wsrelay, auto", value: "wsrelay, auto/cpu", unit: cpuSeconds, against: bestCPU},
		{text: "syslog-ng, reliable", value: "syslog-ng, reliable/cpu", unit: cpuSeconds},
		{text: "syslog-ng, not reliable", value: "syslog-ng, not reliable/cpu", unit: cpuSeconds},
		{text: "rsyslog, disk-assisted", value: "rsyslog, disk-assisted/cpu", unit: cpuSeconds},
		{text: "rsyslog, disk", value: "rsyslog, disk/cpu", unit: cpuSeconds},
		{text: "rsyslog, disk, synced", value: "rsyslog, disk, synced/cpu", unit: cpuSeconds},
		{text: "Fluent Bit", value: "fluent-bit/cpu", unit: cpuSeconds},
		{text: "Vector", value: "vector/cpu", unit: cpuSeconds},
	}},
	{"Memory of the sender: peak RSS under full load", []row{
		{text: "wsrelay, s2: keeper and worker", value: "wsrelay, s2/rss", unit: mebibytes, goal: goal{atMost: 40}},
		{text: "wsrelay, zstd: keeper and worker", value: "wsrelay, zstd/rss", unit: mebibytes, goal: goal{atMost: 40}},
		{text: "wsrelay, auto: keeper and worker", value: "wsrelay, auto/rss", unit: mebibytes, goal: goal{atMost: 40}},
		{text: "syslog-ng, reliable", value: "syslog-ng, reliable/rss", unit: mebibytes},
		{text: "rsyslog, disk-assisted", value: "rsyslog, disk-assisted/rss", unit: mebibytes},
		{text: "Fluent Bit", value: "fluent-bit/rss", unit: mebibytes},
		{text: "Vector", value: "vector/rss", unit: mebibytes},
	}},
	{"Outage: lines taken without a receiver, and delivered when it is back", []row{
		{text: "wsrelay, s2: taken, synced, against S2 encoding them, on one core", value: "outage, wsrelay, s2/accept", unit: rate, against: "S2 alone/encode", goal: goal{atLeast: 0.5}},
		{text: "wsrelay, uncompressed: taken, synced, against append 1 MiB + fdatasync", value: "outage, wsrelay, none/accept", unit: rate, against: "append + fdatasync/rate", goal: goal{atLeast: 0.5}},
		{text: "syslog-ng, reliable: taken", value: "outage, syslog-ng, reliable/accept", unit: rate},
		{text: "rsyslog, disk: taken", value: "outage, rsyslog, disk/accept", unit: rate},
		{text: "wsrelay, zstd, 100 k lines/s", value: "outage, wsrelay, zstd, 100 k/s/disk", unit: bytesALine, goal: goal{atMost: 60}},
		{text: "wsrelay, s2", value: "outage, wsrelay, s2/disk", unit: bytesALine},
		{text: "syslog-ng, reliable", value: "outage, syslog-ng, reliable/disk", unit: bytesALine},
		{text: "rsyslog, disk", value: "outage, rsyslog, disk/disk", unit: bytesALine},
		{text: "wsrelay, s2: delivered, against end to end", value: "outage, wsrelay, s2/drain", unit: rate, against: "wsrelay, s2/rate", goal: goal{atLeast: 1}},
		{text: "wsrelay, zstd: delivered", value: "outage, wsrelay, zstd, 100 k/s/drain", unit: rate},
		{text: "syslog-ng, reliable: delivered", value: "outage, syslog-ng, reliable/drain", unit: rate},
		{text: "rsyslog, disk: delivered", value: "outage, rsyslog, disk/drain", unit: rate},
		{text: "writing to wsrelay while it delivers, against the receiver being away", value: "intake while draining/rate", unit: rate, against: "intake/write", goal: goal{atLeast: 0.75}},
	}},
	{"Latency at 100 lines/s: written until it is safe at the receiver", []row{
		{text: "wsrelay, p50 (synced at both ends, receipt included), against 1.2 × two bare syncs + 0.3 ms", value: "latency, wsrelay/p50", unit: milliseconds, against: soonest, goal: goal{atMost: 1}},
		{text: "wsrelay, p99", value: "latency, wsrelay/p99", unit: milliseconds, beside: true},
		{text: "— against its p50", value: "latency, wsrelay/p99", unit: milliseconds, against: "latency, wsrelay/p50", goal: goal{atMost: 3}},
		{text: "syslog-ng, reliable, p50 (in the file, not synced)", value: "latency, syslog-ng, reliable/p50", unit: milliseconds},
		{text: "syslog-ng, reliable, p99", value: "latency, syslog-ng, reliable/p99", unit: milliseconds},
		{text: "rsyslog, disk-assisted, p50 (in the file, not synced)", value: "latency, rsyslog, disk-assisted/p50", unit: milliseconds},
		{text: "rsyslog, disk-assisted, p99", value: "latency, rsyslog, disk-assisted/p99", unit: milliseconds},
	}},
	{"Idle, with an open connection", []row{
		{text: "RSS of keeper and worker", value: "idle, wsrelay/rss", unit: mebibytes},
		{text: "PSS: the program's own pages, which both map, counted once", value: "idle, wsrelay/pss", unit: mebibytes, goal: goal{atMost: 12}},
		{text: "— against two Go processes that do nothing", value: "idle, wsrelay/pss", unit: mebibytes, against: "idle, Go/pss"},
		{text: "CPU in 20 s", value: "idle, wsrelay/cpu", unit: milliseconds, goal: goal{atMost: 10}},
	}},
	{"The embedded store", []row{
		{text: "wsrelay to `logs:`, against syslog-ng's http() to a VictoriaLogs server", value: "wsrelay > logs/rate", unit: rate, against: "syslog-ng, http() > VictoriaLogs/rate", goal: goal{atLeast: 1}},
		{text: "written until it is final in `logs:`, p50, against `file:`", value: "latency, wsrelay > logs/p50", unit: milliseconds, against: "latency, wsrelay/p50", goal: goal{atMost: 1}},
	}},
	{"A VictoriaLogs server", []row{
		{text: "syslog-ng, http()", value: "syslog-ng, http() > VictoriaLogs/rate", unit: rate},
		{text: "the same, the server killed once with kill -9", value: "syslog-ng, http() > VictoriaLogs, killed/rate", unit: rate},
		{text: "wsrelay and wsreceive, the server killed once; until what it lost is there again", value: "wsrelay > VictoriaLogs, killed/rate", unit: rate},
	}},
}
