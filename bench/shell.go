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
		s, err := b.fileSender(func() (*process, error) {
			return b.start(nil, "/bin/sh", "-c", `tail -n +1 -f in | while read line; do echo $line | socat - unix:out.sock; done`)
		})
		if err != nil {
			return nil, err
		}
		s.arrive = func(n int) error { // lines: their bytes may not all come
			return b.awaitCount(n, func() (int, error) {
				got, _ := os.ReadFile(b.path("out")) // not there yet: none
				return bytes.Count(got, []byte{'\n'}), nil
			})
		}
		return s, nil
	},
	receive: func(b *sandbox, _ int) (*process, error) {
		socat, err := exec.LookPath("socat")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMissing, err)
		}
		_ = os.Remove(b.path("out.sock")) // of one that was killed
		p, err := b.start(nil, socat, "-u", "unix-listen:out.sock,fork", "open:out,creat,append")
		if err != nil {
			return nil, err
		}
		return p, b.await(p, func() bool { _, err := os.Stat(b.path("out.sock")); return err == nil })
	},
}
