package intake

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Internal to keeper and worker: which descriptors are what.
const (
	workerEnv = "WSRELAY_INTERNAL_WORKER" // MIRROR CONTROL
	adoptEnv  = "WSRELAY_INTERNAL_ADOPT"  // MIRROR OPTIONS PID TOLD: the keeper was replaced by a new binary
)

// Keeper is the process that syslog-ng knows: it holds the pipe and the mirror,
// and starts a worker, which does everything else, again whenever that dies. It
// reads nothing, writes nothing and knows no configuration, so there is nothing
// in it to fail.
type Keeper struct {
	Args      []string // the worker's, os.Args[1:]
	OptionsFD int      // a descriptor that every worker reads from its beginning; 0: none
	Service   bool     // nobody looks at the exit status: a bad configuration is tried again

	mirror, options *os.File
	control         *os.File // to the worker; its end says that the keeper has died
	told            []byte   // the signals that count, as they went to the worker
	toldAt          time.Time
	program         string // where a new binary would be
}

// Keep runs workers until one ends for good, and gives its exit status.
func (k *Keeper) Keep() (int, error) {
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGUSR2) // before there is a worker to lose
	liftFileSize()
	if err := k.prepare(); err != nil {
		return 0, err
	}
	idle, mark := 0, int64(0) // workers in a row that died at once and did nothing
	for {
		born := time.Now()
		worker, ended, err := k.start()
		var status int
		if err != nil {
			status = -1 // out of memory or processes: as if it had died
		} else {
			status = k.attend(worker, ended, sigs)
		}
		if k.final(status) {
			return status, nil
		}
		if was := mark; time.Since(born) > 10*time.Second || k.mark(&mark) != was {
			idle = 0 // it lived, or got something on disk
		} else {
			idle++
		}
		k.pause(sigs, min(10*time.Millisecond<<min(idle, 12), 30*time.Second))
	}
}

// mark is how far the mirror's bytes are on disk.
func (k *Keeper) mark(m *int64) int64 {
	var b [8]byte
	_, _ = k.mirror.ReadAt(b[:], 16) // a memory file
	*m = int64(binary.LittleEndian.Uint64(b[:]))
	return *m
}

// final: the worker meant to end, and not by dying. Under a service manager that
// would start us again at once, a configuration that cannot work is no end: the
// pipe waits, and the next worker may find it mended.
func (k *Keeper) final(status int) bool {
	switch status {
	case 0, 75:
		return true
	case 64, 78:
		return !k.Service
	}
	return false
}

// liftFileSize: the mirror's size only grows, though what it holds is little.
func liftFileSize() {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) != nil && unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
	}
}

// prepare gets what outlives the workers: made anew, or handed on by the keeper
// that this one replaces, whose worker ends here.
func (k *Keeper) prepare() (err error) {
	if k.program, err = os.Executable(); err != nil {
		return err
	}
	k.program = strings.TrimSuffix(k.program, " (deleted)")
	if adopt, ok := os.LookupEnv(adoptEnv); ok {
		_ = os.Unsetenv(adoptEnv)
		var mirror, options, pid int
		var told string
		if _, err := fmt.Sscanf(adopt, "%d %d %d %q", &mirror, &options, &pid, &told); err != nil {
			return fmt.Errorf("%s=%q: %w", adoptEnv, adopt, err)
		}
		k.mirror, k.told = os.NewFile(uintptr(mirror), "mirror"), []byte(told)
		unix.CloseOnExec(mirror)
		if options > 0 {
			k.options = os.NewFile(uintptr(options), "options")
			unix.CloseOnExec(options)
		}
		_ = unix.Kill(pid, unix.SIGKILL)
		_, err = unix.Wait4(pid, nil, 0, nil)
		return os.NewSyscallError("wait4", err)
	}
	_, _ = unix.FcntlInt(0, unix.F_SETPIPE_SZ, pipeSize) // not allowed: as it is
	if k.mirror, err = newMirror(); err != nil || k.OptionsFD == 0 {
		return err
	}
	return k.keepOptions()
}

// keepOptions copies what can be read only once.
func (k *Keeper) keepOptions() error {
	fd, err := unix.MemfdCreate("wsrelay-options", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	k.options = os.NewFile(uintptr(fd), "options")
	from := os.NewFile(uintptr(k.OptionsFD), "options-fd")
	_, err = io.Copy(k.options, io.LimitReader(from, 1<<20))
	return errors.Join(err, from.Close())
}

// start begins a worker from this very binary, even if another has its name by
// now. What comes on the channel is its end.
func (k *Keeper) start() (*os.Process, <-chan int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close() //nolint:errcheck // the worker has its own
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if k.options != nil {
		_, _ = k.options.Seek(0, io.SeekStart) // a memory file
		files = append(files, make([]*os.File, max(0, k.OptionsFD-2))...)
		files[k.OptionsFD] = k.options
	}
	n := len(files)
	p, err := os.StartProcess("/proc/self/exe", append([]string{os.Args[0]}, k.Args...), &os.ProcAttr{
		Files: append(files, k.mirror, r),
		Env:   append(os.Environ(), fmt.Sprintf("%s=%d %d", workerEnv, n, n+1)),
	})
	if err != nil {
		_ = w.Close()
		return nil, nil, err
	}
	if k.control != nil {
		_ = k.control.Close()
	}
	k.control = w
	_, _ = k.control.Write(k.told)
	ended := make(chan int, 1)
	go func() {
		st, err := p.Wait()
		if err != nil {
			ended <- -1
			return
		}
		ended <- st.ExitCode()
	}()
	return p, ended, nil
}

// attend passes signals on until the worker ends.
func (k *Keeper) attend(worker *os.Process, ended <-chan int, sigs <-chan os.Signal) int {
	for {
		select {
		case status := <-ended:
			return status
		case sig := <-sigs:
			if sig == unix.SIGUSR2 {
				k.upgrade(worker.Pid)
			} else {
				k.tell(sig)
			}
		}
	}
}

func (k *Keeper) pause(sigs <-chan os.Signal, d time.Duration) {
	over := time.After(d)
	for {
		select {
		case <-over:
			return
		case sig := <-sigs:
			if sig != unix.SIGUSR2 {
				k.tell(sig)
			}
		}
	}
}

// tell passes a signal on, once for all that come within a second: systemd,
// syslog-ng, timeout(1) and a terminal each reach the whole process group.
func (k *Keeper) tell(sig os.Signal) {
	if time.Since(k.toldAt) < time.Second {
		return
	}
	k.toldAt = time.Now()
	what := byte('T')
	if sig == unix.SIGINT {
		what = 'I'
	}
	k.told = append(k.told, what)
	_, _ = k.control.Write([]byte{what}) // a worker that is dead hears it from told
}

// upgrade goes on as the binary that now has our name. It stays this process,
// so the worker stays our child: the new image ends it and starts its own. A
// binary that cannot even tell its version is not run.
func (k *Keeper) upgrade(worker int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if exec.CommandContext(ctx, k.program, "--version").Run() != nil {
		return
	}
	options := 0
	if k.options != nil {
		options = inherit(k.options)
	}
	state := fmt.Sprintf("%s=%d %d %d %q", adoptEnv, inherit(k.mirror), options, worker, k.told)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A signal between exec and the new image's handlers waits for these.
	var old unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, sigset(unix.SIGTERM, unix.SIGINT, unix.SIGUSR2), &old)
	_ = syscall.Exec(k.program, os.Args, append(os.Environ(), state))
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) // it failed: go on as we are
	unix.CloseOnExec(int(k.mirror.Fd()))
}

func inherit(f *os.File) int {
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	return int(f.Fd())
}

func sigset(sigs ...unix.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	for _, s := range sigs {
		set.Val[(s-1)/64] |= 1 << ((s - 1) % 64)
	}
	return &set
}

// Wanted tells whether these arguments ask for a keeper: the input is a pipe,
// and nobody has said --keeper off. It looks no closer than that.
func Wanted(args []string, stdin *os.File) (k *Keeper, ok bool) {
	var st unix.Stat_t
	if _, worker := os.LookupEnv(workerEnv); worker || unix.Fstat(int(stdin.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, false
	}
	if value(args, "--keeper", os.Getenv("WSRELAY_KEEPER")) == "off" {
		return nil, false
	}
	fd, _ := strconv.Atoi(value(args, "--options-fd", ""))
	if fd < 3 || fd > 255 {
		fd = 0 // the worker says what is wrong with it
	}
	return &Keeper{Args: args, OptionsFD: fd}, true
}

// value is what follows the flag in args.
func value(args []string, flag, otherwise string) string {
	for k, arg := range slices.Backward(args) {
		if v, ok := strings.CutPrefix(arg, flag+"="); ok {
			return v
		}
		if arg == flag && k+1 < len(args) {
			return args[k+1]
		}
	}
	return otherwise
}
