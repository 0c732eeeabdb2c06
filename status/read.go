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
	if locked(filepath.Join(dir, "LOCK")) {
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

// locked tells whether any process has a lock on the file, without trying to
// take it: a wsrelay that starts at this moment must not find it taken.
func locked(name string) bool {
	var st unix.Stat_t
	locks, err := os.Open("/proc/locks")
	if err != nil || unix.Stat(name, &st) != nil {
		return false
	}
	defer locks.Close() //nolint:errcheck // only read
	// 1: FLOCK  ADVISORY  WRITE 4121 08:01:1234 0 EOF, as in proc_locks(5)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && strings.HasSuffix(f[5], fmt.Sprintf(":%d", st.Ino)) {
			return true
		}
	}
	return false
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
