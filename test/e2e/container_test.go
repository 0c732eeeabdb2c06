package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// The first process of examples/containers/syslog-ng: when it exits, the kernel
// kills the rest, so all lines have to be on disk by then.
func TestContainer_FirstProcessLeavesLast(t *testing.T) {
	need(t, "syslog-ng", "unshare")
	if os.Geteuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	const lines = 1000
	s := newSandbox(t, built(t))
	conf, err := s.WriteConfig(loggenConfig(s))
	must(t, err)
	p, err := s.Start("container", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
		filepath.Join(s.root, "examples/containers/syslog-ng/start"), "--cfgfile", conf,
		"--persist-file", s.Path("syslog-ng.persist"), "--control", s.Path("syslog-ng.ctl"), "--pidfile",
		s.Path("syslog-ng.pid"))
	must(t, err)
	must(t, p.waitReady(t.Context(), func() bool { return served(s.Path(LocalSocket)) }))
	sendAll(t, "unix", s.Path(LocalSocket), []string{"seq: 0\n"})
	waitCount(t, s.QueueDir(), 1)
	relay := s.named("wsrelay")
	signal := func(sig syscall.Signal, pids ...int) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, sig) // one may have exited meanwhile
		}
	}
	wait := func(what string, done func() bool) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := poll(ctx, func() (bool, error) { return done(), nil }); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	signal(syscall.SIGSTOP, relay...)
	wait("wsrelay stands still", func() bool { return !slices.ContainsFunc(relay, runs) }) // a thread may be in a splice
	sendAll(t, "unix", s.Path(LocalSocket), slices.Repeat([]string{"seq: 1\n"}, lines-1))
	pipe, err := os.Open(fmt.Sprintf("/proc/%d/fd/0", relay[0]))
	must(t, err)
	defer pipe.Close()
	wait("the lines are in the pipe", func() bool {
		n, err := unix.IoctlGetInt(int(pipe.Fd()), unix.TIOCINQ)
		return err == nil && n >= (lines-1)*len("seq: 1\n")
	})
	signal(syscall.SIGTERM, s.named("start")...)
	wait("syslog-ng exits", func() bool { return len(s.named("syslog-ng")) == 0 })
	signal(syscall.SIGCONT, relay...)
	wait("all exit", func() bool { return !running(p) })
	if r, err := buffer.Verify(s.QueueDir(), io.Discard); err != nil || r.Head != lines+1 {
		t.Errorf("%d lines are in the queue, want %d: %v", r.Head-1, lines, err)
	}
}

// runs reports whether a thread of a process that was stopped still runs.
func runs(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(threads, func(name string) bool {
		stat, err := os.ReadFile(name)
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && !strings.HasPrefix(state, "T")
	})
}

// named lists the sandbox's processes that run a program of this name.
func (s *Sandbox) named(name string) (pids []int) {
	for _, pid := range s.pids() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // a script's is its shell, a worker's name is its keeper's doing
		if strings.TrimSpace(string(comm)) == name || filepath.Base(exe) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}
