package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

// shell is the loop that many a host has: one process for each line.
var shell = chain{
	send: func(b *sandbox, _ int) (*sender, error) {
		w, err := os.Create(b.path("in"))
		if err != nil {
			return nil, err
		}
		b.files = append(b.files, w)
		p, err := b.start(nil, "/bin/sh", "-c", `tail -n +1 -f in | while read line; do echo $line | socat - unix:out.sock; done`)
		return &sender{process: p, input: w, arrive: func(n int) error { // lines: their bytes may not all come
			return b.awaitCount(n, func() (int, error) {
				got, _ := os.ReadFile(b.path("out")) // not there yet: none
				return bytes.Count(got, []byte{'\n'}), nil
			})
		}}, err
	},
	receive: func(b *sandbox, _ int) (*process, error) {
		socat, err := exec.LookPath("socat")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMissing, err)
		}
		p, err := b.start(nil, socat, "-u", "unix-listen:out.sock,fork", "open:out,creat,append")
		if err != nil {
			return nil, err
		}
		return p, b.await(p, func() bool { _, err := os.Stat(b.path("out.sock")); return err == nil })
	},
}
