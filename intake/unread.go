package intake

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unread is a directory of files with what was left in other pipes. The shell of
// syslog-ng's websocket() block writes one when syslog-ng closes the pipe of a
// wsrelay that cannot be started:
//
//	unread.XXXXXX.lines   the shell's arguments, as in /proc/PID/cmdline | what was in the pipe
//
// Such a file is an intake of its own, with an id made from its name, its inode
// and its time, so that the queue knows on disk how far it has read it. It is
// removed when the queue has all of it.
type Unread struct {
	Dir  string                  // "": there is none
	Ours func(shell []byte) bool // tells from the shell's arguments whether the lines are for this queue
	Log  *slog.Logger

	checkedAt time.Time
	failed    string // the last error that was logged
}

// unreadEvery is how often the intake looks: after a reload the shell of the
// wsrelay before may write its file when this one has long begun.
const unreadEvery = 10 * time.Second

const shellArgs = 3 // /bin/sh -c COMMAND

// takeUnread appends the lines of the files that are ours, if it is time to
// look. What goes wrong stays in its file.
func (in *Intake) takeUnread(ctx context.Context, q Queue) {
	u := &in.Unread
	if u.Dir == "" || time.Since(u.checkedAt) < unreadEvery {
		return
	}
	u.checkedAt = time.Now()
	names, _ := filepath.Glob(filepath.Join(u.Dir, "unread.*.lines")) // an odd name of a directory: none
	for _, name := range names {
		lines, ours, err := u.readFile(ctx, q, name)
		in.lines += lines
		switch {
		case err != nil && err.Error() != u.failed:
			u.failed = err.Error()
			u.Log.Warn("cannot read what an earlier wsrelay left in its pipe", "err", err,
				"effect", "no line is lost: its lines stay in the file",
				"hint", "let this wsrelay read and remove the file")
		case err == nil && ours:
			u.Log.Info("read what an earlier wsrelay left in its pipe", "file", name, "lines", lines)
		}
	}
}

// readFile reads one file from where the queue has it on disk, and removes it once
// all of it is there.
func (u *Unread) readFile(ctx context.Context, q Queue, name string) (lines uint64, ours bool, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false, err
	}
	defer f.Close() //nolint:errcheck // only read
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, false, os.NewSyscallError("fstat", err)
	}
	head := make([]byte, min(st.Size, 1<<20))
	if _, err := io.ReadFull(f, head); err != nil {
		return 0, false, fmt.Errorf("%s: %w", name, err)
	}
	args := bytes.SplitAfterN(head, []byte{0}, shellArgs+1)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || len(args) <= shellArgs {
		return 0, false, fmt.Errorf("%s: not a file that a shell of this user has written", name)
	}
	head = head[:len(head)-len(args[shellArgs])]
	if !u.Ours(head) {
		return 0, false, nil
	}
	const taken = ".taken.lines" // a file that cannot be moved cannot be removed: it would be read again and again
	was := strings.TrimSuffix(strings.TrimSuffix(name, taken), ".lines") + ".lines"
	if name == was {
		name = strings.TrimSuffix(was, ".lines") + taken
		if err := os.Rename(was, name); err != nil {
			return 0, true, err
		}
	}
	id := fnv.New64a()
	fmt.Fprint(id, filepath.Base(was), st.Ino, st.Mtim)
	from := q.IntakeEnd(id.Sum64())
	if _, err := f.Seek(int64(len(head))+from, io.SeekStart); err != nil {
		return 0, true, err
	}
	in := &Intake{fd: int(f.Fd()), input: descriptor(f.Fd()), id: id.Sum64(), idle: true, end: from, appended: from}
	if err := in.readAll(ctx, q); err != nil {
		return in.lines, true, fmt.Errorf("%s: %w", name, err)
	}
	return in.lines, true, os.Remove(name)
}

// readAll appends the rest of the input and waits until all of it is on disk.
func (in *Intake) readAll(ctx context.Context, q Queue) error {
	wake, err := newWaker(ctx)
	if err != nil {
		return err
	}
	defer wake.close()
	for ended := false; !ended; {
		if ended, err = in.readLines(ctx, q, wake); err != nil {
			return err
		}
	}
	for q.IntakeEnd(in.id) < in.end && err == nil {
		err = pauseForDisk(ctx)
	}
	return err
}
