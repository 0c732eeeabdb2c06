package intake

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// History is what keeper and spool know of a pipe. It is zero where there is no keeper.
type History struct {
	Workers uint64 // that the keeper has started, this one included
	// Last is how the worker before ended, such as "killed by SIGKILL", "crashed" or
	// "exit status 78". It is empty if there was none or an upgrade replaced it.
	Last    string
	Pending int64 // bytes taken from the pipe that are not on disk
	Stuck   int   // workers in a row that died soon and got nothing on disk
}

// History may be called at any time and concurrently.
func (in *Intake) History() History {
	if in.spool == nil {
		return History{}
	}
	return in.spool.history()
}

// InheritedHistory is a worker's History before New has run.
func InheritedHistory() History {
	kept, _, err := inherited(os.Getenv(workerEnv))
	if err != nil {
		return History{}
	}
	return kept.history()
}

// Retries reports whether the keeper tries again after this worker has found a
// mistake in its configuration. For a service it always does.
func (h History) Retries(service bool) bool { return h.Workers > 0 && (service || h.Workers > 1) }

func (k kept) history() History {
	s, err := k.state()
	if err != nil { // of a memory file and pipes
		return History{}
	}
	return History{
		Workers: s.workers, Last: howItEnded(s.last), Pending: max(0, s.taken-s.mark),
		Stuck: s.stuck,
	}
}

func howItEnded(st unix.WaitStatus) string {
	const crash = 2 // of the Go runtime
	switch {
	case st == 0:
		return ""
	case st.Signaled():
		return "killed by " + unix.SignalName(st.Signal())
	case st.ExitStatus() == crash:
		return crashed
	}
	return fmt.Sprintf("exit status %d", st.ExitStatus())
}

// stuckFrom is how many deaths in a row are no accident.
const stuckFrom = 3

const crashed = "crashed"

// log reports that a worker has died, if one has; one that has exited normally has
// logged why.
func (h History) log(log *slog.Logger) {
	died := strings.HasPrefix(h.Last, "killed") || h.Last == crashed
	if died && h.Stuck >= stuckFrom {
		log.Error("one process after the other dies at the same line", "how", h.Last, "times", h.Stuck,
			"effect", "nothing is lost, but lines wait in the pipe until one process gets further",
			"hint", "if the kernel's out-of-memory killer kills them, allow more memory: 32 MiB and 6 times the longest line")
		return
	}
	if died {
		log.Warn("the process before this one died", "how", h.Last, "processes", h.Workers,
			"effect", "nothing is lost: this one continues at the same byte",
			"hint", "if nobody killed it, look for the kernel's out-of-memory killer in the kernel's log")
	}
}
