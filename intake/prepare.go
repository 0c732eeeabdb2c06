package intake

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Internal to keeper and worker: which descriptors are what.
const (
	workerEnv = "WSRELAY_INTERNAL_WORKER" // FIRST CONTROL: the spool's are FIRST to CONTROL-1
	adoptEnv  = "WSRELAY_INTERNAL_ADOPT"  // a handed, as JSON: the keeper was replaced by a new binary
)

// inherited is what a worker has from its keeper.
func inherited(env string) (spool kept, control int, err error) {
	var first int
	if _, err := fmt.Sscanf(env, "%d %d", &first, &control); err != nil || first >= control {
		return nil, 0, fmt.Errorf("%s=%q is not what a keeper says", workerEnv, env)
	}
	for fd := first; fd < control; fd++ {
		spool = append(spool, fd)
	}
	return spool, control, nil
}

// Wanted reports whether these arguments ask for a keeper: the input is a pipe,
// and nobody has said --keeper off. It looks no closer than that.
func Wanted(args []string, stdin *os.File) (k *Keeper, ok bool) {
	var st unix.Stat_t
	if _, worker := os.LookupEnv(workerEnv); worker || unix.Fstat(int(stdin.Fd()), &st) != nil ||
		st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, false
	}
	if FlagValue(args, "--keeper", os.Getenv("WSRELAY_KEEPER")) == "off" {
		return nil, false
	}
	fd, _ := strconv.Atoi(FlagValue(args, "--options-fd", ""))
	if fd < 3 || fd > 255 {
		fd = 0 // the worker reports what is wrong with it
	}
	return &Keeper{Args: args, OptionsFD: fd}, true
}

// Ended reports whether the input is a pipe that nobody can write to and that is
// empty.
func Ended(stdin *os.File) bool {
	return events(int(stdin.Fd())) == unix.POLLHUP
}

// hungUp reports whether nobody can write to the pipe any more.
func hungUp(pipe int) bool { return events(pipe)&unix.POLLHUP != 0 }

func events(pipe int) int16 {
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, 0) // interrupted: none yet
	return fds[0].Revents
}

// FlagValue is what follows the flag in args, the last time that it is there.
func FlagValue(args []string, flag, otherwise string) string {
	if values := FlagValues(args, flag); len(values) > 0 {
		return values[len(values)-1]
	}
	return otherwise
}

// FlagValues is what follows the flag in args, each time.
func FlagValues(args []string, flag string) (values []string) {
	for k, arg := range args {
		if v, ok := strings.CutPrefix(arg, flag+"="); ok {
			values = append(values, v)
		} else if arg == flag && k+1 < len(args) {
			values = append(values, args[k+1])
		}
	}
	return values
}

// prepare gets what outlives the workers: made anew, or handed on by the keeper
// that this one replaces.
func (k *Keeper) prepare() (err error) {
	if k.program, err = programPath(); err != nil {
		return err
	}
	if handed, ok := os.LookupEnv(adoptEnv); ok {
		_ = os.Unsetenv(adoptEnv)
		if err := k.adopt(handed); err != nil {
			return fmt.Errorf("%w: %w", ErrTakeOver, err)
		}
		return nil
	}
	if err := liftFileSize(); err != nil {
		return err
	}
	if err := probe(); err != nil {
		return err
	}
	if err := k.keepOptions(); err != nil { // first: its descriptor may be a free number, which the spool would take
		return err
	}
	_, _ = unix.FcntlInt(0, unix.F_SETPIPE_SZ, pipeSize) // not allowed: as it is
	k.spool, err = newSpool()
	return err
}

// programPath is where this program was found, so that a link that leads to it
// may lead to another one later.
func programPath() (string, error) {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return filepath.Abs(path)
	}
	return os.Executable()
}

// liftFileSize removes the limit of file sizes: the spool's size only grows, though it
// holds little.
func liftFileSize() error {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) == nil {
		return nil
	}
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil || limit.Max == unix.RLIM_INFINITY {
		limit.Cur = limit.Max
		return errors.Join(err, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	}
	return fmt.Errorf("files may not grow beyond %d bytes (ulimit -f)", limit.Max)
}

// keepOptions puts a copy that can be read again in the place of the options.
// A descriptor that cannot be read stays out, and the worker reports it.
func (k *Keeper) keepOptions() error {
	if _, err := unix.FcntlInt(uintptr(k.OptionsFD), unix.F_GETFD, 0); k.OptionsFD == 0 || err != nil {
		return nil
	}
	fd, err := unix.MemfdCreate("wsrelay-options", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "options")
	defer file.Close() //nolint:errcheck // what is left of it is the copy's descriptor
	if _, err = io.Copy(file, io.LimitReader(descriptor(k.OptionsFD), 1<<20)); err != nil {
		return nil
	}
	_, _ = unix.Seek(fd, 0, 0) // for a process that has to continue without a keeper
	k.options = true
	return os.NewSyscallError("dup3", unix.Dup3(fd, k.OptionsFD, unix.O_CLOEXEC))
}
