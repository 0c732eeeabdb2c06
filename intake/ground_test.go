package intake

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const testRefuseEnv = "INTAKE_TEST_REFUSE" // the number of a system call that the kernel refuses

// refuse makes this process continue without a system call, as in a sandbox: the
// call fails with EPERM.
func refuse(number string) {
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return
	}
	_ = os.Unsetenv(testRefuseEnv)
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(n), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, os.Environ()) // for all threads
	}
	fmt.Fprintln(os.Stderr, "refuse:", err)
	os.Exit(97)
}

func TestKeeper_SaysAtOnceThatItCannotWorkInASandbox(t *testing.T) {
	for name, call := range map[string]int{
		"splice": unix.SYS_SPLICE, "tee": unix.SYS_TEE,
		"fallocate": unix.SYS_FALLOCATE, "memfd_create": unix.SYS_MEMFD_CREATE,
	} {
		t.Run(name, func(t *testing.T) {
			cmd, w := keeper(t, t.TempDir(), fmt.Sprintf("%s=%d", testRefuseEnv, call))
			write(t, w, "a\n")
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 99 {
				t.Errorf("status %d, want the 99 of a keeper that takes nothing", got)
			}
			if n := waiting(int(w.Fd())); n != 2 {
				t.Errorf("%d bytes are left in the pipe, want 2", n)
			}
		})
	}
}

// Where a limit leaves no process and no thread, the keeper waits for better
// times.
func TestKeeper_LivesOnWithoutAnotherThreadOrProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	base, err := os.MkdirTemp("/tmp", "wsrelay-intake-") //nolint:usetesting // whose directories are not for another user
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	const user = 54321
	must(t, os.Chown(base, user, user))
	dir := filepath.Join(base, "q")
	cmd, w := keeper(t, dir, fmt.Sprintf("%s=%d", testUserEnv, user))
	write(t, w, "before\n")
	waitFor(t, "the line is on disk", func() bool { return strings.Contains(segments(dir), "before\n") })
	limit := func(n string) {
		t.Helper()
		prlimit := exec.Command("prlimit", "--pid", strconv.Itoa(cmd.Process.Pid), "--nproc="+n+":")
		prlimit.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user}}
		out, err := prlimit.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	limit("0")
	kill(cmd.Process.Pid, func() {})
	write(t, w, "after\n")
	time.Sleep(500 * time.Millisecond) // it tries
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid)); err != nil {
		t.Fatal("the keeper has died")
	}
	limit("1000")
	waitFor(t, "the next worker has it on disk", func() bool { return strings.Contains(segments(dir), "after\n") })
	_ = w.Close()
	must(t, cmd.Wait())
}

func TestMakeThreads_MakesThem(t *testing.T) {
	makeThreads()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	if want := runtime.GOMAXPROCS(0) + spareThreads; len(tasks) < want {
		t.Errorf("%d threads, want %d at least", len(tasks), want)
	}
}

// The writer of the pipe still lives when the worker dies, and its successor
// finds a configuration that cannot work: the keeper waits until it is fixed,
// though it is no service.
func TestKeeper_StaysWhileBytesArePendingAndASuccessorCannotWork(t *testing.T) {
	k := noWorker(t)
	for _, tt := range []struct {
		workers uint64
		pending bool
		want    bool
	}{{1, false, true}, {1, true, true}, {2, true, false}, {2, false, false}} {
		var page [8]byte
		binary.LittleEndian.PutUint64(page[:], tt.workers)
		_, err := unix.Pwrite(k.spool[0], page[:], workersAt)
		must(t, err)
		if tt.pending {
			_, err := unix.Write(k.spool[1], []byte("a\n"))
			must(t, err)
		}
		if got := k.final(78); got != tt.want {
			t.Errorf("worker %d, bytes pending %v: final is %v, want %v", tt.workers, tt.pending, got, tt.want)
		}
	}
}
