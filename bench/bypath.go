package main

import (
	"fmt"
	"os"
)

// peer is a chain of programs that no package brings.
type peer struct {
	name  string
	chain chain
}

// byPath is the peers whose programs the environment names. They read a file, as
// they do best: it is what nothing is lost from when they are killed.
func byPath() (all []peer) {
	if path := os.Getenv("BENCH_FLUENT_BIT"); path != "" {
		all = append(all, peer{"fluent-bit", fluentBit(path)})
	}
	if path := os.Getenv("BENCH_VECTOR"); path != "" {
		all = append(all, peer{"vector", vector(path)})
	}
	return all
}

const (
	fluentBitService = `[SERVICE]
    Flush 0.2
    Grace 2
    Log_Level warn
    scheduler.base 1
    scheduler.cap 2
    storage.path %s
    storage.sync full
    storage.backlog.mem_limit 64M
`
	fluentBitSender = fluentBitService + `[INPUT]
    Name tail
    Path %s
    DB %s
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
    Port %d
    Require_ack_response True
    Retry_Limit no_limits
    Workers 1
`
	fluentBitReceiver = fluentBitService + `[INPUT]
    Name forward
    Listen 127.0.0.1
    Port %d
    storage.type filesystem
[OUTPUT]
    Name file
    Match *
    Path %s
    File out
    Format template
    Template {log}
    Retry_Limit no_limits
    Workers 1
`
)

// fluentBit is a chain of two Fluent Bits: each chunk is on disk, synced, and is
// acknowledged by the second.
func fluentBit(program string) chain {
	return chain{
		queue: "sender.storage",
		send: func(b *box, port int) (*sender, error) {
			return b.fileSender(func() (*process, error) {
				return b.startWith(program, "-c", "sender.conf", fmt.Sprintf(fluentBitSender, b.path("sender.storage"), b.path("in"), b.path("in.db"), port))
			})
		},
		receive: func(b *box, port int) (*process, error) {
			p, err := b.startWith(program, "-c", "receiver.conf", fmt.Sprintf(fluentBitReceiver, b.path("receiver.storage"), port, b.dir))
			if err != nil {
				return nil, err
			}
			return p, b.awaitPort(p, port)
		},
	}
}

const (
	vectorSender = `data_dir: %s
sources:
  in:
    type: file
    include: [%s]
    read_from: beginning
    glob_minimum_cooldown_ms: 100
    max_read_bytes: 262144
    fingerprint: {strategy: device_and_inode}
sinks:
  out:
    type: vector
    inputs: [in]
    address: 127.0.0.1:%d
    acknowledgements: {enabled: true}
    buffer: {type: disk, max_size: 4294967296, when_full: block}
    batch: {timeout_secs: 0.2}
    request: {concurrency: 1, retry_initial_backoff_secs: 1, retry_max_duration_secs: 2}
`
	vectorReceiver = `data_dir: %s
sources:
  in:
    type: vector
    address: 127.0.0.1:%d
sinks:
  out:
    type: file
    inputs: [in]
    path: %s
    encoding: {codec: text}
    acknowledgements: {enabled: true}
`
)

// vector is a chain of two Vectors, the first with a disk buffer; what the second has
// written to its file is acknowledged. One request at a time keeps the order.
func vector(program string) chain {
	return chain{
		queue: "sender.data",
		send: func(b *box, port int) (*sender, error) {
			return b.fileSender(func() (*process, error) {
				return b.startVector(program, "sender", fmt.Sprintf(vectorSender, b.path("sender.data"), b.path("in"), port))
			})
		},
		receive: func(b *box, port int) (*process, error) {
			p, err := b.startVector(program, "receiver", fmt.Sprintf(vectorReceiver, b.path("receiver.data"), port, b.path("out")))
			if err != nil {
				return nil, err
			}
			return p, b.awaitPort(p, port)
		},
	}
}

// startVector makes the directory that Vector wants to be there.
func (b *box) startVector(program, name, conf string) (*process, error) {
	if err := os.MkdirAll(b.path(name+".data"), 0o700); err != nil {
		return nil, err
	}
	return b.startWith(program, "--config", name+".yaml", conf)
}

// startWith runs a program with a configuration of this name.
func (b *box) startWith(program, option, name, conf string) (*process, error) {
	path, err := b.write(name, conf)
	if err != nil {
		return nil, err
	}
	return b.start(nil, program, option, path)
}

// fileSender is a sender that reads the file in, from where it was when it is
// started again.
func (b *box) fileSender(start func() (*process, error)) (*sender, error) {
	w, err := os.OpenFile(b.path("in"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	b.files = append(b.files, w)
	p, err := start()
	return &sender{process: p, input: w, arrive: b.awaitBytes}, err
}
