package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsrelay/test/e2e"
)

// victoriaLogs is VictoriaLogs' own server, built from its module.
type victoriaLogs struct {
	*process
	sandbox *sandbox
	port    int
}

func (b *sandbox) startVictoriaLogs() (*victoriaLogs, error) {
	if err := b.victoriaLogs(); err != nil {
		return nil, fmt.Errorf("%w: VictoriaLogs cannot be built: %w", errMissing, err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	v := &victoriaLogs{sandbox: b, port: port}
	return v, v.serve()
}

func buildVictoriaLogs(to string) error {
	build := exec.Command("go", "build", "-modfile=tools/victorialogs.mod", "-o", to,
		"github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// serve starts the server, after a kill with what it has on disk.
func (v *victoriaLogs) serve() (err error) {
	v.process, err = v.sandbox.start(nil, v.sandbox.program("victoria-logs"),
		"-storageDataPath="+v.sandbox.path("server"), "-httpListenAddr="+loopback(v.port), "-retentionPeriod=10y")
	if err != nil {
		return err
	}
	return v.sandbox.awaitPort(v.process, v.port)
}

// ask sends a query.
func (v *victoriaLogs) ask(query string) (io.ReadCloser, error) {
	res, err := http.PostForm("http://"+loopback(v.port)+"/select/logsql/query", url.Values{"query": {query}})
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(errors.New(res.Status), res.Body.Close())
	}
	return res.Body, nil
}

// lines counts the rows. A server that was killed has none for a while.
func (v *victoriaLogs) lines() (n int, err error) {
	body, err := v.ask("* | stats count() as n")
	if err != nil {
		return 0, nil
	}
	defer body.Close()
	var row struct{ N string }
	if err := json.NewDecoder(body).Decode(&row); err != nil {
		return 0, nil
	}
	time.Sleep(100 * time.Millisecond) // a query takes the processor that is measured
	return strconv.Atoi(row.N)
}

// export writes the lines to the file out, in the order of their numbers: rows
// have none.
func (v *victoriaLogs) export() error {
	body, err := v.ask(`* | fields _msg, "wsrelay.line"`)
	if err != nil {
		return err
	}
	defer body.Close()
	var all []string
	for in := json.NewDecoder(body); ; {
		var row struct {
			Msg  string `json:"_msg"`
			Line string `json:"wsrelay.line"`
		}
		if err := in.Decode(&row); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if row.Line == "" {
			row.Line = row.Msg
		}
		all = append(all, row.Line+"\n")
	}
	slices.Sort(all) // their numbers have leading zeros
	return os.WriteFile(v.sandbox.path("out"), []byte(strings.Join(all, "")), 0o600)
}

const syslogNGHTTP = syslogNGSource + `destination d { http(url("http://%s/insert/jsonline") method("POST") batch-lines(2000) batch-timeout(200) workers(1) time-reopen(1)
			body("$(format-json --pair _msg=$MSG)") headers("Content-Type: application/stream+json")
			disk-buffer(reliable(yes) disk-buf-size(4294967296) dir("%s"))); };
		log { source(s); destination(d); flags(flow-control); };`

// viaHTTP is syslog-ng's own way to a VictoriaLogs server.
func viaHTTP(b *sandbox, v *victoriaLogs) (*sender, error) {
	program, err := e2e.SyslogNGPath()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	if out, err := exec.Command(program, "--version").Output(); err != nil || !strings.Contains(string(out), "http") {
		return nil, fmt.Errorf("%w: syslog-ng has no module http", errMissing)
	}
	if err := os.MkdirAll(b.path("disk-buffer"), 0o700); err != nil {
		return nil, err
	}
	s, err := b.socketSender(b.startSyslogNG("sender", fmt.Sprintf(syslogNGHTTP, loopback(v.port),
		b.path("disk-buffer"))))
	if err == nil {
		s.arrive = func(n int) error { return b.awaitCount(n, v.lines) }
	}
	return s, err
}

// viaWsrelay is wsrelay and wsreceive before the server.
func viaWsrelay(b *sandbox, v *victoriaLogs) (*sender, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if _, err := receiveTo("victorialogs+http://"+loopback(v.port))(b, port); err != nil {
		return nil, err
	}
	s, err := wsrelay("auto").send(b, port)
	if err != nil {
		return nil, err
	}
	delivered := s.arrive
	s.arrive = func(n int) error {
		if err := delivered(n); err != nil {
			return err
		}
		// What a server has lost is noticed a minute later.
		for deadline := time.Now().Add(100 * time.Second); time.Now().Before(deadline) &&
			b.ctx.Err() == nil; time.Sleep(time.Second) {
			if have, err := v.lines(); err != nil || have >= n {
				return err
			}
		}
		return errStalled
	}
	return s, nil
}

// intoVictoriaLogs feeds a server; kill: which is killed once in the middle, and
// started again.
func intoVictoriaLogs(via func(*sandbox, *victoriaLogs) (*sender, error), kill bool) func(*sandbox,
	int) (values, verdict, error) {
	return func(b *sandbox, n int) (values, verdict, error) {
		v, err := b.startVictoriaLogs()
		if err != nil {
			return nil, verdict{}, err
		}
		s, err := via(b, v)
		if err != nil {
			return nil, verdict{}, err
		}
		settle()
		start := time.Now()
		if err := b.in.feed(s.input, 0, n/2); err != nil {
			return nil, verdict{}, err
		}
		if kill {
			if err := b.awaitCount(n/10, v.lines); err != nil {
				return nil, verdict{}, err
			}
			v.kill()
			if err := v.serve(); err != nil {
				return nil, verdict{}, err
			}
		}
		err = b.in.feed(s.input, n/2, n)
		if err == nil {
			err = s.arrive(n)
		}
		found := mean(n, time.Since(start).Seconds())
		found["cpu"] = v.usage().cpu.Seconds() * million / float64(n)
		if exportErr := v.export(); exportErr != nil {
			return nil, verdict{}, exportErr
		}
		return b.conclude(found, n, err)
	}
}
