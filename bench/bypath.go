package main

import (
	"os"
	"strconv"
	"strings"
)

// byPath is a peer that no package brings: its program is where the environment says,
// and reads a file, from which nothing is lost when it is killed. In its configurations
// DIR and PORT stand for those of the run.
type byPath struct{ name, variable, option, ending, sender, receiver string }

// fluentBit is a chain of two Fluent Bits: each chunk is on disk, synced, and the
// second acknowledges it. One worker keeps the order.
var fluentBit = byPath{
	"fluent-bit", "BENCH_FLUENT_BIT", "-c", ".conf",
	fluentBitService + `[INPUT]
    Name tail
    Path DIR/in
    DB DIR/in.db
    DB.sync full
    Read_from_Head On
    Refresh_Interval 1
    Buffer_Chunk_Size 256k
    Buffer_Max_Size 1M
    storage.type filesystem
[OUTPUT]
    Name forward
    Match *
    Host 127.0.0.1
    Port PORT
    Require_ack_response True
    Retry_Limit no_limits
    Workers 1
`,
	fluentBitService + `[INPUT]
    Name forward
    Listen 127.0.0.1
    Port PORT
    storage.type filesystem
[OUTPUT]
    Name file
    Match *
    Path DIR
    File out
    Format template
    Template {log}
    Retry_Limit no_limits
    Workers 1
`,
}

const fluentBitService = `[SERVICE]
    Flush 0.2
    Log_Level warn
    scheduler.base 1
    scheduler.cap 2
    storage.path DIR/END
    storage.sync full
    storage.backlog.mem_limit 64M
`

// vector is a chain of two Vectors, the first with a disk buffer; the second
// acknowledges what it has written to its file. One request at a time keeps the order.
var vector = byPath{
	"vector", "BENCH_VECTOR", "--config", ".yaml",
	`data_dir: DIR/END
sources:
  in:
    type: file
    include: [DIR/in]
    read_from: beginning
    glob_minimum_cooldown_ms: 100
    max_read_bytes: 262144
    fingerprint: {strategy: device_and_inode}
sinks:
  out:
    type: vector
    inputs: [in]
    address: 127.0.0.1:PORT
    acknowledgements: {enabled: true}
    buffer: {type: disk, max_size: 4294967296, when_full: block}
    batch: {timeout_secs: 0.2}
    request: {concurrency: 1, retry_initial_backoff_secs: 1, retry_max_duration_secs: 2}
`,
	`data_dir: DIR/END
sources:
  in:
    type: vector
    address: 127.0.0.1:PORT
sinks:
  out:
    type: file
    inputs: [in]
    path: DIR/out
    encoding: {codec: text}
    acknowledgements: {enabled: true}
`,
}

// here tells whether the environment has the program.
func (p byPath) here() bool { return os.Getenv(p.variable) != "" }

func (p byPath) chain() chain {
	return chain{
		send: func(b *sandbox, port int) (*sender, error) {
			return b.fileSender(func() (*process, error) { return p.start(b, "sender", p.sender, port) })
		},
		receive: func(b *sandbox, port int) (*process, error) {
			r, err := p.start(b, "receiver", p.receiver, port)
			if err != nil {
				return nil, err
			}
			return r, b.awaitPort(r, port)
		},
	}
}

// start runs one end, which keeps its buffer in a directory of that name.
func (p byPath) start(b *sandbox, end, conf string, port int) (*process, error) {
	if err := os.MkdirAll(b.path(end), 0o700); err != nil {
		return nil, err
	}
	conf = strings.NewReplacer("DIR", b.dir, "END", end, "PORT", strconv.Itoa(port)).Replace(conf)
	path, err := b.write(end+p.ending, conf)
	if err != nil {
		return nil, err
	}
	return b.start(nil, os.Getenv(p.variable), p.option, path)
}

// fileSender is a sender that reads the file in, also that of the one before it.
func (b *sandbox) fileSender(start func() (*process, error)) (*sender, error) {
	w, err := os.OpenFile(b.path("in"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	b.files = append(b.files, w)
	p, err := start()
	return &sender{process: p, input: w, arrive: b.awaitBytes}, err
}
