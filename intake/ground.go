package intake

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// probe does once what workers will do with a spool all the time: a sandbox may
// allow pipes and memory files and refuse a call on them, and a worker that meets
// that has nowhere to go.
func probe() error {
	var pipes [3]int
	for i := range pipes {
		fd, err := newPipe()
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // it was for this
		pipes[i] = fd
	}
	file, err := unix.MemfdCreate("wsrelay-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(file) //nolint:errcheck // as above
	null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer unix.Close(null) //nolint:errcheck // as above
	if _, err := unix.Write(pipes[0], []byte("ab")); err != nil {
		return os.NewSyscallError("write", err)
	}
	if _, err := unix.Tee(pipes[0], pipes[1], 2, unix.SPLICE_F_NONBLOCK); err != nil {
		return os.NewSyscallError("tee", err)
	}
	at := int64(spoolPage)
	for _, move := range []struct {
		from, to int
		at       *int64
	}{{pipes[0], pipes[2], nil}, {pipes[2], file, &at}, {pipes[1], null, nil}} {
		if n, err := splice(move.from, move.to, move.at, 2); err != nil || n != 2 {
			return fmt.Errorf("splice moved %d of 2 bytes: %w", n, err)
		}
	}
	if err := unix.Fallocate(file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, spoolPage); err != nil {
		return os.NewSyscallError("fallocate", err)
	}
	return os.NewSyscallError("ftruncate", unix.Ftruncate(file, 2*spoolPage))
}

// makeThreads lets the runtime make now the threads that starting a worker may
// need later, when a limit of processes leaves none: a runtime that can make no
// thread ends the process. Threads that have nothing to do are kept forever.
func makeThreads() {
	var have, done sync.WaitGroup
	release := make(chan struct{})
	for range runtime.GOMAXPROCS(0) + spareThreads {
		have.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // each of them has one of its own
			have.Done()
			<-release
			runtime.UnlockOSThread()
		})
	}
	have.Wait()
	close(release)
	done.Wait()
}

const spareThreads = 4
