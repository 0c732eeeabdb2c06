package logs

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

func init() {
	children["deep"] = deepChild
	children["idle"] = idleChild
	children["closing"] = closingChild
	children["closingpage"] = closingPageChild
}

func deepChild(dir string) int {
	s := childStore(dir)
	server := httptest.NewServer(s.Handler())
	const n = 500_000
	for _, q := range []string{strings.Repeat("(", n) + "a" + strings.Repeat(")", n), strings.Repeat("!", 2*n-1) + "a", strings.Repeat("a:(", 300_000)} {
		for name := range strings.FieldsSeq(os.Getenv("LOGS_TEST_ARG")) {
			body := name + "=" + q + "&limit=1"
			if name != "query" {
				body += "&query=*"
			}
			r, err := http.Post(server.URL+os.Getenv("LOGS_TEST_PATH"), "application/x-www-form-urlencoded", strings.NewReader(body))
			if err != nil {
				fmt.Println(err)
				continue
			}
			text, _ := io.ReadAll(r.Body)
			fmt.Println(r.Status, string(text[:min(len(text), 200)]))
			r.Body.Close()
		}
	}
	server.Close()
	s.Close()
	return 0
}

// One query of a user of the page ends the process.
func TestHandler_RefusesADeepQuery(t *testing.T) {
	for path, arg := range map[string]string{"/select/lines": "query", "/select/logsql/query": "extra_filters"} {
		t.Setenv("LOGS_TEST_PATH", path)
		t.Setenv("LOGS_TEST_ARG", arg)
		cmd, said, log := child(t, "deep", t.TempDir())
		for said.Scan() {
			t.Log(path, said.Text())
		}
		if err := cmd.Wait(); err != nil {
			text := log.String()
			i := strings.Index(text, "overflow")
			t.Errorf("%s: %v %.300s", path, err, text[max(0, i-100):])
		}
	}
}

func idleChild(dir string) int {
	s := childStore(dir)
	fmt.Println("open")
	_ = s
	select {}
}

// A signal that asks for stacks, as a watchdog's or an administrator's, is no damage.
func TestOpen_ASignalThatAsksForStacksIsNoDamage(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT} {
		dir := t.TempDir()
		s := open(t, dir, testOptions())
		add(t, s, "e-1", lines(1, 100, time.Now()))
		shut(t, s)
		cmd, said, _ := child(t, "idle", dir)
		said.Scan()
		_ = cmd.Process.Signal(sig)
		_ = cmd.Wait()
		book := &logbook{}
		o := testOptions()
		o.Log = book.logger()
		s = open(t, dir, o)
		if strings.Contains(book.String(), "every day of the log database is read") {
			t.Errorf("%v: %s", sig, book)
		}
		shut(t, s)
	}
}

// A second query does not wait for the first one's flush.
func TestDatabase_EachQuerySeesWhatWasAdded(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	for i := range 50 {
		segment := fmt.Sprintf("e-%d", i)
		add(t, s, segment, lines(uint64(100_000*i), 3000, time.Now()))
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.db.see() }) // of a search
		for {
			s.db.mu.Lock()
			unseen := s.db.unseen
			s.db.mu.Unlock()
			if !unseen {
				break
			}
		}
		n, err := s.db.Count(context.Background(), segment) // of the journal
		wg.Wait()
		if err != nil || n != 3000 {
			t.Errorf("Count(%s) = %d, %v; want 3000", segment, n, err)
			break
		}
	}
}

// Verify while lines come.
func TestVerify_IsExactWhileLinesCome(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := uint64(0); ctx.Err() == nil; n++ {
			if _, err := s.Commit(context.Background(), lines(1+100*n, 100, time.Now())); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond) // the database keeps up
		}
	}()
	time.Sleep(200 * time.Millisecond)
	for range 5 {
		r, err := s.Verify(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		for _, d := range r.Streams {
			if d.Missing+d.Excess > 0 {
				t.Errorf("%+v", d)
			}
		}
	}
	stop()
	<-done
}

// closingChild closes while a query over the socket is busy in a block.
func closingChild(dir string) int {
	o := testOptions()
	entered := make(chan bool, 100)
	o.block = func(*logstorage.DataBlock) {
		entered <- true
		time.Sleep(4 * time.Second) // a big block, a client that does not read
	}
	s, err := Open(dir, o)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	if err := s.db.Add(context.Background(), "e-1", lines(1, 100, time.Now())); err != nil {
		return 4
	}
	go func() {
		client := &http.Client{Transport: &http.Transport{DialContext: s.dialAny}}
		r, err := client.PostForm("http://store/lines", url.Values{"query": {"*"}, "limit": {"1000000"}})
		if err == nil {
			r.Body.Close()
		}
	}()
	<-entered
	began := time.Now()
	err = s.Close()
	fmt.Println("closed", err, time.Since(began))
	return 0
}

func (s *Store) dialAny(ctx context.Context, _, _ string) (c net.Conn, err error) { return s.Dial(ctx) }

// closingPageChild closes as cmd_serve does, while a user of the page queries: no hook slows anything.
func closingPageChild(dir string) int {
	o := testOptions()
	s, err := Open(dir, o)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	for i := range 60 {
		if err := s.db.Add(context.Background(), "e-1", lines(uint64(1+5000*i), 5000, time.Now())); err != nil {
			return 4
		}
	}
	if err := s.db.Barrier(context.Background()); err != nil {
		return 5
	}
	server := httptest.NewServer(s.Handler())
	go func() {
		r, err := http.Get(server.URL + "/select/logsql/query?query=" + url.QueryEscape(`_msg:~"(a|b|c)*line.*7.*9.*(x|y)+z" | stats count()`))
		if err == nil {
			r.Body.Close()
		}
	}()
	time.Sleep(150 * time.Millisecond)
	_ = server.Config.Close()
	began := time.Now()
	err = s.Close()
	fmt.Println("closed", err, time.Since(began))
	return 0
}

func TestClose_DuringAQuery(t *testing.T) {
	for _, what := range []string{"closing", "closingpage", "closingpage", "closingpage"} {
		dir := t.TempDir()
		cmd, said, log := child(t, what, dir)
		for said.Scan() {
			t.Log(said.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v %.2000s", what, err, log)
		}
		if notes, _ := filepath.Glob(filepath.Join(dir, "damaged/note*")); len(notes) > 0 {
			t.Errorf("%s: %v", what, notes)
		}
	}
}
