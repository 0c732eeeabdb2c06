package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault is something that happens to the stack while it is under load.
type fault struct {
	name string
	do   func(c *stack)
}

// struck is a fault that has happened.
type struck struct {
	name string
	at   time.Time
}

const restarted = "syslog-ng is restarted"

var stackFaults = []fault{
	{"wsrelay's worker is killed", func(c *stack) { c.killWorker() }},
	{"wsreceive is stopped for 2 s", func(c *stack) { c.away((*Process).Stop) }},
	{"log files are rotated", (*stack).rotate},
	{"wsreceive is killed, and away for 2 s", func(c *stack) { c.away(func(p *Process) error { p.Kill(); return nil }) }},
	{"syslog-ng is reloaded", func(c *stack) { must(c.T, c.syslogNG.Signal(syscall.SIGHUP)) }},
	{"uWSGI is restarted by Supervisor", func(c *stack) { c.control("restart", "uwsgi") }},
	{"Celery's worker is restarted by Supervisor", func(c *stack) { c.control("restart", "celery") }},
	{"Celery's worker is killed", func(c *stack) { c.control("signal", "KILL", "celery") }},
	{restarted, (*stack).restartSyslogNG},
	{"log files are rotated again", (*stack).rotate},
	{"nginx is reloaded", func(c *stack) { must(c.T, c.web.Signal(syscall.SIGHUP)) }},
	{"wsrelay's worker is killed while wsreceive is away", func(c *stack) {
		c.away(func(p *Process) error { p.Kill(); c.killWorker(); return nil })
	}},
}

// planFaults says in front of which request each fault comes.
func (c *stack) planFaults(n int) map[int]fault {
	plan := make(map[int]fault)
	if c.faulty {
		for i, f := range append(stackFaults, c.store.faults()...) {
			plan[n*(i+1)/(len(stackFaults)+2)] = f
		}
	}
	return plan
}

// strike lets one fault happen after the other.
func (c *stack) strike(f fault) {
	c.striking.Lock()
	defer c.striking.Unlock()
	c.struck = append(c.struck, struck{f.name, time.Now()})
	f.do(c)
}

func (c *stack) away(end func(*Process) error) {
	must(c.T, end(c.r.Process))
	time.Sleep(2 * time.Second)
	must(c.T, c.store.start(c))
}

func (c *stack) restartSyslogNG() {
	c.stopWatched()
	must(c.T, poll(c.Context(), func() (bool, error) { return c.worker() == 0, nil }))
	c.startSyslogNG()
}

// rotate renames the logs, as logrotate does, and has them opened again.
func (c *stack) rotate() {
	c.turn++
	for _, name := range []string{
		"nginx/shop-access.log", "nginx/shop-error.log", "shop/uwsgi.log", "shop/django.json",
		"shop/celery.json", "shop/beat.json", "shop/supervisord.log", "redis/redis-server.log",
	} {
		path := filepath.Join(c.s.Path("log"), name)
		if err := os.Rename(path, path+"."+strconv.Itoa(c.turn)); err != nil && !errors.Is(err, fs.ErrNotExist) { // Redis makes its file with the next entry; not all are there
			c.Error(err)
		}
	}
	must(c.T, c.web.Signal(syscall.SIGUSR1))
	must(c.T, c.supervisor.Signal(syscall.SIGUSR2))
	c.run("psql", "-qh", c.s.Path("run/postgresql"), "-U", "postgres", "-c", "select pg_rotate_logfile()")
}

func (c *stack) killWorker() {
	pid := c.worker()
	if pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
		c.Error("there is no worker to kill")
	}
}

// worker is the pid of wsrelay's worker: the child of the keeper.
func (c *stack) worker() int {
	for _, pid := range c.s.pids() {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) != "wsrelay\n" {
			continue
		}
		children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, file := range children {
			text, _ := os.ReadFile(file)
			for child := range strings.FieldsSeq(string(text)) {
				if n, err := strconv.Atoi(child); err == nil {
					return n
				}
			}
		}
	}
	return 0
}

// costs says how much was lost after each fault and before the next one; what
// was on its way to a syslog-ng that exited, by this fault.
func (c *stack) costs(rows []row) string {
	lost := make(map[int]map[string]int)
	for _, r := range rows {
		for _, l := range r.gone {
			i := c.strikeOf(l)
			if lost[i] == nil {
				lost[i] = make(map[string]int)
			}
			lost[i][r.program]++
		}
	}
	var b strings.Builder
	b.WriteString("\nfault, and what was lost by it, or from then until the next one\n")
	for i := range len(c.struck) + 1 {
		var words []string
		for _, program := range slices.Sorted(maps.Keys(lost[i-1])) {
			words = append(words, fmt.Sprintf("%s %d", program, lost[i-1][program]))
		}
		f := struck{name: "before the first"}
		if i > 0 {
			f = c.struck[i-1]
		}
		fmt.Fprintf(&b, "%-60s %s\n", f.name, cmp.Or(strings.Join(words, ", "), "nothing"))
	}
	return b.String()
}

// strikeOf is which fault the entry was lost by; -1: it was lost before the first one.
func (c *stack) strikeOf(l loss) int {
	if slices.Contains([]string{byUnread, byStream, byTail}, l.by) {
		return slices.IndexFunc(c.struck, func(f struck) bool { return f.name == restarted })
	}
	at := l.at
	if a, ok := c.asked[l.text]; ok {
		at = a.until
	} else if at.IsZero() && len(l.text) > 19 { // nginx's errors have whole seconds
		second, _ := time.ParseInLocation("2006/01/02 15:04:05", l.text[:19], time.Local)
		at = second.Add(time.Second)
	}
	last := -1
	for i, f := range c.struck {
		if !at.Before(f.at) {
			last = i
		}
	}
	return last
}

// tasksEnded says of how many tasks the log of Celery has the end, and whether
// these are all that were started.
func (c *stack) tasksEnded() (ended int, all bool) {
	names, _ := filepath.Glob(c.s.Path("log/shop/celery.json*"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		ended += strings.Count(string(text), "tasks.charge[") + strings.Count(string(text), "raised unexpected")
	}
	started := 0
	for _, a := range c.asked {
		if slices.Contains([]int{200, 202}, a.status) && (strings.HasPrefix(a.path, "/order") || a.path == "/refund") {
			started++
		}
	}
	return ended, ended >= started
}
