package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What becomes of an entry between a program and syslog-ng is proved for each
// one: strace notes what the kernel has taken from nginx and from socat, and a
// second descriptor of the datagram sockets keeps what syslog-ng leaves in them.
// nginx itself says which requests it could not log, and has to say it of each.

// traced is the command that has a program's calls noted in files that begin
// with this name, one for each process.
func (c *stack) traced(name, call string) []string {
	return []string{
		"strace", "-D", "-ff", "--seccomp-bpf", "-qq", "-xx", "-s", "65536", "-e", "trace=" + call, "-o",
		c.s.Path(name),
	}
}

var (
	tracedCall = regexp.MustCompile(`^(?:sendto|write)\((\d+), "((?:\\x[0-9a-f]{2})*)", \d+(?:, 0, NULL, 0)?\) += (\d+)`)
	unlogged   = regexp.MustCompile(`send\(\) to syslog failed.* referrer: "(\S+)"`)
	headOf     = regexp.MustCompile(`^<\d+>\w+ [ \d]+ [\d:]+ nginx: `)
)

// taken is what the kernel has taken, call by call, of each process that was
// traced, in the order of their ends.
func (c *stack) taken(name string) (processes [][]string) {
	c.Helper()
	files, _ := filepath.Glob(c.s.Path(name) + ".*")
	ended := func(file string) int64 {
		info, err := os.Stat(file)
		must(c.T, err)
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(files, func(a, b string) int { return int(ended(a) - ended(b)) })
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(c.T, err)
		var calls []string
		for line := range strings.Lines(string(text)) {
			m := tracedCall.FindStringSubmatch(line)
			if m == nil || m[1] == "2" { // what it says itself
				continue
			}
			n, _ := strconv.Atoi(m[3])
			calls = append(calls, unhex(m[2])[:n])
		}
		if len(calls) > 0 {
			processes = append(processes, calls)
		}
	}
	return processes
}

// unhex is the text that strace shows as \x41\x42.
func unhex(s string) string {
	text := make([]byte, 0, len(s)/4)
	for ; s != ""; s = s[4:] {
		b, _ := strconv.ParseUint(s[2:4], 16, 8)
		text = append(text, byte(b))
	}
	return string(text)
}

// sockets are second descriptors of the datagram sockets that the process
// listens on.
func (c *stack) sockets(pid int) (fds []int) {
	c.Helper()
	all, err := os.ReadFile("/proc/net/unix")
	must(c.T, err)
	process, err := unix.PidfdOpen(pid, 0)
	must(c.T, err)
	defer unix.Close(process)
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, name := range names {
		target, _ := os.Readlink(name)
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if !isSocket {
			continue
		}
		for _, path := range []string{"run/nginx-access.sock", "run/nginx-error.sock"} {
			if !strings.Contains(string(all), " "+strings.TrimSuffix(inode, "]")+" "+c.s.Path(path)+"\n") {
				continue
			}
			number, err := strconv.Atoi(filepath.Base(name))
			must(c.T, err)
			fd, err := unix.PidfdGetfd(process, number, 0)
			must(c.T, err)
			fds = append(fds, fd)
		}
	}
	if len(fds) != 2 {
		c.Errorf("syslog-ng has %d datagram sockets of nginx, want 2", len(fds))
	}
	return fds
}

// drain closes the sockets of a process that has exited, and keeps what it has
// left in them. After the shutdown no sender can add to it.
func (c *stack) drain(fds []int) {
	c.Helper()
	buffer := make([]byte, 1<<16)
	for _, fd := range fds {
		must(c.T, unix.Shutdown(fd, unix.SHUT_RD))
		for {
			n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
			if err != nil || n == 0 {
				break
			}
			c.unread = append(c.unread, string(buffer[:n]))
		}
		must(c.T, unix.Close(fd))
	}
}

// stopWatched ends syslog-ng, and keeps what it leaves unread.
func (c *stack) stopWatched() {
	c.Helper()
	if c.files {
		must(c.T, c.syslogNG.Stop())
		return
	}
	fds := c.sockets(c.syslogNG.cmd.Process.Pid)
	must(c.T, c.syslogNG.Stop())
	c.drain(fds)
}

// Who loses an entry, and why.
const (
	byNginx  = "nginx: the socket did not take it, and nginx does not wait"
	byUnread = "syslog-ng: unread in the socket when it exited"
	byStream = "syslog-ng: unread in the connection of socat when it exited"
	byTail   = "tail: logged before the new tail started"
	byRename = "tail: logged to the renamed file after tail had left it"
)

// loss is a lost entry, and which program lost it: "" if there is no proof.
type loss struct {
	entry
	by string
}

// datagram is what distinguishes an entry of nginx in a datagram: the id of the
// request, or all of an error.
func datagram(text string) string {
	text = headOf.ReplaceAllString(text, "")
	if strings.HasPrefix(text, "{") {
		return requestID.FindString(text)
	}
	return text
}

func countBy(texts []string, of func(string) string) map[string]int {
	counts := make(map[string]int)
	for _, text := range texts {
		counts[of(text)]++
	}
	return counts
}

// blameNginx proves which program lost what nginx has logged.
func (c *stack) blameNginx(r *row, logged []entry) {
	c.Helper()
	named := c.unloggedByNginx()
	says := func(e entry) bool { return named[c.asked[e.text].referrer] }
	for i, e := range logged {
		if !r.lostAt[i] && says(e) {
			c.Errorf("nginx says that it could not log the request from %s, which has arrived",
				c.asked[e.text].referrer)
		}
	}
	if r.program == "nginx-error" { // of its errors nginx does not say it
		says = func(entry) bool { return true }
	}
	sent := countBy(slices.Concat(c.taken("nginx.calls")...), datagram)
	for _, text := range explainNginx(r, logged, sent, countBy(c.unread, datagram), says) {
		c.Errorf("%s: this has arrived, but the trace of nginx does not have it: %s", r.program, text)
	}
}

// explainNginx does so from what the kernel has taken, what syslog-ng has left
// unread, and what nginx says. It gives what has arrived without having been sent.
func explainNginx(r *row, logged []entry, sent, unread map[string]int, says func(entry) bool) (unsent []string) {
	for i, e := range logged {
		if r.lostAt[i] {
			continue
		}
		if sent[e.text]--; sent[e.text] < 0 {
			unsent = append(unsent, e.text)
		}
	}
	for i, e := range r.gone {
		switch {
		case sent[e.text] <= 0 && says(e.entry):
			r.gone[i].by = byNginx
		case sent[e.text] > 0 && unread[e.text] > 0:
			sent[e.text]--
			unread[e.text]--
			r.gone[i].by = byUnread
		}
	}
	return unsent
}

// unloggedByNginx has the referrers of the requests that nginx says it could not log.
func (c *stack) unloggedByNginx() map[string]bool {
	c.Helper()
	referrers := make(map[string]bool)
	names, _ := filepath.Glob(c.s.Path("log/nginx/shop-error.log*"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		must(c.T, err)
		for _, m := range unlogged.FindAllStringSubmatch(string(text), -1) {
			referrers[m[1]] = true
		}
	}
	return referrers
}

// blamePipe proves which program lost what uWSGI has logged. A connection is a queue:
// what is lost of it when it breaks are its last lines. A new tail starts at the
// end of the log: what no socat has written lies between the last line of one
// and the first of the next. And tail leaves a file that is renamed, and says so,
// before the program does: the last lines of a renamed file may be lost.
func (c *stack) blamePipe(r *row, logged []entry) {
	c.Helper()
	var written [][]string // by each socat
	for _, calls := range c.taken("socat.calls") {
		lines := strings.Split(strings.Join(calls, ""), "\r\n")
		written = append(written, lines[:len(lines)-1]) // the last one is cut off, or empty
	}
	says, _ := os.ReadFile(c.s.Path("tail.says"))
	left := bytes.Contains(says, []byte("has become inaccessible")) || bytes.Contains(says, []byte("has been replaced"))
	explainPipe(r, logged, written, left)
}

// explainPipe does so from what each socat has written, and from whether tail
// has left a renamed file.
func explainPipe(r *row, logged []entry, written [][]string, left bool) {
	by := writers(logged, written)
	gone := 0
	for i, lost := range r.lostAt {
		if !lost {
			continue
		}
		before, after, arrived, atEnd := -1, -1, false, true
		for k := range by {
			switch {
			case by[k] < 0:
			case k < i:
				before = by[k]
			case k > i:
				if after < 0 {
					after = by[k]
				}
				arrived = arrived || by[k] == by[i] && !r.lostAt[k]
				atEnd = atEnd && logged[k].file != logged[i].file
			}
		}
		switch {
		case by[i] >= 0 && by[i] < len(written)-1 && !arrived:
			r.gone[gone].by = byStream
		case by[i] < 0 && before >= 0 && after > before:
			r.gone[gone].by = byTail
		case by[i] < 0 && before >= 0 && after == before && atEnd && left:
			r.gone[gone].by = byRename
		}
		gone++
	}
}

// writers says which socat has written each line of the log; -1: none has.
func writers(logged []entry, written [][]string) []int {
	by := make([]int, len(logged))
	at := make(map[string][]int)
	for i, e := range logged {
		by[i] = -1
		at[e.line] = append(at[e.line], i)
	}
	next := 0
	for socat, lines := range written {
		for _, line := range lines {
			places := at[line]
			k, _ := slices.BinarySearch(places, next)
			if k < len(places) {
				by[places[k]] = socat
				next = places[k] + 1
			}
		}
	}
	return by
}

// countedByNginx is how many requests nginx says it has had, without this one.
func (c *stack) countedByNginx() int {
	c.Helper()
	words := strings.Fields(c.run("curl", "-fsS", "http://"+c.nginx+"/nginx_status"))
	if len(words) < 10 {
		c.Fatalf("nginx's status is %q", words)
	}
	n, err := strconv.Atoi(words[9]) // Active connections: 1 server accepts handled requests 31 31 31
	must(c.T, err)
	return n - 1
}
