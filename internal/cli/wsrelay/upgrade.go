package wsrelay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
	"wsrelay/internal/cli"
)

// upgradeCmd is wsrelay upgrade.
type upgradeCmd struct {
	Instance string `default:"default" env:"WSRELAY_INSTANCE" help:"Name of the relay. Default: ${default}."`
	QueueDir string `placeholder:"DIR" env:"WSRELAY_QUEUE_DIR" help:"Its queue directory. Default: ${queue_dir}."`
}

const (
	upgradeWait = 30 * time.Second
	stillOld    = "no line is lost: the old program continues"
)

// Run asks the keeper to continue as the program that now stands in its place, and
// waits until that has the queue.
func (u *upgradeCmd) Run(s *stdio) error {
	if u.QueueDir == "" {
		u.QueueDir = queueDir(u.Instance)
	}
	old, err := running(u.QueueDir)
	if err != nil {
		return err
	}
	if _, waiting := buffer.Locked(u.QueueDir); len(waiting) > 0 {
		return &cli.Error{
			Err: fmt.Errorf("another wsrelay waits for the queue %q", u.QueueDir), Effect: "nothing has changed",
			Hint: "stop that one, which would take the queue over, or give it an instance of its own; then upgrade again", Code: exitFailed,
		}
	}
	was, err := programVersion(old.keeper.path("exe"))
	if err != nil {
		return err
	}
	is, err := programVersion(old.program)
	if err != nil {
		return &cli.Error{
			Err:    fmt.Errorf("%s does not run: %w", old.program, err),
			Effect: stillOld, Hint: "install a wsrelay that runs, then upgrade again", Code: exitFailed,
		}
	}
	if err := unix.Kill(int(old.keeper), unix.SIGUSR2); err != nil {
		return fmt.Errorf("signal the keeper, process %d: %w", old.keeper, err)
	}
	for end := time.Now().Add(upgradeWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now, err := running(u.QueueDir); err == nil && now.worker != old.worker && now.keeper == old.keeper &&
			sameFile(now.worker.path("exe"), now.program) {
			fmt.Fprintf(s.out, "upgraded from %s to %s: process %d has the same pipe, process %d has the queue\n", was,
				is, now.keeper, now.worker)
			return nil
		}
	}
	return &cli.Error{
		Err:    fmt.Errorf("the relay of %q did not continue as version %s within %v", u.QueueDir, is, upgradeWait),
		Effect: "no line is lost: the pipe waits", Hint: "look into its log", Code: exitFailed,
	}
}

// pid is a process.
type pid int

func (p pid) path(name string) string { return fmt.Sprintf("/proc/%d/%s", p, name) }

// relayProcesses are those of a running wsrelay.
type relayProcesses struct {
	keeper, worker pid
	program        string // what the keeper would upgrade to
}

// running finds the processes that have the queue. They are this user's, who is
// about to run what they say is their program: anybody who may read the
// directory can lock it.
func running(dir string) (*relayProcesses, error) {
	worker, _ := buffer.Locked(dir)
	if worker == 0 {
		return nil, noRelay(fmt.Errorf("no wsrelay runs with the queue %q", dir))
	}
	p := &relayProcesses{worker: pid(worker)}
	args, err := os.ReadFile(p.worker.path("cmdline"))
	if err != nil {
		return nil, noRelay(fmt.Errorf("the wsrelay with the queue %q has ended: %w", dir, err))
	}
	name, _, _ := bytes.Cut(args, []byte{0})
	p.program = string(name) // the keeper sets it so
	if p.keeper, err = parent(p.worker); err != nil {
		return nil, err
	}
	for _, p := range []pid{p.worker, p.keeper} {
		if err := ours(p.path("")); err != nil {
			return nil, err
		}
	}
	if !sameFile(p.keeper.path("exe"), p.worker.path("exe")) {
		return nil, &cli.Error{
			Err: fmt.Errorf("the wsrelay with process id %d has no keeper", worker), Effect: "nothing has changed",
			Hint: "restart it, or what started it; only a keeper (see --keeper) can hold the input meanwhile",
			Code: exitFailed,
		}
	}
	return p, nil
}

// ours reports an error unless this very user has made the file, or runs the process.
func ours(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return noRelay(fmt.Errorf("look at %s: %w", path, err))
	}
	if int(st.Uid) != os.Geteuid() {
		return &cli.Error{
			Err: fmt.Errorf("%s belongs to the user with id %d", path, st.Uid), Effect: "nothing has changed",
			Hint: "upgrade as the user that this wsrelay runs as: it decides which program that is", Code: exitFailed,
		}
	}
	return nil
}

func noRelay(err error) error {
	return &cli.Error{
		Err: err, Effect: "nothing has changed", Hint: "name a running relay with --instance or --queue-dir",
		Code: exitFailed,
	}
}

func parent(p pid) (pid, error) {
	stat, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return 0, err
	}
	// PID (NAME) STATE PPID …; the name may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, errors.New(p.path("stat") + " is not as in proc(5)")
	}
	n, err := strconv.Atoi(fields[1])
	return pid(n), err
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// programVersion is what the program says of itself.
func programVersion(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "wsrelay "), err
}
