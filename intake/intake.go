// Package intake moves lines from a pipe into the queue.
//
// A line is what stands between two newlines, whatever its bytes are: CR, NUL
// and invalid UTF-8 stay. Empty lines are skipped. What stands after the last
// newline when the pipe ends is a line too. A line longer than
// [buffer.MaxLine] is cut into pieces of that length, each a line of its own.
//
// The intake reads as fast as the queue takes: where the queue waits, for the
// disk or for its limit, the pipe fills and its writer waits.
//
// # Exactly once out of a pipe
//
// What has been read from a pipe is gone from it, so a reader that dies takes
// lines along. Here two processes share the work:
//
//		syslog-ng ══pipe══▶ keeper         holds pipe and spool, reads nothing
//		              ╲        │ starts, and starts again
//		               ╲══▶ worker ──splice──▶ spool ──lines──▶ queue
//
//	 1. The worker takes from the pipe with splice(2) only, to the end of the
//	    spool, which is pipes and a file in memory that the keeper holds open. As
//	    seen from a kill that is all or nothing: what the spool was ever given is
//	    what was ever taken. What it reads is a copy, made by tee(2).
//	 2. The queue knows on disk up to which stream offset it has everything. What
//	    is pending is exactly from there to what was taken, and a new worker begins
//	    there.
//	 3. What is on disk the spool forgets, after a mark says so.
//
// Between pipes pages move and nothing is copied: a writer that may change what
// it has written, as vmsplice(2) lets it, changes what is pending, too.
//
// Input that is not a pipe, or has no keeper, is read as usual: a worker that
// dies loses what it had read and not yet put on disk.
package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

const (
	readSize = 256 << 10 // space for each read
	pipeSize = 1 << 20   // asked of the kernel: fewer, larger reads

	// maxUnsynced is how many stream bytes may be with the queue and not yet on disk.
	// The queue's own bound, which is lower, does not count skipped newlines.
	maxUnsynced = 8 << 20
)

// Queue is what the intake needs of the disk-backed queue.
type Queue interface {
	Append(ctx context.Context, lines []byte, n int, o buffer.Origin) (buffer.Range, error)
	IntakeEnd(id uint64) int64
	Reserve()
}

// Intake reads one input.
type Intake struct {
	Unread Unread // where lines of earlier pipes are; set before Run

	fd      int
	id      uint64 // of the stream, by which the queue knows it; 0: it does not
	input   io.Reader
	spool   *spool   // nil: none
	control *os.File // from the keeper; nil: none

	coalesceDelay time.Duration // what lets more lines come after a read that took all
	drained       bool          // the last read did, but for what came meanwhile
	idle          bool          // wait before the next read
	idlePolls     int           // in a row for what has come to be on disk
	buf           []byte        // read and not yet appended: at most one line and one read
	end           int64         // stream offset after buf
	appended      int64         // stream offset up to which the queue has everything
	lines         uint64
	pieces        int // of lines that are too long, but for the last ones
}

// New opens the input: through the keeper's spool where there is one.
func New(stdin *os.File) (*Intake, error) {
	in := &Intake{fd: int(stdin.Fd())}
	env, ok := os.LookupEnv(workerEnv)
	if !ok {
		_, _ = unix.FcntlInt(stdin.Fd(), unix.F_SETPIPE_SZ, pipeSize) // not a pipe, or not allowed: as it is
		in.input, in.idle, in.coalesceDelay = descriptor(in.fd), true, coalesceDelay(in.fd)
		return in, nil
	}
	_ = os.Unsetenv(workerEnv)
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // the keeper counts them
	kept, control, err := inherited(env)
	if err != nil {
		return nil, err
	}
	for fd := kept[0]; fd <= control; fd++ {
		unix.CloseOnExec(fd)
	}
	in.control = os.NewFile(uintptr(control), "control")
	if in.spool, err = openSpool(kept, in.fd); err != nil {
		return nil, err
	}
	in.input, in.coalesceDelay, in.id = in.spool, coalesceDelay(in.fd), in.spool.id
	return in, nil
}

// coalesceDelay is how long the intake lets lines gather in a pipe that it has just
// emptied: as long as a writer of 2 GB/s would take to fill it. A reader that is
// back at once costs a writer of one line at a time a wake-up for each; a line
// that comes alone is read at once either way.
func coalesceDelay(pipe int) time.Duration {
	capacity, _ := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0) // not a pipe: none
	return max(0, time.Duration(capacity)*time.Second/2e9)
}

// Worker reports whether a keeper started this process. It must be called before New.
func Worker() bool {
	_, ok := os.LookupEnv(workerEnv)
	return ok
}

// Kept reports whether a keeper holds the input.
func (in *Intake) Kept() bool { return in.spool != nil }

// LiveInput is the pipe as the queue's recovery has to know it.
func (in *Intake) LiveInput() buffer.LiveInput {
	if in.spool == nil {
		return buffer.LiveInput{}
	}
	return buffer.LiveInput{Intake: in.spool.id, Mark: in.spool.mark}
}

// Signals gives the signals that ask to end: the keeper's word, or, without a
// keeper, what comes to this process. SIGHUP is a terminal that was closed.
func (in *Intake) Signals() <-chan os.Signal {
	sigs := make(chan os.Signal, 8)
	if in.control == nil {
		notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
		return sigs
	}
	go func() { // ends with the process: the keeper's word may come at any time
		b := make([]byte, 1)
		for {
			if _, err := in.control.Read(b); err != nil {
				signal.Notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // the keeper is dead
				return
			}
			sigs <- map[byte]os.Signal{'T': unix.SIGTERM, 'I': unix.SIGINT}[b[0]]
		}
	}()
	return sigs
}

// SharedWith reports whether one of these processes has our pipe open, too: if both
// took from it, lines would change places, or be torn. Of one that may not be looked
// at, it may have.
func (in *Intake) SharedWith(pids []int) bool {
	var st unix.Stat_t
	if err := unix.Fstat(in.fd, &st); err != nil {
		return true
	}
	ours := fmt.Sprintf("pipe:[%d]", st.Ino)
	return slices.ContainsFunc(pids, func(pid int) bool {
		dir := fmt.Sprintf("/proc/%d/fd/", pid)
		fds, err := os.ReadDir(dir)
		return errors.Is(err, fs.ErrPermission) || slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
			at, _ := os.Readlink(dir + fd.Name())
			info, err := fd.Info() // its mode is what the descriptor is open for; closed meanwhile: it is not ours
			return at == ours && err == nil && info.Mode()&0o400 != 0
		})
	})
}

// Fill takes from the pipe while there is no queue yet, as much as may be
// pending, until ctx ends. What goes wrong, Run meets again.
func (in *Intake) Fill(ctx context.Context) {
	if in.spool == nil {
		return
	}
	wake, err := newWaker(ctx)
	if err != nil {
		return
	}
	defer wake.close()
	for in.spool.taken()-in.spool.mark < spoolAhead && ctx.Err() == nil {
		if ready, err := wake.wait(in.fd, unix.POLLIN, -1); err != nil || !ready {
			return
		}
		if n, err := in.spool.spliceIn(readSize); n == 0 && !errors.Is(err, unix.EAGAIN) {
			return
		}
	}
}

// Run appends lines to q until the input ends, and then returns nil: all of it
// is in the queue. When stop ends it takes what the input holds at that moment
// and no more. It returns when ctx ends.
func (in *Intake) Run(ctx, stop context.Context, q Queue, r *buffer.Recovery, log *slog.Logger) error {
	if in.spool != nil {
		in.resume(r, log)
	}
	wake, err := newWaker(stop)
	if err != nil {
		return err
	}
	defer wake.close()
	unwatch, err := in.watchEnd(stop, q)
	if err != nil {
		return err
	}
	defer unwatch()
	last, warned := int64(math.MaxInt64), false // stream offset where stop ends it
	for {
		if err := in.releaseDurable(ctx, q); err != nil {
			return err
		}
		in.takeUnread(ctx, q)
		if last == math.MaxInt64 && stop.Err() != nil {
			last = in.end + in.waiting()
		}
		if in.end >= last {
			return in.finish(ctx, q)
		}
		if ended, err := in.readLines(ctx, q, wake); ended || err != nil {
			return err
		}
		if in.pieces > 0 && !warned {
			warned = true
			log.Warn("a line is longer than 16 MiB", "effect", "it is stored in pieces, each a document; nothing is lost",
				"hint", "let its program write shorter lines; in syslog-ng, log-msg-size() cuts them")
		}
	}
}

// readLines reads once, and appends the lines that are complete, or, when the input has
// ended, all that is left of it.
func (in *Intake) readLines(ctx context.Context, q Queue, wake *waker) (ended bool, err error) {
	switch err := in.read(wake); {
	case errors.Is(err, io.EOF):
		return true, in.finish(ctx, q)
	case err != nil && !errors.Is(err, unix.EAGAIN):
		return false, fmt.Errorf("read lines: %w", err)
	}
	return false, in.append(ctx, q)
}

// watchEnd lets the queue have the rest of the input, beyond its limit if need
// be, once nobody can write to it any more, or is waited for.
func (in *Intake) watchEnd(stop context.Context, q Queue) (unwatch func(), err error) {
	ctx, cancel := context.WithCancel(stop)
	wake, err := newWaker(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_, _ = wake.wait(in.fd, 0, -1) // for its end, though there is something to read
		q.Reserve()
	}()
	return func() { cancel(); <-watched; wake.close() }, nil
}

// waiting is how many bytes can be read without waiting for the writer.
func (in *Intake) waiting() int64 {
	n := waiting(in.fd)
	if in.spool != nil {
		n += in.spool.taken() - in.spool.read
	}
	return n
}

// resume continues where the queue and the mark say that the one before stopped.
func (in *Intake) resume(r *buffer.Recovery, log *slog.Logger) {
	m := in.spool
	in.History().log(log)
	end, _, known := r.Intake(m.id)
	switch {
	case !known && m.mark > 0:
		log.Warn("the queue does not know this pipe: it is another one, or was emptied", "bytes_before", m.mark,
			"effect", "lines of this pipe that were in a queue before are not in this one",
			"hint", "let wsrelay deliver the queue directory that it had before, if it still exists")
	case end < m.mark:
		log.Error("the queue has lost what it had on disk", "bytes", m.mark-end,
			"effect", "lines are lost that were on disk; the queue reports which", "hint", "check the disk's health")
	}
	m.read = max(end, m.mark)
	in.end, in.appended = m.read, m.read
}

// read reads once, if necessary when there is something to read. unix.EAGAIN:
// there is nothing yet, but something else may have changed.
func (in *Intake) read(wake *waker) error {
	used := len(in.buf)
	if cap(in.buf)-used < readSize || used == 0 && cap(in.buf) > 8*readSize {
		in.buf = append(make([]byte, 0, 2*used+2*readSize), in.buf...)
	}
	if in.drained {
		wake.pause(in.coalesceDelay)
	}
	for range 2 { // a pipe under load never needs the wait
		if in.idle {
			switch ready, err := wake.wait(in.fd, unix.POLLIN, in.pollTimeout()); {
			case err != nil:
				return err
			case !ready:
				return unix.EAGAIN
			}
		}
		n, err := in.input.Read(in.buf[used : used+readSize])
		in.idle = in.spool == nil || errors.Is(err, unix.EAGAIN)
		in.drained = err == nil && n < readSize && waiting(in.fd) < int64(n) // what came meanwhile is less
		if !errors.Is(err, unix.EAGAIN) {
			in.buf = in.buf[:used+n]
			in.end += int64(n)
			in.idlePolls = 0
			return err
		}
	}
	return unix.EAGAIN
}

// append gives the queue all whole lines, and what is too long to wait for its
// newline.
func (in *Intake) append(ctx context.Context, q Queue) error {
	b := in.buf
	for {
		skip, end, n := cut(b, buffer.MaxBlock, buffer.MaxBlockLines)
		run, unfinished := b[skip:end], false
		if len(run) > buffer.MaxLine+1 || n == 0 && len(b)-skip > buffer.MaxLine {
			end = skip + buffer.MaxLine
			run, n, unfinished = withNewline(b[skip:end]), 1, true
			in.pieces++
		}
		b = b[end:]
		o := in.origin(in.end - int64(len(b)))
		o.Unfinished = unfinished
		if n == 0 && o.End == in.appended {
			break
		}
		if _, err := q.Append(ctx, run, n, o); err != nil {
			return err
		}
		in.appended = o.End
		in.lines += uint64(n)
	}
	in.buf = in.buf[:copy(in.buf, b)]
	return nil
}

// finish keeps what has no newline as a line.
func (in *Intake) finish(ctx context.Context, q Queue) error {
	if len(in.buf) == 0 {
		return nil
	}
	_, err := q.Append(ctx, withNewline(in.buf), 1, in.origin(in.end))
	in.lines++
	return err
}

func withNewline(b []byte) []byte {
	return append(slices.Clip(b), '\n')
}

func (in *Intake) origin(end int64) buffer.Origin {
	if in.id == 0 {
		return buffer.Origin{}
	}
	return buffer.Origin{Intake: in.id, End: end}
}

// releaseDurable releases what the spool holds and the disk has. It waits while too
// many bytes are not on disk: they may be newlines without a line.
func (in *Intake) releaseDurable(ctx context.Context, q Queue) error {
	m := in.spool
	if m == nil {
		return nil
	}
	for {
		if err := m.release(q.IntakeEnd(m.id)); err != nil {
			return err
		}
		if in.appended-m.mark <= maxUnsynced {
			return nil
		}
		if err := pauseForDisk(ctx); err != nil {
			return err
		}
	}
}

// pauseForDisk waits a moment for the queue to have more on disk.
func pauseForDisk(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pollTimeout, in milliseconds: while the spool holds what will soon be on disk,
// look again, more and more seldom; and sometimes for what other pipes left.
func (in *Intake) pollTimeout() int {
	switch {
	case in.spool != nil && in.spool.mark < in.appended:
	case in.Unread.Dir != "":
		return int(unreadEvery.Milliseconds())
	default:
		return -1
	}
	in.idlePolls = min(in.idlePolls+1, 10)
	return 1 << in.idlePolls
}

// Lines is how many lines went to the queue; once Run has returned.
func (in *Intake) Lines() uint64 { return in.lines }

// descriptor reads a file descriptor as the kernel does.
type descriptor int

func (d descriptor) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
