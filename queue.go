package main

import (
	"errors"
	"fmt"

	"wsrelay/buffer"
	"wsrelay/console"
)

// queueCmd is what can be done with a queue; all but purge changes nothing.
type queueCmd struct {
	Verify verifyCmd `cmd:"" help:"Read the whole queue and say what is wrong with it. Exit status 1 if something is."`
	Dump   dumpCmd   `cmd:"" help:"The same, with a line for each block."`
	Export exportCmd `cmd:"" help:"Write the lines that wait to standard output. They stay in the queue."`
	Purge  purgeCmd  `cmd:"" help:"Give up all lines that wait; the receiver is told their numbers. Only while no wsrelay has the queue."`
}

// queueAt names a queue directory.
type queueAt struct {
	Dir string `arg:"" optional:"" help:"The queue directory. Default: ${queue_dir} of the instance 'default'."`
}

type (
	verifyCmd struct{ queueAt }
	dumpCmd   struct{ queueAt }
)

// Run is kong's.
func (c *verifyCmd) Run(s *streams) error {
	r, err := buffer.Verify(c.dir(), s.out)
	return c.conclude(s, r, err)
}

// Run is kong's.
func (c *dumpCmd) Run(s *streams) error {
	r, err := buffer.Dump(c.dir(), s.out)
	return c.conclude(s, r, err)
}

func (q *queueAt) dir() string {
	if q.Dir != "" {
		return q.Dir
	}
	return queueDir("default")
}

func (q *queueAt) conclude(s *streams, r buffer.Report, err error) error {
	if err != nil {
		return cannotLook(err)
	}
	fmt.Fprintf(s.out, "%s to deliver, in %s of %s\n", count(r.Head-r.Cursor, "record", "records"),
		count(uint64(r.Blocks), "block", "blocks"), count(uint64(r.Segments), "segment", "segments"))
	for _, g := range r.Gaps {
		if g.End > r.Cursor {
			fmt.Fprintf(s.out, "a gap stands for %d-%d: these lines are lost, and the receiver is told\n", g.First, g.End-1)
		}
	}
	if r.Problems > 0 {
		return &console.Complaint{
			Err: errors.New(count(uint64(r.Problems), "problem", "problems")), Effect: "every line that can be read is delivered; the others are named",
			Hint: "check the disk's health; wsrelay itself mends the queue when it starts", Code: exitFailed,
		}
	}
	return nil
}
