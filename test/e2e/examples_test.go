package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/test/harness"
)

// exampleHead is a syslog-ng.conf that the examples' files are included in.
const exampleHead = `@version: current
@include "scl.conf"
destination d_wsrelay { websocket(url("ws://127.0.0.1:8514/relay")); };
`

// shippedExample is a file of examples/, with parts replaced.
func shippedExample(t *testing.T, s *Sandbox, name string, parts map[string]string) string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(s.root, "examples", name))
	must(t, err)
	text := string(file)
	for old, with := range parts {
		text, err = replaceOnce(text, old, with)
		must(t, err)
	}
	return text
}

// shippedCommand is the line of an example's README that begins so, in a shell
// that finds our wsrelay.
func shippedCommand(t *testing.T, s *Sandbox, readme, begin string, parts map[string]string) []string {
	t.Helper()
	for line := range strings.Lines(shippedExample(t, s, readme, parts)) {
		if strings.HasPrefix(line, begin) {
			return []string{"/bin/sh", "-c", fmt.Sprintf("PATH=%s:$PATH; %s", s.bin, line)}
		}
	}
	t.Fatalf("%s has no line that begins with %q", readme, begin)
	return nil
}

func write(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

// endOfEntry is what app.py writes after each entry.
const endOfEntry = "\n-- end --\n"

func TestTraceback_IsOneDocument(t *testing.T) {
	need(t, "syslog-ng", "python3")
	s := newSandbox(t, standIn(t))
	name := s.Path("app.log")
	start(t, s, exampleHead+shippedExample(t, s, "traceback/syslog-ng.conf",
		map[string]string{"/var/log/shop/app.log": name}))
	out, err := exec.Command("python3", filepath.Join(s.root, "examples/traceback/app.py"), name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	written, err := os.ReadFile(name)
	must(t, err)
	docs := waitDocuments(t, s, 3)
	for i, begin := range []string{
		" INFO shop.orders: started", " ERROR shop.orders: Internal Server Error",
		" INFO shop.orders: goes on",
	} {
		if d := docs[i]; !strings.Contains(d.Message, begin) || d.Program != "shop" {
			t.Errorf("got %q of %q, want %q of shop", d.Message, d.Program, begin)
		}
	}
	for _, part := range []string{
		"\nTraceback (most recent call last):\n", "ZeroDivisionError: ", "direct cause",
		"\nsecond line of the message",
	} {
		if !strings.Contains(docs[1].Message, part) {
			t.Errorf("the traceback lacks %q: %s", part, docs[1].Message)
		}
	}
	if got := docs[0].Message + endOfEntry + docs[1].Message + endOfEntry + docs[2].Message +
		endOfEntry; got != string(written) {
		t.Errorf("got %q, want %q", got, written)
	}
}

// logrotate renames the log right after an entry, and the program opens a new one.
func TestTraceback_IsWholeWhenItsFileIsRenamed(t *testing.T) {
	need(t, "syslog-ng", "python3")
	s := newSandbox(t, standIn(t))
	name := s.Path("app.log")
	start(t, s, exampleHead+shippedExample(t, s, "traceback/syslog-ng.conf",
		map[string]string{"/var/log/shop/app.log": name}))
	run := func() {
		t.Helper()
		if out, err := exec.Command("python3", filepath.Join(s.root, "examples/traceback/app.py"),
			name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var written, arrived strings.Builder
	for turn := range 3 {
		run()
		waitFor(t, s, "lines", func(b []byte) bool { return bytes.Count(b, []byte("started")) > 2*turn }) // syslog-ng follows this file
		run()
		old := fmt.Sprintf("%s.%d", name, turn)
		must(t, os.Rename(name, old))
		text, err := os.ReadFile(old)
		must(t, err)
		written.Write(text)
	}
	write(t, name, "2026-03-14 09:00:00,123 INFO shop.orders: the last\n")
	waitFor(t, s, "lines", func(b []byte) bool { return bytes.Contains(b, []byte("the last")) })
	docs := waitDocuments(t, s, 1)
	for _, d := range docs {
		if !strings.HasSuffix(d.Message, "the last") {
			arrived.WriteString(d.Message + endOfEntry)
		}
	}
	if arrived.String() != written.String() {
		t.Errorf("%d of 18 entries have arrived: got\n%s\nwant\n%s", len(docs)-1, &arrived, &written)
	}
}

// A program that gives each file a name of its own needs no line at the end of
// an entry: no file that syslog-ng follows goes away.
func TestTraceback_IsWholeWhereEachFileHasItsOwnName(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, standIn(t))
	must(t, os.Mkdir(s.Path("log"), 0o755))
	start(t, s, exampleHead+shippedExample(t, s, "traceback/syslog-ng.conf", map[string]string{
		`file("/var/log/shop/app.log"`: fmt.Sprintf(`wildcard-file(base-dir(%q) filename-pattern("app-*.log")`,
			s.Path("log")),
	}))
	var want []string
	for day := range 3 {
		for hour := range 3 {
			entry := fmt.Sprintf("2026-03-1%d 0%d:00:00,123 ERROR shop.orders: failed\nTraceback\n  of %d.%d", day,
				hour, day, hour)
			write(t, s.Path(fmt.Sprintf("log/app-%d.log", day)), entry+"\n")
			want = append(want, entry)
		}
	}
	var got []string
	for _, d := range waitDocuments(t, s, 9) {
		got = append(got, d.Message)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedis_LogBecomesFields(t *testing.T) {
	need(t, "syslog-ng", "redis-server")
	s := newSandbox(t, standIn(t))
	name := s.Path("redis.log")
	start(t, s, exampleHead+shippedExample(t, s, "redis/syslog-ng.conf",
		map[string]string{"/var/log/redis/redis-server.log": name}))
	p, err := s.Start("redis", "redis-server", "--port", "0", "--unixsocket", s.Path("redis.sock"), "--logfile", name,
		"--dir", s.Dir, "--save", "")
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	waitFor(t, s, "lines", func(b []byte) bool { return bytes.Contains(b, []byte("eady to accept connections")) })
	parsed := 0
	for _, d := range waitDocuments(t, s, 1) {
		if d.Program != "redis" {
			t.Errorf("program is %q", d.Program)
		}
		if d.Fields == nil {
			continue // the logo
		}
		parsed++
		want := map[any]string{"#": "warning", "*": "notice", "-": "notice", ".": "debug"}[d.Fields["level"]]
		if pid := strconv.Itoa(p.cmd.Process.Pid); d.Severity != want || d.Fields["pid"] != pid || d.Message == "" ||
			d.Fields["text"] != nil {
			t.Errorf("got %+v, want severity %s and pid %s", d, want, pid)
		}
	}
	if parsed < 2 {
		t.Errorf("only %d lines were taken apart", parsed)
	}
}

func TestPostgreSQL_ErrorIsOneDocument(t *testing.T) {
	need(t, "syslog-ng", "pg_ctlcluster", "setpriv")
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bin) == 0 {
		t.Fatal("PostgreSQL is not where Debian has it")
	}
	newest := bin[len(bin)-1]
	s := newSandbox(t, standIn(t))
	must(t, os.Chmod(s.Dir, 0o711)) // PostgreSQL does not run as root
	for _, name := range []string{"data", "logs"} {
		must(t, os.Mkdir(s.Path(name), 0o700))
		if os.Geteuid() == 0 {
			must(t, os.Chown(s.Path(name), 65534, 65534))
		}
	}
	as := func(program string, args ...string) []string {
		args = append([]string{filepath.Join(newest, program)}, args...)
		if os.Geteuid() == 0 {
			args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
		}
		return args
	}
	run := func(argv []string) (string, error) {
		c := exec.Command(argv[0], argv[1:]...)
		c.Dir = s.Dir
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := run(as("initdb", "-D", s.Path("data"), "-A", "trust", "-U", "shop", "--no-sync")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf := shippedExample(t, s, "postgresql/wsrelay.conf", map[string]string{"/var/log/postgresql": s.Path("logs")})
	write(t, s.Path("data/postgresql.conf"), conf+"\nlisten_addresses = ''\nunix_socket_directories = '"+s.Path("data")+"'\n")
	start(t, s, exampleHead+shippedExample(t, s, "postgresql/syslog-ng.conf",
		map[string]string{"/var/log/postgresql": s.Path("logs")}))
	server := as("postgres", "-D", s.Path("data"))
	p, err := s.Start("postgres", server[0], server[1:]...)
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	must(t, p.waitReady(t.Context(), func() bool { return served(s.Path("data/.s.PGSQL.5432")) }))
	const statement = "select 1/0\n-- a second line"
	waitFor(t, s, "lines", func(b []byte) bool {
		if !bytes.Contains(b, []byte("division by zero")) {
			_, _ = run(as("psql", "-h", s.Path("data"), "-U", "shop", "-d", "postgres", "-c", statement)) // it may not take any yet
		}
		return bytes.Contains(b, []byte("division by zero"))
	})
	for _, d := range waitDocuments(t, s, 1) {
		if d.Message == "division by zero" {
			if d.Program != "postgresql" || d.Fields["error_severity"] != "ERROR" ||
				d.Fields["state_code"] != "22012" || d.Fields["statement"] != statement {
				t.Errorf("got %+v", d)
			}
			return
		}
	}
	t.Error("no document has the error as its message")
}

func TestTail_FollowsARotatedFile(t *testing.T) {
	s := newSandbox(t, built(t))
	r, err := s.NewReceiver()
	must(t, err)
	must(t, r.Start(t.Context()))
	t.Cleanup(func() { must(t, r.Stop()) })
	name := s.Path("app.log")
	write(t, name, "old\n")
	command := shippedCommand(t, s, "tail/README.md", "tail ",
		map[string]string{
			"tail -n 0 -F /var/log/app/app.log":        "tail -n +1 -F " + name,
			"--instance app ws://127.0.0.1:8514/relay": "--instance app " + r.URL(),
		})
	p, err := s.Start("tail", command[0], command[1:]...)
	must(t, err)
	t.Cleanup(p.KillGroup)
	waitStored(t, r, 1)
	must(t, os.Rename(name, name+".1"))
	write(t, name, "new 1\nnew 2\n")
	waitStored(t, r, 3)
	checkDocuments(t, r, []string{"old", "new 1", "new 2"})
}

// checkDocuments compares what is stored, in order.
func checkDocuments(t *testing.T, r *Receiver, want []string) {
	t.Helper()
	var got []string
	for line, err := range r.Documents(t.Context()) {
		must(t, err)
		got = append(got, string(line))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The journal is one that systemd-journal-remote has made of its export format.
func TestJournald_ContinuesBehindTheCursor(t *testing.T) {
	const remote = "/lib/systemd/systemd-journal-remote"
	need(t, "journalctl", remote)
	s := newSandbox(t, built(t))
	r, err := s.NewReceiver()
	must(t, err)
	must(t, r.Start(t.Context()))
	t.Cleanup(func() { must(t, r.Stop()) })
	command := shippedCommand(t, s, "journald/README.md", "journalctl --quiet", map[string]string{
		"journalctl -o json --cursor-file=/var/lib/wsrelay-journal.cursor": fmt.Sprintf("journalctl --quiet --file=%s -o json --cursor-file=%s", s.Path("j.journal"), s.Path("cursor")),
		"--instance journal --drain 30s ws://127.0.0.1:8514/relay":         "--instance journal --drain 30s " + r.URL(),
	})
	began := time.Now().Add(-time.Hour).UnixMicro()
	stored := 0
	for round, messages := range [][]string{{"first", "se\"cond é"}, {"third"}} {
		var export strings.Builder
		for k, m := range messages {
			at := began + int64(1000*(10*round+k))
			fmt.Fprintf(&export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE=%s\nPRIORITY=6\n_SYSTEMD_UNIT=shop.service\n\n", at, at, m)
		}
		c := exec.Command(remote, "-o", s.Path("j.journal"), "-")
		c.Stdin = strings.NewReader(export.String())
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		p, err := s.Start("journal", command[0], command[1:]...)
		must(t, err)
		<-p.done
		if p.err != nil {
			t.Fatalf("%v: %s", p.err, p.output())
		}
		stored += len(messages)
		waitStored(t, r, stored)
	}
	var got []string
	for line, err := range r.Documents(t.Context()) {
		must(t, err)
		var entry map[string]string
		must(t, json.Unmarshal(line, &entry))
		if entry["_SYSTEMD_UNIT"] != "shop.service" || entry["__CURSOR"] == "" {
			t.Errorf("got %s", line)
		}
		got = append(got, entry["MESSAGE"])
	}
	if want := []string{"first", "se\"cond é", "third"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// rsyslog sends what was not confirmed again: nothing is lost, and little comes
// twice.
func TestRsyslog_SendsAgainWhatAKilledWsrelayHasNotConfirmed(t *testing.T) {
	const lines, kills = 600, 3
	dir := unpackRsyslog(t)
	s := newSandbox(t, built(t))
	r, err := s.NewReceiver()
	must(t, err)
	conf := shippedExample(t, s, "rsyslog/wsrelay.conf", map[string]string{
		"/usr/bin/wsrelay":            filepath.Join(s.bin, "wsrelay"),
		"ws://127.0.0.1:8514/relay\"": r.URL() + "\"",
	})
	write(t, s.Path("rsyslog.conf"), fmt.Sprintf(`global(workDirectory=%q)
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q RateLimit.Interval="0" FlowControl="on")
`, s.Dir, s.Path("log.sock"))+conf)
	modules, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/rsyslog"))
	rsyslogd, err := s.Start("rsyslog", "env", "LD_LIBRARY_PATH="+filepath.Dir(modules[0]),
		filepath.Join(dir, "usr/sbin/rsyslogd"),
		"-M", modules[0], "-n", "-f", s.Path("rsyslog.conf"), "-i", s.Path("rsyslog.pid"))
	must(t, err)
	t.Cleanup(func() {
		must(t, rsyslogd.Stop())
		must(t, s.WaitChildren(t.Context()))
	})
	must(t, rsyslogd.waitReady(t.Context(), func() bool { return served(s.Path("log.sock")) }))
	conn, err := net.Dial("unixgram", s.Path("log.sock"))
	must(t, err)
	defer conn.Close()
	for k := range lines {
		_, err := fmt.Fprintf(conn, "<13>Mar 14 09:00:00 shop[7]: line %d", k)
		must(t, err)
		if k%(lines/(kills+1)) == lines/(kills+1)-1 && k < lines-1 {
			killRelay(t, s)
		}
	}
	must(t, r.Start(t.Context()))
	t.Cleanup(func() { must(t, r.Stop()) })
	waitStored(t, r, lines)
	next, twice := 0, 0
	for line, err := range r.Documents(t.Context()) {
		must(t, err)
		var d document
		must(t, json.Unmarshal(line, &d))
		n, err := strconv.Atoi(strings.TrimPrefix(d.Message, "line "))
		if err != nil || d.Program != "shop" || d.PID != "7" || d.Severity != "notice" {
			t.Fatalf("got %s", line)
		}
		switch n {
		case next:
			next++
		case next - 1:
			twice++
		default:
			t.Fatalf("line %d came, want %d", n, next)
		}
	}
	if next != lines || twice > kills {
		t.Errorf("%d lines and %d twice, want %d and at most %d", next, twice, lines, kills)
	}
}

// killRelay kills the wsrelay of the sandbox, once there is one.
func killRelay(t *testing.T, s *Sandbox) {
	t.Helper()
	must(t, poll(t.Context(), func() (bool, error) {
		for _, pid := range s.pids() {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) == "wsrelay\n" {
				return syscall.Kill(pid, syscall.SIGKILL) == nil, nil
			}
		}
		return false, nil
	}))
}

// unpackRsyslog gets Debian's rsyslog beside the system's packages: installed
// it would take the place of syslog-ng.
func unpackRsyslog(t *testing.T) string {
	t.Helper()
	need(t, "apt-get", "dpkg")
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "wsrelay-rsyslog")
	if _, err := os.Stat(filepath.Join(dir, "usr/sbin/rsyslogd")); err == nil {
		return dir
	}
	must(t, os.MkdirAll(dir, 0o755))
	c := exec.CommandContext(t.Context(), "/bin/sh", "-ec", `
		apt-get -qq download rsyslog libestr0 libfastjson4 libyaml-0-2
		for deb in *.deb; do dpkg -x "$deb" .; rm "$deb"; done`)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		harness.Lack(t, fmt.Sprintf("rsyslog cannot be downloaded: %v\n%s", err, out))
	}
	return dir
}
