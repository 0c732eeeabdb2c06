package status

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// Read tells of the relay whose queue is in dir: as it says itself, or, where
// nobody answers, as the files say.
func Read(dir string) Snapshot {
	s, asked := ask(dir)
	if asked == nil {
		return s
	}
	s = Snapshot{Instance: filepath.Base(dir), QueueDir: dir, At: time.Now(), State: Unknown, Problems: []Problem{}, Lost: []Lost{}}
	v, err := buffer.Look(dir)
	var oldest time.Time
	if err == nil {
		oldest, err = v.Oldest()
	}
	unknown := "it is not known whether lines wait there"
	switch {
	case errors.Is(asked, fs.ErrPermission), errors.Is(err, fs.ErrPermission):
		s.problem(Problem{"may not look: " + cmp.Or(err, asked).Error(), unknown, "ask as the user that wsrelay runs as, or as root"})
		return s
	case errors.Is(err, fs.ErrNotExist):
		s.problem(Problem{"no wsrelay has a queue here: " + err.Error(), "no line waits there", "wsrelay status, with no instance named, shows those that there are"})
		return s
	case err != nil:
		s.problem(Problem{"cannot look into the queue: " + err.Error(), unknown, "look at the disk, and at the queue's directory: wsrelay queue verify"})
		return s
	}
	s.queue(v.Stats)
	s.lost(v.Lost, nil, nil)
	s.age(oldest)
	if held, _ := Locked(dir); held {
		s.State, s.PID = Silent, v.PID
		s.problem(Problem{
			fmt.Sprintf("process %d has the queue and does not answer: %v", v.PID, asked),
			"it is not known whether lines are delivered; what follows is what the queue's files say",
			"it may be starting or ending: ask again in a moment; else look into its log",
		})
		return s
	}
	s.State = NotRunning
	p := Problem{"no wsrelay runs with this queue", "no line waits in it", "start what runs it, as a rule syslog-ng; if that runs, see whether its configuration names this instance"}
	if s.BacklogLines > 0 {
		p.Effect = "nothing is lost: its lines wait on disk"
	}
	s.problem(p)
	return s
}

// Locked tells whether any process has the queue in dir, and whether another
// waits for it. It does not try to lock anything: a wsrelay that starts at this
// moment must find the queue free.
func Locked(dir string) (held, awaited bool) {
	var st unix.Stat_t
	locks, err := os.Open("/proc/locks")
	if err != nil || unix.Stat(filepath.Join(dir, "LOCK"), &st) != nil {
		return false, false
	}
	defer locks.Close() //nolint:errcheck // only read
	// As in proc_locks(5), the second of one that waits:
	// 1: FLOCK  ADVISORY  WRITE 4121 08:01:1234 0 EOF
	// 1: -> FLOCK  ADVISORY  WRITE 4122 08:01:1234 0 EOF
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		text, waits := strings.CutPrefix(strings.TrimLeft(lines.Text(), "0123456789: "), "-> ")
		f := strings.Fields(text)
		if len(f) > 4 && f[0] == "FLOCK" && f[2] == "WRITE" && strings.HasSuffix(f[4], fmt.Sprintf(":%d", st.Ino)) {
			held, awaited = held || !waits, awaited || waits
		}
	}
	return held, awaited
}

// Find gives the queue directories below the parents, in order: what a wsrelay
// has used as one.
func Find(parents ...string) (dirs []string) {
	for _, parent := range parents {
		found, _ := filepath.Glob(filepath.Join(escape(parent), "*", "LOCK"))
		for _, name := range found {
			dirs = append(dirs, filepath.Dir(name))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// escape makes a path match only itself.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
