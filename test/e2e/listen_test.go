package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/test/certs"
)

// The other direction: wsrelay listens, wsreceive dials.

// visit is a wsrelay that listens and a wsreceive that dials it.
type visit struct {
	s        *Sandbox
	receiver *Receiver

	relay *exec.Cmd
	log   bytes.Buffer // of wsrelay; complete when it has ended
	stdin io.WriteCloser
}

// newVisit starts a wsrelay at addr with these options.
func newVisit(t *testing.T, s *Sandbox, addr string, options ...string) *visit {
	t.Helper()
	r, err := s.NewReceiver()
	must(t, err)
	v := &visit{s: s, receiver: r}
	v.relay = exec.Command(filepath.Join(s.bin, "wsrelay"), append(options, "--listen", addr, "--drain", "60s")...)
	v.relay.Env, v.relay.Stderr = s.env, &v.log
	v.stdin, err = v.relay.StdinPipe()
	must(t, err)
	must(t, v.relay.Start())
	return v
}

// dial starts wsreceive, with an address of its own for its health.
func (v *visit) dial(t *testing.T, options ...string) {
	t.Helper()
	r := v.receiver
	var err error
	r.Process, err = v.s.Start("wsreceive", r.Program(), append(options, "--listen", r.Addr, "--to",
		"logs:"+r.StorePath())...)
	must(t, err)
	t.Cleanup(r.Kill)
	must(t, r.waitReady(t.Context(), func() bool { return answers(r.Addr) }))
}

func (v *visit) health(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + v.receiver.Addr + "/relays")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(text)
}

// ends waits for the end of wsrelay, which has delivered n lines, and looks
// whether they are in the store, each once and in order.
func (v *visit) ends(t *testing.T, n int) {
	t.Helper()
	if err := v.relay.Wait(); err != nil {
		t.Fatalf("wsrelay: %v\n%s\nwsreceive:\n%s", err, v.log.Bytes(), v.receiver.output())
	}
	next := 0
	for document, err := range v.receiver.Documents(t.Context()) {
		must(t, err)
		if got, want := string(document), proxyLine(next); got != want {
			t.Fatalf("document %d is %q, want %q", next, got, want)
		}
		next++
	}
	if next != n {
		t.Errorf("%d documents, want %d", next, n)
	}
	last := bytes.TrimSpace(v.log.Bytes())
	t.Logf("%d lines, %d sessions; %s", n, sessions(t, v.receiver), last[bytes.LastIndexByte(last, '\n')+1:])
}

func TestListen_KillsAtEitherEndLoseAndDoubleNothing(t *testing.T) {
	const rate = 10_000
	kills := long(t, "KILLS", 4)
	for name, prepare := range map[string]func(*testing.T, *Sandbox) (*visit, []string){
		"as it comes": func(t *testing.T, s *Sandbox) (*visit, []string) {
			addr := someAddr(t)
			return newVisit(t, s, addr), []string{"--dial", "ws://" + addr}
		},
		"TLS, keys, certificates": func(t *testing.T, s *Sandbox) (*visit, []string) {
			addr := someAddr(t)
			return newVisit(t, s, addr, "--key-file", s.Path("key"), "--tls-cert", s.Path("server.pem"), "--tls-key",
					s.Path("server.key"), "--tls-ca", s.Path("ca.pem")),
				[]string{
					"--dial", "wss://" + addr, "--keys", s.Path("key"), "--client-ca", s.Path("ca.pem"),
					"--tls-cert", s.Path("client.pem"), "--tls-key", s.Path("client.key"),
				}
		},
		"nginx ends TLS": func(t *testing.T, s *Sandbox) (*visit, []string) {
			need(t, "nginx")
			addr := someAddr(t)
			_, proxy := startProxyIn(t, s, addr)
			return newVisit(t, s, addr, "--key-file", s.Path("key")),
				[]string{
					"--dial", "wss://" + proxy, "--keys", s.Path("key"), "--client-ca", s.Path("ca.pem"),
					"--behind-proxy",
				}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, built(t))
			must(t, certs.Write(s.Dir))
			must(t, exec.Command(filepath.Join(s.bin, "wsrelay"), "keygen", "--name", "web-1", s.Path("key")).Run())
			v, options := prepare(t, s)
			v.dial(t, options...)

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(kills)*5*time.Second)
			defer cancel()
			end, stop := context.WithCancel(ctx)
			written := make(chan int)
			go func() { written <- writeLines(end, v.stdin, rate) }()
			for kill := range kills {
				stored, err := v.receiver.Stored(ctx)
				must(t, err)
				must(t, v.receiver.WaitStored(ctx, stored+1+rand.IntN(rate/4)))
				if kill%2 == 0 {
					v.receiver.Kill()
					v.dial(t, options...)
				} else {
					must(t, syscall.Kill(waitWorker(t, s.QueueDir()), syscall.SIGKILL))
				}
			}
			stop()
			n := <-written
			v.ends(t, n)
		})
	}
}

func TestListen_AReceiverWithAnotherKeyGetsNothing(t *testing.T) {
	s := newSandbox(t, built(t))
	must(t, certs.Write(s.Dir))
	wsrelay := filepath.Join(s.bin, "wsrelay")
	must(t, exec.Command(wsrelay, "keygen", "--name", "web-1", s.Path("key")).Run())
	must(t, exec.Command(wsrelay, "keygen", "--name", "web-1", s.Path("keys")).Run())
	addr := someAddr(t)
	v := newVisit(t, s, addr, "--key-file", s.Path("key"), "--tls-cert", s.Path("server.pem"), "--tls-key",
		s.Path("server.key"))
	v.dial(t, "--dial", "wss://"+addr, "--keys", s.Path("keys"), "--client-ca", s.Path("ca.pem"))
	end, stop := context.WithCancel(t.Context())
	written := make(chan int)
	go func() { written <- writeLines(end, v.stdin, 1000) }()

	must(t, poll(t.Context(), func() (bool, error) { return strings.Contains(v.health(t), "does not match"), nil }))
	if got := v.health(t); !strings.HasPrefix(got, "wss://"+addr+"/relay away since 20") {
		t.Errorf("health is %q", got)
	}
	if stored, err := v.receiver.Stored(t.Context()); err != nil || stored > 0 {
		t.Errorf("%d documents, %v; want none", stored, err)
	}
	log := string(v.receiver.output())
	for _, want := range []string{
		"no session with a relay", "does not match", "effect: nothing is lost",
		"hint: compare its --key-file",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("wsreceive does not say %q:\n%s", want, log)
		}
	}

	// The key is put right, and counts without a restart.
	key, err := os.ReadFile(s.Path("key"))
	must(t, err)
	must(t, os.WriteFile(s.Path("keys"), key, 0o600))
	must(t, v.receiver.Signal(syscall.SIGHUP))
	must(t, v.receiver.WaitStored(t.Context(), 1))
	if got := v.health(t); !strings.Contains(got, "/relay connected since 20") {
		t.Errorf("health is %q", got)
	}
	stop()
	n := <-written
	v.ends(t, n)
	if !strings.Contains(v.log.String(), "receiver refused") {
		t.Errorf("wsrelay does not log that it refused a client:\n%s", v.log.String())
	}
}

// What wsreceive trusts, and what it shows, counts from the next SIGHUP on.
func TestListen_AReceiverReadsItsFilesAgain(t *testing.T) {
	s := newSandbox(t, built(t))
	must(t, certs.Write(s.Dir))
	must(t, os.Mkdir(s.Path("other"), 0o700))
	must(t, certs.Write(s.Path("other")))
	replace := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(s.Path(from))
		must(t, err)
		must(t, os.WriteFile(s.Path(to), text, 0o600))
	}
	must(t, os.WriteFile(s.Path("token"), []byte("abcdefghijklmnop"), 0o600))
	must(t, os.WriteFile(s.Path("shown"), []byte("ABCDEFGHIJKLMNOP"), 0o600))
	for from, to := range map[string]string{
		"other/ca.pem": "trusted.pem", "other/client.pem": "cert.pem",
		"other/client.key": "cert.key",
	} {
		replace(from, to)
	}
	addr := someAddr(t)
	v := newVisit(t, s, addr, "--token-file", s.Path("token"), "--tls-cert", s.Path("server.pem"), "--tls-key",
		s.Path("server.key"), "--tls-ca", s.Path("ca.pem"))
	v.dial(t, "--dial", "wss://"+addr, "--dial-token", s.Path("shown"), "--client-ca", s.Path("trusted.pem"),
		"--tls-cert", s.Path("cert.pem"), "--tls-key", s.Path("cert.key"))
	_, err := io.WriteString(v.stdin, proxyLine(0)+"\n")
	must(t, err)
	for _, step := range []struct {
		says  string
		right func()
	}{
		{"unknown authority", func() { replace("ca.pem", "trusted.pem") }},
		{"the relay may want a certificate", func() { replace("client.pem", "cert.pem"); replace("client.key", "cert.key") }},
		{"HTTP 401", func() { replace("token", "shown") }},
	} {
		must(t, poll(t.Context(), func() (bool, error) { return bytes.Contains(v.receiver.output(), []byte(step.says)), nil }))
		step.right()
		must(t, v.receiver.Signal(syscall.SIGHUP))
	}
	must(t, v.receiver.WaitStored(t.Context(), 1))
	must(t, v.stdin.Close())
	v.ends(t, 1)
}

func TestListen_UnderSyslogNG(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, built(t))
	addr := someAddr(t)
	start(t, s, fmt.Sprintf(`%ssource s { unix-dgram(%q flags(no-parse)); };
		destination d { websocket(url("") options("listen=%s") template("$MSG\n")); };
		log { source(s); destination(d); };`, header, s.Path(LocalSocket), addr), LocalSocket)
	r, err := s.NewReceiver()
	must(t, err)
	v := &visit{s: s, receiver: r}
	v.dial(t, "--dial", "ws://"+addr)
	sendAll(t, "unixgram", s.Path(LocalSocket), []string{"hello"})
	waitStored(t, r, 1)
}
