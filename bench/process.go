package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program that runs in a sandbox, and those that it has started.
type process struct {
	name string
	log  string // path of what it wrote to stderr, and to stdout
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// wait waits for the end of the process, with one of these exit statuses.
func (p *process) wait(statuses ...int) error {
	<-p.done
	for _, status := range statuses {
		if p.cmd.ProcessState.ExitCode() == status {
			return nil
		}
	}
	return p.complain("ended (%v)", p.cmd.ProcessState)
}

// complain is an error with the process's own words.
func (p *process) complain(format string, args ...any) error {
	words, _ := os.ReadFile(p.log) // what is there
	return fmt.Errorf("%s %s: %s", p.name, fmt.Sprintf(format, args...),
		bytes.TrimSpace(words[max(0, len(words)-1000):]))
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process and those of its group.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(20 * time.Second):
		p.kill()
		return p.complain("did not end within 20 s of SIGTERM")
	}
}

// usage is what a process and its children take.
type usage struct {
	cpu       time.Duration // since they began
	rss, peak int64         // bytes; 0 when it has ended
}

// usage reads clocks of the kernel that are exact, other than those of ps.
func (p *process) usage() (u usage) {
	if p.ended() {
		u.cpu = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
		return u
	}
	for _, pid := range p.family() {
		var ts unix.Timespec
		if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil { // clock_getcpuclockid(3)
			u.cpu += time.Duration(ts.Nano())
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		u.rss += kilobytes(status, "VmRSS:")
		u.peak += kilobytes(status, "VmHWM:")
	}
	return u
}

// pss is the memory of a process and its children where a page that several
// processes map is counted in parts, in bytes.
func (p *process) pss() (n int64) {
	for _, pid := range p.family() {
		smaps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		n += kilobytes(smaps, "\nPss:")
	}
	return n
}

// family is the process and its children.
func (p *process) family() []int {
	pids := []int{p.cmd.Process.Pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[0]))
	for _, name := range tasks {
		children, _ := os.ReadFile(name)
		for child := range strings.FieldsSeq(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func kilobytes(status []byte, field string) int64 {
	_, rest, _ := bytes.Cut(status, []byte(field))
	var n int64
	_, _ = fmt.Sscanf(string(rest[:min(len(rest), 40)]), "%d kB", &n) // 0 of a process that is gone
	return n << 10
}
