package buffer

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a queue cannot be used.
var (
	ErrLocked  = errors.New("queue is in use")
	ErrForeign = errors.New("the queue directory is another user's")
	errNoLock  = errors.New("the directory cannot be locked")
)

// Locked gives the process that has the queue in dir, and those that wait for it; 0:
// none that can be seen from here, as those in another container cannot. It does not
// try to lock anything: a wsrelay that starts at this moment must find the queue
// free.
func Locked(dir string) (holder int, waiting []int) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, nil
	}
	defer f.Close() //nolint:errcheck // only looked at
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0, nil
	}
	defer locks.Close() //nolint:errcheck // only read
	what := lockedAs(f)
	// As in proc_locks(5), the second of one that waits:
	// 1: FLOCK  ADVISORY  WRITE 4121 08:01:1234 0 EOF
	// 1: -> FLOCK  ADVISORY  WRITE 4122 08:01:1234 0 EOF
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		text, waits := strings.CutPrefix(strings.TrimLeft(lines.Text(), "0123456789: "), "-> ")
		f := strings.Fields(text)
		if len(f) < 5 || f[0] != "FLOCK" || f[2] != "WRITE" || f[4] != what {
			continue
		}
		pid, _ := strconv.Atoi(f[3])
		if waits {
			waiting = append(waiting, pid)
		} else {
			holder = pid
		}
	}
	return holder, waiting
}

// lockedAs is how /proc/locks names the file. Its device is that of the file
// system, which some (Btrfs) do not give as the device of their files: the table
// of mounts has it.
func lockedAs(f *os.File) string {
	st, err := stat(f)
	if err != nil {
		return ""
	}
	major, minor := unix.Major(st.Dev), unix.Minor(st.Dev)
	info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	_, id, _ := strings.Cut(string(info), "mnt_id:")
	id, _, _ = strings.Cut(strings.TrimSpace(id), "\n")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) { // ID PARENT MAJOR:MINOR …
		if f := strings.Fields(line); len(f) > 2 && f[0] == id {
			_, _ = fmt.Sscanf(f[2], "%d:%d", &major, &minor)
		}
	}
	return fmt.Sprintf("%02x:%02x:%d", major, minor, st.Ino)
}
