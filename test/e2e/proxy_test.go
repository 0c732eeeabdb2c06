package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/test/certs"
)

// proxyConf runs nginx in the sandbox with the shipped server block.
const proxyConf = `
daemon off;
worker_processes 2;
worker_shutdown_timeout 50ms;
pid proxy.pid;
error_log proxy.log;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include wsreceive.conf;
}
`

func TestProxy_ReloadedUnderLoadLosesAndDoublesNothing(t *testing.T) {
	need(t, "nginx")
	const reloads, rate = 6, 20_000
	s := newSandbox(t, built(t))
	must(t, certs.Write(s.Dir, "logs.example.com"))
	key := s.Path("key")
	must(t, exec.Command(filepath.Join(s.bin, "wsrelay"), "keygen", "--name", "web-1", key).Run())

	r, err := s.NewReceiver()
	must(t, err)
	r.Process, err = s.Start("wsreceive", r.Program(), "--listen", r.Addr, "--to", "logs:"+r.StorePath(), "--keys", key,
		"--behind-proxy")
	must(t, err)
	t.Cleanup(func() { must(t, r.Stop()) })
	must(t, r.waitReady(t.Context(), func() bool { return answers(r.Addr) }))
	proxy, addr := startProxyIn(t, s, r.Addr)

	relay := exec.Command(filepath.Join(s.bin, "wsrelay"), "--key-file", key, "--tls-ca", s.Path("ca.pem"), "--drain",
		"60s", "wss://"+addr+"/relay")
	relay.Env = s.env
	var log bytes.Buffer
	relay.Stderr = &log
	stdin, err := relay.StdinPipe()
	must(t, err)
	must(t, relay.Start())

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	end, stop := context.WithCancel(ctx)
	written := make(chan int)
	go func() { written <- writeLines(end, stdin, rate) }()
	for range reloads {
		stored, err := r.Stored(ctx)
		must(t, err)
		must(t, r.WaitStored(ctx, stored+rate/4)) // it flows
		before := sessions(t, r)
		must(t, proxy.Signal(syscall.SIGHUP))
		must(t, poll(ctx, func() (bool, error) { return sessions(t, r) > before, nil }))
	}
	stop()
	n := <-written
	if err := relay.Wait(); err != nil {
		t.Fatalf("wsrelay: %v\n%s", err, log.Bytes())
	}

	next := 0
	for document, err := range r.Documents(t.Context()) {
		must(t, err)
		if got, want := string(document), proxyLine(next); got != want {
			t.Fatalf("document %d is %q, want %q", next, got, want)
		}
		next++
	}
	if next != n {
		t.Errorf("%d documents, want %d", next, n)
	}
	if got := sessions(t, r); got <= reloads {
		t.Errorf("%d sessions: the reloads have tested nothing", got)
	}
	last := bytes.TrimSpace(log.Bytes())
	t.Logf("%d lines, %d sessions; %s", n, sessions(t, r), last[bytes.LastIndexByte(last, '\n')+1:])
}

func proxyLine(n int) string { return fmt.Sprintf("line %07d of a test through a proxy", n) }

// writeLines writes about rate lines a second until ctx ends, and then closes w.
func writeLines(ctx context.Context, w io.WriteCloser, rate int) (n int) {
	defer w.Close()
	out := bufio.NewWriter(w)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		for range rate / 100 {
			fmt.Fprintln(out, proxyLine(n))
			n++
		}
		if out.Flush() != nil {
			return n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return n
}

// startProxyIn runs nginx in front of a receiver until the test ends.
func startProxyIn(t *testing.T, s *Sandbox, receiver string) (p *Process, addr string) {
	t.Helper()
	addr = someAddr(t)
	text, err := os.ReadFile(filepath.Join(s.root, "examples/proxy/wsreceive.conf"))
	must(t, err)
	conf := string(text)
	for old, new := range map[string]string{
		"listen 443 ssl":          "listen " + addr + " ssl",
		"/etc/nginx/tls/logs.pem": s.Path("server.pem"),
		"/etc/nginx/tls/logs.key": s.Path("server.key"),
		"127.0.0.1:8514":          receiver,
	} {
		conf, err = replaceOnce(conf, old, new)
		must(t, err)
	}
	must(t, os.WriteFile(s.Path("wsreceive.conf"), []byte(conf), 0o600))
	must(t, os.WriteFile(s.Path("proxy.conf"), []byte(strings.TrimSpace(proxyConf)), 0o600))
	p, err = s.Start("proxy", "nginx", "-p", s.Dir, "-e", "proxy.log", "-c", "proxy.conf")
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	must(t, p.waitReady(t.Context(), func() bool { return answers(addr) }))
	return p, addr
}

func answers(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// sessions is how many the receiver has had.
func sessions(t *testing.T, r *Receiver) int {
	t.Helper()
	log, err := os.ReadFile(r.Log)
	must(t, err)
	return bytes.Count(log, []byte(" connected "))
}
