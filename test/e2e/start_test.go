package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the sandbox's wsrelay, which a test breaks and fixes while
// syslog-ng runs.
type program struct {
	t *testing.T
	s *Sandbox
}

func (p program) path() string { return filepath.Join(p.s.bin, "wsrelay") }

// put makes a file the program, at once as an installer would.
func (p program) put(content []byte, mode os.FileMode) {
	p.t.Helper()
	must(p.t, os.WriteFile(p.path()+".new", content, 0o700))
	must(p.t, os.Chmod(p.path()+".new", mode))
	p.remove()
	must(p.t, os.Rename(p.path()+".new", p.path()))
}

func (p program) script(text string) { p.put([]byte("#!/bin/sh\n"+text+"\n"), 0o755) }

func (p program) whole() []byte {
	b, err := os.ReadFile(filepath.Join(built(p.t), "wsrelay"))
	must(p.t, err)
	return b
}

func (p program) remove() { must(p.t, os.RemoveAll(p.path())) }

func (p program) fix() { p.put(p.whole(), 0o755) }

// newProgram is a sandbox with a wsrelay of its own, and with a logger(1) whose
// words are in the file "said". The shell, if there is one, stands in for
// /bin/sh.
func newProgram(t *testing.T, shell, prepare string) program {
	t.Helper()
	s := newSandbox(t, built(t))
	s.bin = s.Path("a program")
	for _, dir := range []string{s.bin, s.Path("path")} {
		must(t, os.Mkdir(dir, 0o755))
	}
	logger := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\n", s.Path("said"))
	must(t, os.WriteFile(s.Path("path/logger"), []byte(logger), 0o755))
	s.env = append(s.env, "PATH="+s.Path("path")+":"+os.Getenv("PATH"))
	if shell != "" {
		path, err := exec.LookPath(shell)
		must(t, err)
		prepare = fmt.Sprintf("mount --bind %s /bin/sh\n", path) + prepare
	}
	if prepare != "" {
		if os.Getuid() != 0 {
			t.Skip("needs root")
		}
		s.under = []string{"unshare", "--mount", "bash", "-c", "set -e\n" + prepare + "\nexec \"$0\" \"$@\""}
	}
	return program{t, s}
}

// start runs syslog-ng with the block, which writes to a queue.
func (p program) start(options string) *Process {
	p.t.Helper()
	proc := start(p.t, p.s, p.config(options), LocalSocket)
	return proc
}

func (p program) config(options string) string {
	return fmt.Sprintf(`%ssource s { unix-dgram(%q flags(no-parse)); };
		destination d { websocket(url(%q) template("$MSG\n") options(%q)); };
		log { source(s); destination(d); flags(flow-control); };`, header, p.s.Path(LocalSocket), nobody, options)
}

// feed sends numbered lines, one each 10 ms.
func (p program) feed(from, n int) {
	p.t.Helper()
	conn, err := net.Dial("unixgram", p.s.Path(LocalSocket))
	must(p.t, err)
	defer conn.Close()
	must(p.t, conn.SetWriteDeadline(time.Now().Add(time.Minute))) // a destination that was dropped holds the source up
	for k := range n {
		_, err := fmt.Fprintf(conn, "seq: %d", from+k)
		must(p.t, err)
		time.Sleep(10 * time.Millisecond)
	}
}

// said is what went to syslog.
func (p program) said() []string {
	b, _ := os.ReadFile(p.s.Path("said")) // none: nothing
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// noTemp leaves a shell no place for a temporary file.
func noTemp(s *Sandbox) string {
	return fmt.Sprintf(`mount --bind %[1]s /mnt
mount -t tmpfs none /tmp
mkdir -p %[1]s
mount --bind /mnt %[1]s
mount -o remount,ro /tmp
mount -t tmpfs -o ro none /var/tmp
cd /proc
export BASH_COMPAT=50`, s.Dir)
}

func TestStart_AProgramThatCannotBeStartedLosesNoLine(t *testing.T) {
	need(t, "syslog-ng", "busybox", "bash", "dash")
	lines := long(t, "START_LINES", 100)
	for _, tt := range []struct {
		name   string
		shell  string
		broken func(p program)
		fixed  func(p program)
	}{
		{name: "an empty file", broken: func(p program) { p.put(nil, 0o755) }},
		{name: "an empty file, bash", shell: "bash", broken: func(p program) { p.put(nil, 0o755) }},
		{name: "an empty file, busybox", shell: "busybox", broken: func(p program) { p.put(nil, 0o755) }},
		{name: "cut to 4 KiB", broken: func(p program) { p.put(p.whole()[:4096], 0o755) }},
		{name: "cut to 4 KiB, bash", shell: "bash", broken: func(p program) { p.put(p.whole()[:4096], 0o755) }},
		{name: "cut to 4 KiB, busybox", shell: "busybox", broken: func(p program) { p.put(p.whole()[:4096], 0o755) }},
		{name: "of another architecture, bash", shell: "bash", broken: func(p program) {
			b := p.whole()
			b[18] ^= 0xff // e_machine
			p.put(b, 0o755)
		}},
		{name: "not executable", broken: func(p program) { p.put(p.whole(), 0o644) }},
		{name: "not executable, bash", shell: "bash", broken: func(p program) { p.put(p.whole(), 0o644) }},
		{name: "a noexec mount", broken: func(p program) {
			if os.Getuid() != 0 {
				p.t.Skip("needs root")
			}
			must(p.t, syscall.Mount("none", p.s.bin, "tmpfs", syscall.MS_NOEXEC, ""))
			p.t.Cleanup(func() { _ = syscall.Unmount(p.s.bin, syscall.MNT_DETACH) })
			p.fix()
		}, fixed: func(p program) { must(p.t, syscall.Mount("none", p.s.bin, "tmpfs", syscall.MS_REMOUNT, "")) }},
		{name: "missing", broken: func(p program) { p.remove() }},
		{name: "missing, busybox", shell: "busybox", broken: func(p program) { p.remove() }},
		{name: "a directory", broken: func(p program) { must(p.t, os.MkdirAll(p.path(), 0o755)) }},
		{name: "its interpreter is missing", broken: func(p program) { p.put([]byte("#!/nonexistent\n"), 0o755) }},
		{name: "ends with 0 at once", broken: func(p program) { p.script("exit 0") }},
		{name: "ends with 1 at once", broken: func(p program) { p.script("exit 1") }},
		{name: "ends with 127 at once", broken: func(p program) { p.script("exit 127") }},
		{name: "killed by a filter of system calls", broken: func(p program) { p.script("kill -SYS $$") }},
		{name: "replaced by an empty file while it runs, then killed", broken: func(p program) { p.fix() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, tt.shell, "")
			tt.broken(p)
			proc := p.start("")
			if strings.HasPrefix(tt.name, "replaced") {
				worker := waitWorker(t, p.s.QueueDir())
				p.put(nil, 0o755)
				for _, pid := range []int{keeperOf(worker), worker} {
					must(t, syscall.Kill(pid, syscall.SIGKILL))
				}
			}
			p.feed(0, lines)
			if tt.fixed == nil {
				tt.fixed = program.fix
			}
			tt.fixed(p)
			p.check(proc, lines)
			if got := p.said(); len(got) != 1 || !strings.Contains(got[0], "cannot start "+p.path()) {
				t.Errorf("syslog has %q, want one message", got)
			}
		})
	}
}

// check ends syslog-ng, once the queue has the lines, and counts them.
func (p program) check(proc *Process, lines int) {
	p.t.Helper()
	waitCount(p.t, p.s.QueueDir(), lines)
	stop(p.t, p.s, proc)
	if got, want := count(p.t, p.s.QueueDir(), 0, lines), (tally{lines: lines}); got != want {
		p.t.Errorf("got %+v, want %+v", got, want)
	}
}

// Bash before 5.1 makes a temporary file of each here-document.
func TestStart_TheShellNeedsNoTemporaryFile(t *testing.T) {
	need(t, "syslog-ng", "bash")
	p := newProgram(t, "bash", "true")
	p.s.under[len(p.s.under)-1] = strings.Replace(p.s.under[len(p.s.under)-1], "true\n", noTemp(p.s)+"\n", 1)
	p.fix()
	proc := p.start("")
	p.feed(0, 400)
	p.check(proc, 400)
	if got := p.said(); got[0] != "" {
		t.Errorf("syslog has %q, want nothing", got)
	}
}

// syslog-ng gives a destination up whose command ends with 127.
func TestStart_AProgramThatComesBackNeedsNoReload(t *testing.T) {
	need(t, "syslog-ng")
	p := newProgram(t, "", "")
	proc := p.start("")
	p.feed(0, 100)
	p.fix()
	p.feed(100, 100)
	waitCount(t, p.s.QueueDir(), 200)
	must(t, proc.Signal(syscall.SIGHUP))
	p.feed(200, 200)
	p.check(proc, 400)
}

// Without a program that runs, what is in the pipe when syslog-ng ends is what
// the next one begins with; so it is when a reload gives it another one.
func TestStart_WhatAnEndLeavesInThePipeComesFirst(t *testing.T) {
	need(t, "syslog-ng", "busybox", "bash", "dash")
	for _, shell := range []string{"dash", "bash", "busybox"} {
		for _, how := range []string{"a restart", "a reload"} {
			t.Run(how+", "+shell, func(t *testing.T) {
				t.Parallel()
				p := newProgram(t, shell, "")
				proc := p.start("")
				p.feed(0, 100)
				if how == "a reload" {
					p.fix()
					p.script("exit 1")
					_, err := p.s.WriteConfig(p.config("drain=1s"))
					must(t, err)
					must(t, proc.Signal(syscall.SIGHUP))
					p.waitUnread()
					p.fix()
				} else {
					stop(t, p.s, proc)
					p.waitUnread()
					p.fix()
					proc = p.start("")
				}
				p.feed(100, 300)
				p.check(proc, 400)
				if left, _ := filepath.Glob(p.s.Path("un read/*")); len(left) > 0 {
					t.Errorf("%q are left", left)
				}
			})
		}
	}
}

func (p program) waitUnread() {
	p.t.Helper()
	for range 1000 {
		if there, _ := filepath.Glob(p.s.Path("un read/*.lines")); len(there) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.t.Fatal("the pipe's content is in no file")
}
