package intake

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper is the process that syslog-ng knows: it holds the pipe and the spool,
// and starts a worker, which does everything else, again whenever that dies. It
// reads no line, writes none and knows no configuration, so there is nothing in
// it to fail.
type Keeper struct {
	Args      []string // the worker's, os.Args[1:]
	OptionsFD int      // a descriptor that every worker reads from its beginning; 0: none
	Service   bool     // nobody looks at the exit status: a bad configuration is tried again

	Abandoned int64 // set by Keep: bytes taken from the pipe that are lost, after a second signal
	Unread    int64 // set with it: bytes that are still in the pipe

	program    string // path of this program, and of a new one in its place
	argv       []string
	workerAttr syscall.ProcAttr // of a worker
	options    bool             // OptionsFD is open, and can be read again
	spool      kept
	control    int             // to the worker; its end means that the keeper has died
	worker     int             // pid; 0: none now
	startedAt  time.Time       // when the worker, or the last try to have one, began
	last       unix.WaitStatus // of the worker before; 0: none, or it was ended for an upgrade
	marked     int64           // the mark when that ended
	stuck      int             // workers in a row that died early and got nothing on disk

	signals     []byte // the signals that count, as they go to each worker
	signalledAt time.Time
	abandonAt   time.Time // when to end with lines that are not on disk; zero: never
}

// Keep runs workers until one ends for good, and gives its exit status. An
// error means that there can be no keeper, and that nothing was taken from the
// pipe; but with ErrTakeOver the pipe is another's.
func (k *Keeper) Keep() (int, error) {
	ended, sigs := make(chan os.Signal, 1), make(chan os.Signal, 8)
	signal.Notify(ended, unix.SIGCHLD) // before there is a worker to lose
	notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2)
	if err := k.prepare(); err != nil {
		return 0, err
	}
	k.prepareWorkers()
	makeThreads()
	debug.SetGCPercent(50) // of 4 MiB: what starting workers leaves behind stays little
	restart, reapTick := time.NewTimer(0), time.NewTicker(reapInterval)
	for {
		select {
		case <-restart.C:
			if err := k.start(); err != nil { // of memory or processes there are too few, or there is no /proc
				if s, _ := k.spool.state(); s.taken == 0 {
					debug.SetGCPercent(100)
					return 0, err
				}
				restart.Reset(k.pause())
			}
		case sig := <-sigs:
			if sig == unix.SIGUSR2 {
				k.upgrade(sigs)
			} else {
				k.signalWorker(sig)
			}
		case <-ended:
		case <-reapTick.C:
		}
		if k.overdue() {
			return k.abandon(), nil
		}
		if status, ok := k.reap(); ok {
			if k.final(status) {
				return status, nil
			}
			restart.Reset(k.pause())
		}
	}
}

// reapInterval is how often the keeper looks for a worker that has ended without
// its hearing of it: who kills a strace of the keeper may kill a SIGCHLD with it.
const reapInterval = 5 * time.Second

// signalMemory is how long a service remembers a signal for later workers: one that
// stops sends it shortly before the input ends, and any other says nothing.
const signalMemory = 10 * time.Second

// notify is signal.Notify except for signals that our parent set to be ignored, as
// nohup(1) and a shell's background do.
func notify(to chan<- os.Signal, sigs ...os.Signal) {
	for _, s := range sigs {
		if !signal.Ignored(s) {
			signal.Notify(to, s)
		}
	}
}

// start begins a worker from this very binary, even if another has its name by
// now. Its name is the path where an upgrade would look.
func (k *Keeper) start() error {
	k.startedAt = time.Now()
	if k.Service && time.Since(k.signalledAt) > signalMemory {
		k.signals = nil
	}
	var control [2]int
	if err := unix.Pipe2(control[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(control[0]) //nolint:errcheck // the worker has its own
	if k.options {
		_, _ = unix.Seek(k.OptionsFD, 0, 0) // a memory file
	}
	k.workerAttr.Files[len(k.workerAttr.Files)-1] = uintptr(control[0])
	k.spool.count(1, k.last, k.stuck) // before the worker reads it
	pid, err := syscall.ForkExec("/proc/self/exe", k.argv, &k.workerAttr)
	if err != nil {
		k.spool.count(-1, k.last, k.stuck)
		_ = unix.Close(control[1])
		return os.NewSyscallError("start a worker", err)
	}
	k.worker, k.control = pid, control[1]
	_, _ = unix.Write(k.control, k.signals)
	return nil
}

// prepareWorkers makes once what all workers are started with: garbage costs the
// keeper more than anything else.
func (k *Keeper) prepareWorkers() {
	const closed = ^uintptr(0)
	files := []uintptr{0, 1, 2}
	for len(files) <= k.OptionsFD {
		files = append(files, closed)
	}
	if k.options {
		files[k.OptionsFD] = uintptr(k.OptionsFD)
	}
	n := len(files)
	k.argv = append([]string{k.program}, k.Args...)
	for _, fd := range k.spool {
		files = append(files, uintptr(fd))
	}
	files = append(files, closed) // where control will be
	k.workerAttr.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", workerEnv, n, len(files)-1))
	k.workerAttr.Files = files
}

// reap takes the exit status of a worker that has ended; -1: a signal ended it.
func (k *Keeper) reap() (status int, ok bool) {
	if k.worker == 0 {
		return 0, false
	}
	if pid, _ := unix.Wait4(k.worker, &k.last, unix.WNOHANG, nil); pid != k.worker {
		return 0, false // it still runs
	}
	_ = unix.Close(k.control)
	k.worker = 0
	return k.last.ExitStatus(), true
}

// final reports whether the worker exited on purpose, so that no other is started.
// With an invalid configuration it did not, as long as there is a pipe or a line: they
// wait, and the next worker may find the configuration fixed. But where the exit
// status is seen, and the first worker found the mistake, nothing was promised yet.
func (k *Keeper) final(status int) bool {
	switch status {
	case 0, 75:
		return true
	case 64, 78:
		h := k.spool.history()
		return !h.Retries(k.Service) || h.Pending == 0 && Ended(os.Stdin)
	}
	return false
}

// lastGrace is how long a worker may continue after a second signal, when the input
// has ended: time for a disk that takes lines.
const lastGrace = 5 * time.Second

// overdue reports whether the input has ended and a second signal to exit was
// received, and lines still wait for a disk or a configuration.
func (k *Keeper) overdue() bool {
	return !k.abandonAt.IsZero() && time.Now().After(k.abandonAt) && k.spool.history().Pending+waiting(0) > 0
}

// abandon kills the worker, and counts what is not on disk and is lost.
func (k *Keeper) abandon() (status int) {
	if k.worker != 0 {
		_ = unix.Kill(k.worker, unix.SIGKILL)
		_, _ = unix.Wait4(k.worker, nil, 0, nil)
	}
	k.Abandoned, k.Unread = k.spool.history().Pending, waiting(0)
	return 1
}

// pause is how long to wait for the next worker. It is zero after one that lived for
// long or got something on disk.
func (k *Keeper) pause() time.Duration {
	s, _ := k.spool.state()
	if s.mark > k.marked || time.Since(k.startedAt) > 10*time.Second {
		k.marked, k.stuck = s.mark, 0
		return 0
	}
	k.stuck++
	return min(10*time.Millisecond<<min(k.stuck, 12), 30*time.Second)
}

// signalWorker passes a signal on, once for all that come within a second: systemd,
// syslog-ng, timeout(1) and a terminal each reach the whole process group.
func (k *Keeper) signalWorker(sig os.Signal) {
	if time.Since(k.signalledAt) < time.Second {
		return
	}
	if !k.signalledAt.IsZero() && k.abandonAt.IsZero() && hungUp(0) {
		k.abandonAt = time.Now().Add(lastGrace)
	}
	k.signalledAt = time.Now()
	what := byte('T')
	if sig == unix.SIGINT {
		what = 'I'
	}
	k.signals = append(k.signals, what)
	if k.worker != 0 {
		_, _ = unix.Write(k.control, []byte{what}) // one that is dying: the next one gets it from signals
	}
}
