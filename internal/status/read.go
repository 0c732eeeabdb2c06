package status

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wsrelay/buffer"
)

// Read tells of the relay whose queue is in dir: as it says itself, or, where
// nobody answers, as the files say.
func Read(dir string) Snapshot {
	s, queryErr := query(dir)
	if queryErr == nil {
		s.waiting(dir)
		return s
	}
	s = Snapshot{
		Instance: filepath.Base(dir), QueueDir: dir, At: time.Now(), State: Unknown, Problems: []Problem{},
		Lost: []Lost{},
	}
	v, err := buffer.Inspect(dir)
	var oldest time.Time
	if err == nil {
		defer v.Close() //nolint:errcheck // only read
		oldest, err = v.Oldest()
	}
	unknown := "it is not known whether lines wait there"
	switch {
	case errors.Is(queryErr, fs.ErrPermission), errors.Is(err, fs.ErrPermission):
		s.problem(Problem{
			"no permission to read the queue: " + cmp.Or(err, queryErr).Error(), unknown,
			"ask as the user that wsrelay runs as, or as root",
		})
		return s
	case errors.Is(err, fs.ErrNotExist):
		s.problem(Problem{
			"there is no queue here: " + err.Error(), "no line waits in this directory",
			"wsrelay status, with no instance named, shows those that there are",
		})
		return s
	case err != nil:
		s.problem(Problem{
			"cannot inspect the queue: " + err.Error(), unknown,
			"look at the disk, and at the queue's directory: wsrelay queue verify",
		})
		return s
	}
	s.queue(v.Stats)
	s.lost(v.Lost)
	s.age(oldest)
	if s.PID = v.PID; s.PID != 0 {
		s.State = Silent
		s.problem(Problem{
			fmt.Sprintf("process %d uses the queue and does not answer: %v", v.PID, queryErr),
			"it is not known whether lines are delivered; what follows is what the queue's files say",
			"it may be starting or exiting: try again in a moment; if it still does not answer, read its log",
		})
		return s
	}
	s.State = NotRunning
	p := Problem{
		"no wsrelay runs with this queue", "no line waits in it",
		"start what runs it, usually syslog-ng; if that runs, check that its configuration names this instance",
	}
	if s.BacklogLines > 0 {
		p.Effect = "nothing is lost: its lines wait on disk"
	}
	s.problem(p)
	if len(v.Missing) > 0 {
		s.problem(Problem{
			"the queue lacks " + strings.Join(v.Missing, " and "),
			"what follows is what the other files say: lines that count as waiting may have been delivered, and newer ones may be missing",
			"find out who removes files there; wsrelay makes them again when it starts",
		})
	}
	return s
}

// waiting tells of other processes that wait for the queue.
func (s *Snapshot) waiting(dir string) {
	if _, pids := buffer.Locked(dir); len(pids) > 0 {
		s.problem(Problem{
			fmt.Sprintf("another wsrelay, process %d, waits for this queue to be free", pids[0]),
			fmt.Sprintf("the lines that it has are not counted here; they are not lost, and wait until process %d ends", s.PID),
			"give each wsrelay an instance of its own; after a reload of syslog-ng this is so for a moment",
		})
	}
}

// Find gives the queue directories below the parents, in order; also those that
// we may not look into.
func Find(parents ...string) (dirs []string) {
	for _, parent := range parents {
		entries, _ := os.ReadDir(parent) // none is a parent like any other
		for _, e := range entries {
			dir := filepath.Join(parent, e.Name())
			if is, err := buffer.IsQueue(dir); is || errors.Is(err, fs.ErrPermission) {
				dirs = append(dirs, dir)
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
