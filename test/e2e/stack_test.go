package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stackHead is what the files of examples/stack are included in.
const (
	stackSyslogNG = `@version: current
@include "scl.conf"
destination d_wsrelay { websocket(url("URL")); };
`
	stackNginx = `
user www-data;
daemon off;
worker_processes 1;
pid nginx.pid;
events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include shop.conf;
}
`
	stackSupervisor = `
[supervisord]
logfile=/var/log/shop/supervisord.log
logfile_maxbytes=0
nodaemon=true
user=root
pidfile=supervisord.pid
[unix_http_server]
file=DIR/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://DIR/supervisor.sock
[include]
files=shop.conf.ini
`
	stackPostgreSQL = "\nlisten_addresses = ''\nunix_socket_directories = '/var/run/postgresql'\n"
)

// stack is the shop of examples/stack and all that it runs on, in a sandbox:
// the shipped files, with other paths.
type stack struct {
	*testing.T
	s     *Sandbox
	r     *Receiver
	store stackStore
	venv  string
	nginx string // host:port
	paths *strings.Replacer

	syslogNG, supervisor, web *Process
	conf                      string // of syslog-ng

	mu     sync.Mutex // guards asked and probes
	asked  map[string]asked
	probes map[string]time.Duration // by request: how long until it was found
	number atomic.Int64
	faulty bool
	files  bool     // syslog-ng reads files only
	unread []string // datagrams that syslog-ng has left behind

	striking sync.Mutex // one fault at a time
	struck   []struck
	turn     int // of the rotation
}

func newStack(t *testing.T, bin, venv string) *stack {
	t.Helper()
	s := newSandbox(t, bin)
	must(t, os.Chmod(s.Dir, 0o711)) // most of the shop is not root
	c := &stack{T: t, s: s, venv: venv, nginx: someAddr(t)}
	c.paths = strings.NewReplacer(
		"/var/run/postgresql", s.Path("run/postgresql"),
		"/var/log/", s.Path("log")+"/",
		"/run/", s.Path("run")+"/",
		"/srv/shop/venv", venv,
		"/srv/shop", s.Path("srv"),
		"listen 80;", "listen "+c.nginx+";",
		"redis://127.0.0.1:6379/0", "redis+socket://"+s.Path("redis.sock"),
		"include uwsgi_params;", "include /etc/nginx/uwsgi_params;", // nginx looks beside its own nginx.conf
		"DIR", s.Dir,
	)
	for name, owner := range map[string]string{
		"log/nginx": "root", "log/supervisor": "root", "log/redis": "root", "log/shop": "www-data",
		"log/postgresql": "postgres",
		"run/shop":       "www-data", "srv/shop": "root", "data": "postgres", "run/postgresql": "postgres",
	} {
		must(t, os.MkdirAll(s.Path(name), 0o755))
		c.run("chown", owner+":", s.Path(name))
	}
	for _, name := range []string{"log", "run", "srv"} {
		must(t, os.Chmod(s.Path(name), 0o755))
	}
	c.putFiles()
	t.Cleanup(c.tell)
	return c
}

// tell shows the last of each log, if the test has failed.
func (c *stack) tell() {
	for _, pattern := range []string{"log/*/*", "*.out", "queue/wsrelay.log"} {
		names, _ := filepath.Glob(c.s.Path(pattern))
		for _, name := range names {
			if text, _ := os.ReadFile(name); c.Failed() {
				c.Logf("%s: %s", name, text[max(0, len(text)-1000):])
			}
		}
	}
}

// putFiles puts the shipped files to where the sandbox has them.
func (c *stack) putFiles() {
	c.Helper()
	code, err := filepath.Glob(filepath.Join(c.s.root, "examples/stack/shop/*.py"))
	must(c.T, err)
	for _, name := range code {
		c.write("srv/shop/"+filepath.Base(name), c.shipped("shop/"+filepath.Base(name)))
	}
	c.write("srv/uwsgi.ini", c.shipped("uwsgi.ini"))
	c.write("shop.conf", c.shipped("nginx.conf"))
	c.write("nginx.conf", strings.TrimSpace(stackNginx))
	c.write("shop.conf.ini", strings.Replace(c.shipped("supervisor.conf"), "| socat",
		"2>>"+c.s.Path("tail.says")+" | "+strings.Join(c.traced("socat.calls", "write"), " ")+" socat", 1))
	c.write("supervisord.conf", c.paths.Replace(stackSupervisor))
}

func (c *stack) shipped(name string) string {
	c.Helper()
	file, err := os.ReadFile(filepath.Join(c.s.root, "examples/stack", name))
	must(c.T, err)
	return c.paths.Replace(string(file))
}

func (c *stack) write(name, text string) {
	c.Helper()
	must(c.T, os.WriteFile(c.s.Path(name), []byte(text), 0o644))
}

func (c *stack) run(argv ...string) string {
	c.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.s.Dir, append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// begin starts a program that ends with the test.
func (c *stack) begin(ready func() bool, name string, argv ...string) *Process {
	c.Helper()
	p, err := c.s.Start(name, argv[0], argv[1:]...)
	must(c.T, err)
	c.Cleanup(func() { must(c.T, p.Stop()) })
	must(c.T, p.waitReady(c.Context(), ready))
	return p
}

func (c *stack) start() {
	c.Helper()
	r, err := c.s.NewReceiver()
	must(c.T, err)
	c.r = r
	must(c.T, c.store.start(c))
	c.Cleanup(func() { must(c.T, r.Stop()) })
	c.conf, err = c.s.WriteConfig(strings.Replace(stackSyslogNG, "URL", r.URL(), 1) + c.shipped("syslog-ng.conf") +
		c.shipped(c.lines()))
	must(c.T, err)
	c.Cleanup(func() { stop(c.T, c.s, c.syslogNG) })
	c.startSyslogNG()
	c.begin(func() bool { return served(c.s.Path("redis.sock")) }, "redis",
		"redis-server", "--port", "0", "--unixsocket", c.s.Path("redis.sock"), "--unixsocketperm", "666", "--dir",
		c.s.Dir, "--logfile", c.s.Path("log/redis/redis-server.log"))
	c.startPostgreSQL()
	nginx := []string{"nginx", "-p", c.s.Dir, "-e", "stderr", "-c", "nginx.conf"}
	if !c.files {
		nginx = append(c.traced("nginx.calls", "sendto"), nginx...)
	}
	c.web = c.begin(func() bool { return answers(c.nginx) }, "nginx", nginx...)
	c.supervisor = c.begin(c.supervised, "supervisord", "supervisord", "-c", c.s.Path("supervisord.conf"))
}

func (c *stack) startSyslogNG() {
	c.Helper()
	sockets := []string{"run/nginx-access.sock", "run/nginx-error.sock", "run/shop-uwsgi.sock"}
	if c.files {
		sockets = []string{"syslog-ng.ctl"}
	}
	p, err := c.s.StartSyslogNG(c.Context(), c.conf, sockets...)
	must(c.T, err)
	c.syslogNG = p
}

func (c *stack) startPostgreSQL() {
	c.Helper()
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bin) == 0 {
		c.Fatal("PostgreSQL is not where Debian has it")
	}
	as := func(program string, args ...string) []string {
		return append([]string{
			"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
			filepath.Join(bin[len(bin)-1], program),
		}, args...)
	}
	c.run("chmod", "700", c.s.Path("data")) // as PostgreSQL wants it; its socket is elsewhere
	c.run(as("initdb", "-D", c.s.Path("data"), "-A", "trust", "--no-sync")...)
	write(c.T, c.s.Path("data/postgresql.conf"), c.shipped("postgresql.conf")+c.paths.Replace(stackPostgreSQL))
	server := as("postgres", "-D", c.s.Path("data"))
	ask := func(db, sql string) *exec.Cmd {
		return exec.Command("psql", "-qh", c.s.Path("run/postgresql"), "-U", "postgres", "-d", db, "-c", sql)
	}
	c.begin(func() bool { return ask("postgres", "select 1").Run() == nil }, "postgres", server...)
	for _, sql := range []string{"create role shop login", "create database shop owner shop"} {
		if out, err := ask("postgres", sql).CombinedOutput(); err != nil {
			c.Fatalf("%s: %v\n%s", sql, err, out)
		}
	}
	c.run("env", "PYTHONPATH="+c.s.Path("srv"), "DJANGO_SETTINGS_MODULE=shop.settings", c.venv+"/bin/django-admin",
		"migrate", "--run-syncdb", "-v", "0")
	c.run("chown", "-R", "www-data:", c.s.Path("log/shop"))
}

// supervised says whether the shop sells.
func (c *stack) supervised() bool {
	return c.asked[c.ask("/slow")].status == 200 && !strings.Contains(c.control("status"), "STARTING")
}

// lines is the file that says where the lines of nginx and uWSGI come from.
func (c *stack) lines() string {
	if c.files {
		return "files.conf"
	}
	return "sockets.conf"
}

// withFiles does what the README says of files.conf.
func (c *stack) withFiles() {
	c.Helper()
	c.files = true
	readme, err := os.ReadFile(filepath.Join(c.s.root, "examples/stack/README.md"))
	must(c.T, err)
	done := 0
	for line := range strings.Lines(string(readme)) {
		if strings.HasPrefix(line, "sed -i ") && strings.Contains(line, "/conf.d/shop.conf") &&
			!strings.Contains(line, "local shop") {
			command := strings.NewReplacer("/etc/nginx/conf.d/shop.conf", c.s.Path("shop.conf"),
				"/etc/supervisor/conf.d/shop.conf", c.s.Path("shop.conf.ini"), "/var/log/",
				c.s.Path("log")+"/").Replace(line)
			c.run("/bin/sh", "-c", command)
			done++
		}
	}
	if done != 2 {
		c.Errorf("the README has %d lines that change to files, want 2", done)
	}
}

func (c *stack) control(args ...string) string {
	out, _ := exec.Command("supervisorctl", append([]string{"-c", c.s.Path("supervisord.conf")}, args...)...).CombinedOutput() // status is 3 while one is not running
	return string(out)
}

var requestID = regexp.MustCompile(`[0-9a-f]{32}`)

// tutorial does what the lines of the README say that begin so, for the request,
// and gives what each printed.
func (c *stack) tutorial(begin, id string) (answers []string) {
	c.Helper()
	readme, err := os.ReadFile(filepath.Join(c.s.root, "examples/stack/README.md"))
	must(c.T, err)
	there := false
	for line := range strings.Lines(string(readme)) {
		if !strings.HasPrefix(line, begin) {
			continue
		}
		there = true
		command := strings.ReplaceAll(requestID.ReplaceAllString(line, id), "/var/lib/wsreceive/logs", c.r.StorePath())
		out := c.run("/bin/sh", "-c", "PATH="+c.s.bin+":$PATH; "+command)
		if out == "" {
			c.Errorf("%q finds nothing", line)
		}
		answers = append(answers, strings.Split(strings.TrimSpace(out), "\n")...)
	}
	if !there {
		c.Errorf("the README has no line that begins with %q", begin)
	}
	return answers
}

// stackVenv is a virtual environment with what PyPI has of the shop, which
// another user than root can read; STACK_VENV keeps it for the next time.
func stackVenv(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STACK_VENV")
	if dir == "" {
		made, err := os.MkdirTemp("", "wsrelay-venv-")
		must(t, err)
		t.Cleanup(func() { must(t, os.RemoveAll(made)) })
		must(t, os.Chmod(made, 0o755))
		dir = filepath.Join(made, "venv")
	}
	if _, err := os.Stat(filepath.Join(dir, "bin/uwsgi")); err == nil {
		return dir
	}
	for _, argv := range [][]string{
		{"/usr/bin/python3", "-m", "venv", dir},
		{filepath.Join(dir, "bin/pip"), "install", "--quiet", "-r", "../../examples/stack/requirements.txt"},
	} {
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	return dir
}

// The files of the example are ones that the programs take.
func TestStack_FilesAreValid(t *testing.T) {
	need(t, "syslog-ng", "python3")
	s := newSandbox(t, standIn(t))
	for _, lines := range []string{"sockets.conf", "files.conf"} {
		conf, err := s.WriteConfig(exampleHead + shippedExample(t, s, "stack/syslog-ng.conf", nil) +
			shippedExample(t, s, "stack/"+lines, nil))
		must(t, err)
		if out, err := syntaxOnly(t, conf); err != nil {
			t.Errorf("syslog-ng -s with %s: %v\n%s", lines, err, out)
		}
	}
	code, err := filepath.Glob(filepath.Join(s.root, "examples/stack/shop/*.py"))
	must(t, err)
	for _, name := range code {
		if out, err := exec.Command("python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())",
			name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		return
	}
	shop := strings.NewReplacer("/var/log/nginx/", s.Dir+"/", "listen 80;", "listen unix:"+s.Path("web.sock")+";",
		"include uwsgi_params;", "").
		Replace(shippedExample(t, s, "stack/nginx.conf", nil))
	must(t, os.WriteFile(s.Path("shop.conf"), []byte(shop), 0o600))
	must(t, os.WriteFile(s.Path("nginx.conf"), []byte(strings.TrimSpace(strings.Replace(stackNginx, "user www-data;",
		"", 1))), 0o600))
	if out, err := exec.Command("nginx", "-t", "-p", s.Dir, "-e", "stderr", "-c",
		"nginx.conf").CombinedOutput(); err != nil {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
}
