package wsrelay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/cli"
)

// queueCmd is what can be done with a queue; all but purge changes nothing.
type queueCmd struct {
	Verify verifyCmd `cmd:"" help:"Read the whole queue and report problems. Exit status 1 if there are any."`
	Dump   dumpCmd   `cmd:"" help:"Do the same, and print a line for each block."`
	Export exportCmd `cmd:"" help:"Write the waiting lines to standard output. They stay in the queue."`
	Purge  purgeCmd  `cmd:"" help:"Drop all waiting lines; the receiver gets their numbers. The queue must not be in use."`
}

// Help is shown below the options.
func (queueCmd) Help() string {
	return `Without a directory it is the queue of the instance "default". wsrelay status lists the queues; wsrelay queue verify --help describes one command.`
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
func (c *verifyCmd) Run(s *stdio) error {
	r, err := buffer.Verify(c.dir(), s.out)
	return c.conclude(s, r, err)
}

// Run is kong's.
func (c *dumpCmd) Run(s *stdio) error {
	r, err := buffer.Dump(c.dir(), s.out)
	return c.conclude(s, r, err)
}

func (q *queueAt) dir() string {
	if q.Dir != "" {
		return q.Dir
	}
	return queueDir("default")
}

func (q *queueAt) conclude(s *stdio, r buffer.Report, err error) error {
	if err != nil {
		return cannotLook(err)
	}
	fmt.Fprintf(s.out, "%s to deliver, in %s of %s\n", cli.Count(r.Head-r.Cursor, "record", "records"),
		cli.Count(uint64(r.Blocks), "block", "blocks"), cli.Count(uint64(r.Segments), "segment", "segments"))
	for _, g := range r.Gaps {
		if g.End > r.Cursor {
			fmt.Fprintf(s.out, "a gap stands for %d-%d: these lines are lost, and the receiver gets their numbers\n",
				g.First, g.End-1)
		}
	}
	if r.Problems > 0 {
		return &cli.Error{
			Err:    errors.New(cli.Count(uint64(r.Problems), "problem", "problems")),
			Effect: "every line that can be read is delivered; gap documents have the numbers of the others",
			Hint:   "check the disk's health; wsrelay repairs the queue when it starts", Code: exitFailed,
		}
	}
	return nil
}

type exportCmd struct {
	queueAt
	UIDs bool `name:"uids" help:"Print the UID of its document, and a tab, before each line."`
}

// Run writes the backlog; what is not there is named on stderr.
func (c *exportCmd) Run(s *stdio) error {
	v, err := buffer.Inspect(c.dir())
	if err != nil {
		return cannotLook(err)
	}
	defer v.Close() //nolint:errcheck // only read
	for _, name := range v.Missing {
		fmt.Fprintf(s.err, "wsrelay: %s is not there: lines may be among these that were delivered, and the newest ones may be missing\n", name)
	}
	out, missing := bufio.NewWriterSize(s.out, 1<<20), uint64(0)
	reportMissing := func(first, end uint64, why string) {
		if first < end {
			missing += end - first
			fmt.Fprintf(s.err, "wsrelay: %s not there: %d-%d %s\n", cli.Count(end-first, "line is", "lines are"), first,
				end-1, why)
		}
	}
	at, lines := v.Cursor, []byte(nil)
	err = v.Blocks(func(b *buffer.Block) error {
		reportMissing(at, b.Range().First, "(damaged, or delivered meanwhile)")
		first := max(at, b.Range().First)
		at = b.Range().End
		if g := b.Gap(); g != nil {
			reportMissing(first, at, "("+g.Why+")")
			return nil
		}
		var err error
		if lines, err = b.Lines(lines[:0]); err != nil {
			return err
		}
		return c.write(out, b, lines)
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return &cli.Error{
			Err:    fmt.Errorf("the export is incomplete: %w", err),
			Effect: "nothing was changed: all lines are still in the queue",
			Hint:   "check where the output goes, and the disk", Code: exitFailed,
		}
	}
	reportMissing(at, v.Head, "(damaged, or delivered meanwhile)")
	if missing > 0 {
		return &cli.Error{
			Err:    errors.New(cli.Count(missing, "number has", "numbers have") + " no line"),
			Effect: "all others were written; the queue is as it was",
			Hint:   "wsrelay queue verify says more", Code: exitFailed,
		}
	}
	return nil
}

func (c *exportCmd) write(out *bufio.Writer, b *buffer.Block, lines []byte) error {
	if !c.UIDs {
		_, err := out.Write(lines)
		return err
	}
	seq := b.Range().First
	for line := range bytes.Lines(lines) {
		if _, err := fmt.Fprintf(out, "%s\t%s", handshake.UID(b.SID(), seq), line); err != nil {
			return err
		}
		seq++
	}
	return nil
}

type purgeCmd struct {
	queueAt
	Yes bool `help:"Do not ask for confirmation."`
}

// Run drops the backlog, once the user is sure.
func (c *purgeCmd) Run(s *stdio) error {
	v, err := buffer.Inspect(c.dir())
	if err != nil {
		return cannotLook(err)
	}
	defer v.Close() //nolint:errcheck // only read
	waiting := v.Waiting()
	if waiting == 0 {
		fmt.Fprintln(s.out, "no line waits")
		return nil
	}
	switch {
	case c.Yes:
	case !isTerminal(s.in):
		return &cli.Error{
			Err: fmt.Errorf("%s would be lost", cli.Count(waiting, "line", "lines")), Effect: "nothing was changed",
			Hint: "confirm with --yes; wsrelay queue export makes a copy", Code: exitUsage,
		}
	default:
		fmt.Fprintf(s.out, "%s in %s will be lost; the receiver gets their numbers. Continue? Type yes: ",
			cli.Count(waiting, "line", "lines"), c.dir())
		answer, _ := bufio.NewReader(s.in).ReadString('\n')
		if strings.TrimSpace(answer) != "yes" {
			fmt.Fprintln(s.out, "nothing was changed")
			return nil
		}
	}
	lines, err := buffer.Purge(c.dir(), buffer.Options{})
	switch {
	case errors.Is(err, buffer.ErrLocked):
		return &cli.Error{
			Err: errors.New("a wsrelay uses this queue"), Effect: "nothing was changed",
			Hint: "stop it first, usually by stopping syslog-ng", Code: exitFailed,
		}
	case errors.Is(err, os.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return cannotLook(err)
	case err != nil:
		return &cli.Error{
			Err:    fmt.Errorf("cannot drop the lines: %w", err),
			Effect: "each line is still there, or in a gap, and the receiver gets its number",
			Hint:   "free some space on the disk, then try again", Code: exitFailed,
		}
	}
	fmt.Fprintf(s.out, "%s dropped; the receiver gets their numbers when wsrelay next runs with this queue\n",
		cli.Count(lines, "line is", "lines are"))
	return nil
}

func cannotLook(err error) error {
	return &cli.Error{
		Err: fmt.Errorf("cannot inspect the queue: %w", err), Effect: "nothing was changed",
		Hint: "name the directory that --queue-dir has, as a user who may read it", Code: exitFailed,
	}
}
