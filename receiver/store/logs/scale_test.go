package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
)

// scale is lines of a web server, in JSON, of some 370 bytes.
type scale struct {
	n     int
	began time.Time
}

func (s scale) batch(first, n int) receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: uint64(first + 1), At: s.began}
	for k := first; k < first+n; k++ {
		b.Lines = append(b.Lines, s.line(k))
	}
	return b
}

func (s scale) line(k int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(k)))
	path := fmt.Sprintf("/api/v1/item/%d", r.Uint64N(5000))
	status := []int{200, 200, 200, 200, 304, 404, 500, 502}[r.IntN(8)]
	at := s.began.Add(time.Duration(k-s.n) * time.Hour / time.Duration(s.n))
	return fmt.Appendf(nil, `{"time":"%s","host":"web1","program":"nginx","message":"GET %s %d","remote_addr":"10.%d.%d.%d","method":"GET","path":"%s","status":%d,"bytes":%d,"request_time":%.3f,"user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/%d.0","referer":"https://example.com/%d","request_id":"%016x"}`,
		at.UTC().Format("2006-01-02T15:04:05.000Z"), path, status, r.IntN(4), r.IntN(256), r.IntN(256), path, status,
		r.IntN(50000), r.Float64(), r.IntN(40), r.IntN(300), r.Uint64())
}

// feed gives all lines to f, in batches, from several goroutines.
func (s scale) feed(t *testing.T, f func(b receiver.Batch) error) {
	t.Helper()
	const size, feeders = 1000, 4
	var wg sync.WaitGroup
	for g := range feeders {
		wg.Go(func() {
			for first := g * size; first < s.n; first += feeders * size {
				if err := f(s.batch(first, min(size, s.n-first))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestScale measures what SCALE lines cost: the library's library alone, the store,
// and VictoriaLogs' own server, and then how long the latter two search.
func TestScale(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SCALE"))
	if n == 0 {
		t.Skip("make bench-search does it")
	}
	t.Setenv("DISABLE_FSYNC_FOR_TESTING", "false")
	lines := scale{n: n, began: time.Now()}
	report := func(what string, cpu float64, since time.Time, dir string) {
		t.Logf("%-28s %6.1f s CPU, %6.1f s, %5.1f bytes of disk, each per million lines or line", what,
			cpu*1e6/float64(n), time.Since(since).Seconds()*1e6/float64(n), float64(diskUse(t, dir))/float64(n))
	}
	cpu := cpuSeconds(t)
	lines.feed(t, func(receiver.Batch) error { return nil })
	making := cpuSeconds(t) - cpu
	t.Logf("making the lines: %.1f s CPU per million, which the figures are without", making*1e6/float64(n))

	alone := t.TempDir()
	s := open(t, alone, Options{})
	since := time.Now()
	cpu = cpuSeconds(t)
	lines.feed(t, func(b receiver.Batch) error { return s.db.Add(context.Background(), "e-1", []receiver.Batch{b}) })
	barrier(t, s)
	report("library, no journal", cpuSeconds(t)-cpu-making, since, alone)
	shut(t, s)

	server := startServer(t)
	since = time.Now()
	lines.feed(t, server.insert)
	server.await(t, n)
	report("VictoriaLogs' server", server.cpuSeconds(t), since, server.data)

	dir := t.TempDir()
	s = open(t, dir, Options{})
	since, cpu = time.Now(), cpuSeconds(t)
	lines.feed(t, func(b receiver.Batch) error {
		_, err := s.Commit(context.Background(), []receiver.Batch{b})
		return err
	})
	t.Logf("store: the last line is final after %.1f s; %.0f lines/s", time.Since(since).Seconds(),
		float64(n)/time.Since(since).Seconds())
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	report("store", cpuSeconds(t)-cpu-making, since, dir)
	time.Sleep(5 * time.Second) // both merge what they have
	for name, q := range map[string]string{
		"phrase":        `_msg:"item/4711 200" | stats count() as n`,
		"rare word":     fmt.Sprintf(`request_id:%q | stats count() as n`, field(lines.line(n/2), "request_id")),
		"status:>=500":  `status:>=500 | stats count() as n`,
		"count by path": `* | stats by (path) count() as n | sort by (n desc, path) | limit 10`,
	} {
		var ours, theirs []float64
		for range 7 {
			at := time.Now()
			a := s.answer(t, q)
			ours = append(ours, time.Since(at).Seconds()*1000)
			at = time.Now()
			b := server.answer(t, q)
			theirs = append(theirs, time.Since(at).Seconds()*1000)
			if a != b {
				t.Fatalf("%s: %q, and %q of the server", q, a, b)
			}
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		t.Logf("%-14s %7.1f ms, server %7.1f ms: %.2f x", name, ours[3], theirs[3], ours[3]/theirs[3])
	}
	var heavy sync.WaitGroup
	for _, q := range []string{
		`* | stats by (request_id) count() n`, `* | sort by (request_id)`, `* | uniq by (request_id)`, `* | facets 100`,
		`_msg:~"item/.*7.*9" | sort by (bytes desc) | limit 100000`,
		`* | stats by (path, remote_addr) count() n, quantile(0.99, request_time)`,
		`request_id:in(status:200 | fields request_id)`, `* | top 1000 by (referer, user_agent, status)`,
	} {
		heavy.Go(func() {
			w := httptest.NewRecorder()
			w.Body = nil
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet,
				"/select/logsql/query?query="+url.QueryEscape(q), nil))
			t.Logf("at the same time: %s: status %d", q, w.Code)
		})
	}
	heavy.Wait()
	t.Logf("RSS %s, peak %s, of the library alone and the store together", status(t, "VmRSS"), status(t, "VmHWM"))
}

func field(line []byte, name string) string {
	var m map[string]any
	_ = json.Unmarshal(line, &m)
	return fmt.Sprint(m[name])
}

func (s *Store) answer(t *testing.T, q string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/select/logsql/query?query="+url.QueryEscape(q), nil))
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	return w.Body.String()
}

// server is VictoriaLogs' own.
type server struct {
	cmd       *exec.Cmd
	url, data string
}

func startServer(t *testing.T) *server {
	t.Helper()
	program := filepath.Join(t.TempDir(), "victoria-logs")
	build := exec.Command("go", "build", "-modfile=tools/victorialogs.mod", "-o", program,
		"github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs")
	build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("the server cannot be built: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := &server{url: "http://" + address, data: t.TempDir()}
	s.cmd = exec.Command(program, "-storageDataPath="+s.data, "-httpListenAddr="+address, "-memory.allowedBytes=96MiB")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	for range 200 {
		if res, err := http.Get(s.url + "/health"); err == nil {
			_ = res.Body.Close()
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the server does not answer")
	return nil
}

func (s *server) insert(b receiver.Batch) error {
	res, err := http.Post(s.url+"/insert/jsonline?_time_field=time&_msg_field=message&_stream_fields=host,program", "",
		bytes.NewReader(bytes.Join(b.Lines, []byte("\n"))))
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func (s *server) await(t *testing.T, n int) {
	t.Helper()
	for range 100 {
		if strings.Contains(s.answer(t, "* | stats count() as n"), fmt.Sprintf("%q", strconv.Itoa(n))) {
			time.Sleep(12 * time.Second) // then it has them on disk
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("the server does not have all lines")
}

func (s *server) answer(t *testing.T, q string) string {
	t.Helper()
	res, err := http.PostForm(s.url+"/select/logsql/query", url.Values{"query": {q}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(err, string(b))
	}
	return string(b)
}

func (s *server) cpuSeconds(t *testing.T) float64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|2), &ts); err != nil { // clock_getcpuclockid(3)
		t.Fatal(err)
	}
	return time.Duration(ts.Nano()).Seconds()
}

func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

func cpuSeconds(t *testing.T) float64 {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func status(t *testing.T, field string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), field+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}
