package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An upgrade makes the keeper continue as the binary that is now in its place. It
// stays the same process, with the same pipe and spool, so the worker stays
// its child. At every step a process has the pipe:
//
//  1. A binary that cannot even print its version is not run.
//  2. execve(2); the old worker lives. If it fails, the old program continues.
//  3. The new keeper has its handlers, and kills and reaps the old worker.
//  4. It starts its own, which continues where the spool and the queue say.
//
// A worker that dies between 1 and 3 stays a zombie of this process until 3:
// its pid is not another's.
func (k *Keeper) upgrade(sigs <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if exec.CommandContext(ctx, k.program, "--version").Run() != nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A signal that comes between here and the new image's handlers waits for these.
	var old unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, sigset(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2), &old)
	for len(sigs) > 0 {
		if sig := <-sigs; sig != unix.SIGUSR2 {
			k.signalWorker(sig)
		}
	}
	k.inherit(0)
	to, _ := json.Marshal(handed{k.spool, k.options, k.worker, k.signals}) // cannot fail
	_ = syscall.Exec(k.program, append([]string{k.program}, k.Args...), append(os.Environ(), adoptEnv+"="+string(to)))
	k.inherit(unix.FD_CLOEXEC)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

// ErrTakeOver means that the keeper before was of another version, and that its
// worker, which this one cannot know of, still reads the pipe.
var ErrTakeOver = errors.New("this version cannot take over from the previous one")

// handed is what one keeper hands on to the next.
type handed struct {
	Spool   kept
	Options bool   // there are, and can be read again
	Worker  int    // pid; 0: none lived
	Signals []byte `json:"Told"` // the signals that count; the name is that of other versions
}

// adopt takes over from the keeper that upgrade has replaced.
func (k *Keeper) adopt(from string) error {
	var h handed
	if err := json.Unmarshal([]byte(from), &h); err != nil || len(h.Spool) == 0 {
		return fmt.Errorf("%s=%q is not what a keeper hands on", adoptEnv, from)
	}
	k.spool, k.options, k.worker, k.signals = h.Spool, h.Options, h.Worker, h.Signals
	if len(k.signals) > 0 {
		k.signalledAt = time.Now() // or not long ago
	}
	k.inherit(unix.FD_CLOEXEC)
	s, err := k.spool.state()
	if err != nil {
		return fmt.Errorf("adopt the spool: %w", err)
	}
	k.marked = s.mark
	if k.worker == 0 {
		return nil // none was running, and the new program may not have what ended them
	}
	_ = unix.Kill(k.worker, unix.SIGKILL) // a child of ours, if only a dead one
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = unix.Wait4(k.worker, nil, 0, nil)
	}
	k.worker = 0
	return nil
}

// inherit sets the flags of what the new image needs.
func (k *Keeper) inherit(flags int) {
	fds := k.spool
	if k.options {
		fds = append(slices.Clip(fds), k.OptionsFD)
	}
	for _, fd := range fds {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags)
	}
}

func sigset(sigs ...unix.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	for _, s := range sigs {
		set.Val[(s-1)/64] |= 1 << ((s - 1) % 64)
	}
	return &set
}
