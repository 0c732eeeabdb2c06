package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What shipping the shop's logs takes at 100 requests a second, each of which
// is an entry of nginx, by a socket, and five of Django, by a file: STACK_COST
// is for how long, such as 60s. Once free, and once in a control group that
// allows STACK_CPU percent of a core and STACK_MEMORY MiB.
func TestShow_StackCost(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("STACK_COST"))
	if err != nil {
		t.Skip("a show, not a test: make show-stack-cost")
	}
	need(t, "syslog-ng")
	percent, mib := setting("STACK_CPU", 25), setting("STACK_MEMORY", 64)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-28s %-22s %8s %7s %7s %10s %10s %12s %9s\n", "", "bound", "entries", "took", "CPU",
		"processes", "group", "throttled", "refused")
	for _, bound := range []bool{false, true} {
		for _, p := range []struct {
			name  string
			start func(*testing.T, *Sandbox) (pids func() []int, arrived func() int)
		}{
			{"syslog-ng and wsrelay", costWsrelay},
			{"syslog-ng alone, to a file", costSyslogNG},
			{"rsyslog, to a file", costRsyslog},
		} {
			t.Run(fmt.Sprintf("%s, bound %t", p.name, bound), func(t *testing.T) {
				var g *cgroup
				words := "none"
				if bound {
					if g, err = newCgroup(t, percent, mib); err != nil {
						t.Skipf("this machine does not bound CPU and memory: %v", err)
					}
					words = fmt.Sprintf("%d %% of a core, %d MiB", percent, mib)
				}
				fmt.Fprintf(&b, "%-28s %-22s %s\n", p.name, words, costOf(t, long, g, p.start))
			})
		}
	}
	t.Log(b.String())
}

// costOf runs one way of shipping for so long, in the group if there is one. CPU
// is what the entries of so long took, also where a busy machine took longer.
func costOf(t *testing.T, long time.Duration, g *cgroup, begin func(*testing.T, *Sandbox) (func() []int,
	func() int),
) string {
	t.Helper()
	s := newSandbox(t, built(t))
	for _, dir := range []string{"run", "log/shop", "log/postgresql"} {
		must(t, os.MkdirAll(s.Path(dir), 0o755))
	}
	must(t, os.WriteFile(s.Path("log/shop/django.json"), nil, 0o600))
	if g != nil {
		s.under = g.enter()
	}
	pids, arrived := begin(t, s)
	before, started := cpuTime(pids()), time.Now()
	n, refused := feedShop(t, s, long)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return arrived() >= n, nil }); err != nil {
		t.Errorf("%d of %d entries have arrived", arrived(), n)
	}
	took := time.Since(started)
	cpu, memory := cpuTime(pids())-before, 0
	for _, pid := range pids() {
		memory += rss(pid)
	}
	group := fmt.Sprintf("%10s %12s", "", "")
	if g != nil {
		throttled, periods := g.throttled()
		group = fmt.Sprintf("%6.1f MiB %4d of %4d", float64(g.peak())/(1<<20), throttled, periods)
	}
	return fmt.Sprintf("%8d %6.1fs %6.2f%% %6.1f MiB %s %9d", arrived(), took.Seconds(),
		100*cpu.Seconds()/long.Seconds(), float64(memory)/1024, group, refused)
}

// feedShop logs as nginx and Django do. It waits where the socket is full, as
// nginx would not, and counts how often it was.
func feedShop(t *testing.T, s *Sandbox, long time.Duration) (entries, refused int) {
	t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.Path("run/nginx-access.sock"), Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	file, err := os.OpenFile(s.Path("log/shop/django.json"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer file.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range int(long / (10 * time.Millisecond)) {
		now := time.Now()
		id := fmt.Sprintf("%032x", i)
		datagram := fmt.Appendf(nil, `<190>%s nginx: {"time":"%d.%03d","request_id":%q,"ip":"203.0.113.7","method":"GET","path":"/order?item=tea","status":200,"duration_ms":12,"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0","message":"GET /order?item=tea: 200"}`,
			now.Format(time.Stamp), now.Unix(), now.UnixMilli()%1000, id)
		if !sendNow(t, conn, datagram) {
			refused++
			_, err := conn.Write(datagram)
			must(t, err)
		}
		for k := range 5 {
			line, err := json.Marshal(map[string]any{
				"time":  now.UTC().Format("2006-01-02T15:04:05.000000+00:00"),
				"level": "info", "logger": "shop.orders", "pid": 4121, "request_id": id,
				"message": fmt.Sprintf("order %d of tea, step %d", i, k),
			})
			must(t, err)
			_, err = file.Write(append(line, '\n'))
			must(t, err)
		}
		entries += 6
		<-tick.C
	}
	return entries, refused
}

// sendNow says whether the socket has taken the datagram without waiting.
func sendNow(t *testing.T, conn *net.UnixConn, datagram []byte) bool {
	t.Helper()
	raw, err := conn.SyscallConn()
	must(t, err)
	var sent error
	must(t, raw.Control(func(fd uintptr) { sent = unix.Send(int(fd), datagram, unix.MSG_DONTWAIT) }))
	if sent != nil && !errors.Is(sent, unix.EAGAIN) {
		t.Fatal(sent)
	}
	return sent == nil
}

func shopSyslogNG(t *testing.T, s *Sandbox) string {
	t.Helper()
	text := shippedExample(t, s, "stack/syslog-ng.conf", nil) + shippedExample(t, s, "stack/sockets.conf", nil)
	return strings.NewReplacer("/run/", s.Path("run")+"/", "/var/log/", s.Path("log")+"/").Replace(text)
}

func costWsrelay(t *testing.T, s *Sandbox) (func() []int, func() int) {
	r, err := s.NewReceiver()
	must(t, err)
	must(t, r.Start(t.Context()))
	t.Cleanup(func() { must(t, r.Stop()) })
	start(t, s, strings.Replace(stackSyslogNG, "URL", r.URL(), 1)+shopSyslogNG(t, s), "run/nginx-access.sock")
	pids := func() (pids []int) {
		for _, pid := range s.pids() {
			if pid != r.cmd.Process.Pid {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	must(t, poll(t.Context(), func() (bool, error) { return len(pids()) >= 4, nil })) // syslog-ng, the shell, keeper and worker
	return pids, func() int {
		n, err := r.Stored(t.Context())
		must(t, err)
		return n
	}
}

func costSyslogNG(t *testing.T, s *Sandbox) (func() []int, func() int) {
	p := start(t, s, fmt.Sprintf(`@version: current
@include "scl.conf"
destination d_wsrelay { file(%q template("$(format-json timestamp=$ISODATE host=$HOST program=$PROGRAM severity=$LEVEL message=$MSG --key .json.* --rekey .json.* --shift-levels 2 --add-prefix fields.)\n")); };
`, s.Path("out"))+shopSyslogNG(t, s), "run/nginx-access.sock")
	return func() []int { return []int{p.cmd.Process.Pid} }, linesIn(s.Path("out"))
}

func costRsyslog(t *testing.T, s *Sandbox) (func() []int, func() int) {
	dir := unpackRsyslog(t)
	write(t, s.Path("rsyslog.conf"), fmt.Sprintf(`global(workDirectory=%q)
module(load="imuxsock" SysSock.Use="off")
module(load="imfile" mode="inotify")
input(type="imuxsock" Socket=%q RateLimit.Interval="0" FlowControl="on")
input(type="imfile" File=%q Tag="django")
action(type="omfile" file=%q template="RSYSLOG_FileFormat")
`, s.Dir, s.Path("run/nginx-access.sock"), s.Path("log/shop/django.json"), s.Path("out")))
	modules, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/rsyslog"))
	command := slices.Concat(s.under, []string{
		"env", "LD_LIBRARY_PATH=" + filepath.Dir(modules[0]),
		filepath.Join(dir, "usr/sbin/rsyslogd"), "-M", modules[0], "-n", "-f", s.Path("rsyslog.conf"), "-i",
		s.Path("rsyslog.pid"),
	})
	p, err := s.Start("rsyslog", command[0], command[1:]...)
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	must(t, p.waitReady(t.Context(), func() bool { return served(s.Path("run/nginx-access.sock")) }))
	return func() []int { return []int{p.cmd.Process.Pid} }, linesIn(s.Path("out"))
}

func linesIn(name string) func() int {
	return func() int {
		text, _ := os.ReadFile(name)
		return strings.Count(string(text), "\n")
	}
}

// cpuTime is what the processes have used; the kernel counts in hundredths of a second.
func cpuTime(pids []int) (all time.Duration) {
	for _, pid := range pids {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, after, _ := strings.Cut(string(stat), ") ")
		if words := strings.Fields(after); len(words) > 12 {
			for _, word := range words[11:13] {
				n, _ := strconv.Atoi(word)
				all += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return all
}

// rss is the memory of a process, in KiB; what processes share counts in each.
func rss(pid int) (kib int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if words := strings.Fields(after); len(words) > 0 {
		kib, _ = strconv.Atoi(words[0])
	}
	return kib
}
