package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsrelay/buffer"
)

// The end of the pipe: nobody receives, so that all stays in the queue and can
// be counted there.
const nobody = "ws://127.0.0.1:1/relay"

// tally is what became of numbered lines.
type tally struct{ lines, lost, doubled, unordered int }

var seq = regexp.MustCompile(`\bseq: *([0-9]+)`)

// count reads the queue, which nobody uses any more. Lines carry "seq: N", from
// first on without a hole.
func count(t *testing.T, dir string, first, n int) tally {
	t.Helper()
	q, rec, err := buffer.Open(t.Context(), dir, buffer.Options{})
	must(t, err)
	defer q.Close(context.Background())
	if len(rec.Gaps) > 0 {
		t.Errorf("gaps %v", rec.Gaps)
	}
	var c tally
	seen, last := make([]bool, n), -1
	for {
		b, err := q.TryNext()
		must(t, err)
		if b == nil {
			break
		}
		lines, err := b.Lines(nil)
		must(t, err)
		for line := range bytes.Lines(lines) {
			found := seq.FindSubmatch(line)
			if found == nil {
				t.Fatalf("no line of ours: %.100q", line)
			}
			k, _ := strconv.Atoi(string(found[1]))
			k -= first
			switch {
			case k < 0 || k >= n:
				t.Fatalf("no line of ours: %.100q", line)
			case seen[k]:
				c.doubled++
			case k < last:
				c.unordered++
				t.Logf("the line at %d is %d, after %d", c.lines, k, last)
			}
			seen[k], last = true, k
			c.lines++
		}
	}
	for k, there := range seen {
		if !there {
			c.lost++
			if k == 0 || seen[k-1] {
				t.Logf("lost from %d on", k)
			}
		}
	}
	return c
}

// waitCount waits until the queue has n lines, or gets no more.
func waitCount(t *testing.T, dir string, n int) { waitStill(t, dir, n, 10*time.Second) }

// waitStill is waitCount, or waits until nothing has come for so long.
func waitStill(t *testing.T, dir string, n int, still time.Duration) {
	t.Helper()
	last, since := uint64(0), time.Now()
	for {
		r, _ := buffer.Verify(dir, io.Discard) // while it is written some of it may not read well
		if r.Head != last {
			last, since = r.Head, time.Now()
		}
		if r.Head > uint64(n) || time.Since(since) > still {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// worker is the process that has the queue, 0 if none lives; keeperOf is its
// parent.
func worker(dir string) int {
	pid, _ := buffer.Locked(dir)
	if state(pid) == "" || state(pid) == "Z" {
		return 0
	}
	return pid
}

func state(pid int) string { return stat(pid, 0) }

func keeperOf(worker int) int { return parentOf(worker) }

func parentOf(pid int) int {
	parent, _ := strconv.Atoi(stat(pid, 1))
	return parent
}

// stat is a field of /proc/PID/stat behind the name; "": there is no such
// process.
func stat(pid, field int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[field]
}

func waitWorker(t *testing.T, dir string) int {
	t.Helper()
	for range 2000 {
		if pid := worker(dir); pid != 0 {
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("there is no worker")
	return 0
}

// long is a number from the environment for who has the time, else short.
func long(t *testing.T, name string, short int) int {
	t.Helper()
	text, set := os.LookupEnv(name)
	if !set {
		return short
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// loggen writes n numbered lines of 250 bytes to the socket as fast as it can.
func loggen(t *testing.T, s *Sandbox, n int) *Process {
	t.Helper()
	p, err := s.Start("loggen", "loggen", "--unix", "--stream", "--rate", "1000000", "--size", "250",
		"--number", strconv.Itoa(n), "--interval", "600", "--quiet", s.Path(LocalSocket))
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

func loggenConfig(s *Sandbox) string {
	return fmt.Sprintf(`%soptions { stats-freq(0); log-fifo-size(20000); };
		source s { unix-stream(%q flags(no-parse) log-iw-size(10000)); };
		destination d { websocket(url(%q) template("$MSG\n")); };
		log { source(s); destination(d); flags(flow-control); };`, header, s.Path(LocalSocket), nobody)
}

func running(p *Process) bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// KILLS=200 takes about a minute.
func TestPipe_SurvivesKillsOfTheWorkerUnderLoggen(t *testing.T) {
	need(t, "syslog-ng", "loggen")
	kills := long(t, "KILLS", 15)
	n := kills * 15_000
	s := newSandbox(t, built(t))
	syslogNG := start(t, s, loggenConfig(s), LocalSocket)
	keeper := keeperOf(waitWorker(t, s.QueueDir()))
	began := time.Now()
	p := loggen(t, s, n)
	met := 0
	for running(p) {
		if pid := worker(s.QueueDir()); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
			met++
		}
		life := 20 * time.Millisecond
		if met%4 > 0 { // the others get some work done: behind too many that do not, the keeper takes its time
			life = 200 * time.Millisecond
		}
		time.Sleep(rand.N(life))
	}
	took := time.Since(began)
	waitCount(t, s.QueueDir(), n)
	if now, of := keeperOf(waitWorker(t, s.QueueDir())), parentOf(parentOf(keeper)); now != keeper ||
		of != syslogNG.cmd.Process.Pid {
		t.Errorf("the keeper is %d, in a shell of %d; it was %d, in one of %d", now, of, keeper,
			syslogNG.cmd.Process.Pid)
	}
	stop(t, s, syslogNG)
	got := count(t, s.QueueDir(), 0, n)
	t.Logf("%d lines in %.1f s, %d kills met a live worker, one syslog-ng, one keeper: %d lost, %d doubled, %d out of order",
		got.lines, took.Seconds(), met, got.lost, got.doubled, got.unordered)
	if want := (tally{lines: n}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if met == 0 || met < kills/3 {
		t.Errorf("%d kills, want about %d", met, kills)
	}
}

// UPGRADES=20 takes about half a minute.
func TestPipe_SurvivesUpgradesUnderLoggen(t *testing.T) {
	need(t, "syslog-ng", "loggen")
	upgrades := long(t, "UPGRADES", 4)
	n := upgrades * 40_000
	bin := t.TempDir()
	program := filepath.Join(bin, "wsrelay")
	install := func() {
		must(t, exec.Command("cp", filepath.Join(built(t), "wsrelay"), program+".new").Run())
		must(t, os.Rename(program+".new", program))
	}
	install()
	s := newSandbox(t, bin)
	syslogNG := start(t, s, loggenConfig(s), LocalSocket)
	keeper := keeperOf(waitWorker(t, s.QueueDir()))
	p := loggen(t, s, n)
	done, live := 0, 0
	for done < upgrades {
		install()
		before := worker(s.QueueDir())
		out, err := exec.Command(program, "upgrade", "--queue-dir", s.QueueDir()).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "upgraded from ") {
			t.Fatalf("%v\n%s", err, out)
		}
		if now := worker(s.QueueDir()); now == before || keeperOf(now) != keeper {
			t.Fatalf("worker %d of keeper %d, was %d of %d", now, keeperOf(now), before, keeper)
		}
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", keeper)); exe != program {
			t.Fatalf("the keeper runs %s", exe)
		}
		done++
		if running(p) {
			live++
		}
	}
	<-p.done
	waitCount(t, s.QueueDir(), n)
	stop(t, s, syslogNG)
	got := count(t, s.QueueDir(), 0, n)
	t.Logf("%d upgrades, %d of them while lines came, %d lines: %d lost, %d doubled, %d out of order",
		done, live, got.lines, got.lost, got.doubled, got.unordered)
	if want := (tally{lines: n}); got != want || live == 0 {
		t.Errorf("got %+v, want %+v; %d upgrades under load", got, want, live)
	}
}

// A keeper has about 1.5 MiB; the Go runtime's first garbage collection, some
// hundreds of workers later, finds at most 1 MiB more.
func TestPipe_KeeperStaysTiny(t *testing.T) {
	need(t, "syslog-ng")
	s := newSandbox(t, built(t))
	start(t, s, loggenConfig(s), LocalSocket)
	keeper := keeperOf(waitWorker(t, s.QueueDir()))
	lines := 0
	for _, tt := range []struct{ workers, limit int }{{10, 2 << 10}, {60, 3 << 10}} {
		for lines < tt.workers {
			_ = syscall.Kill(waitWorker(t, s.QueueDir()), syscall.SIGKILL)
			sendAll(t, "unix", s.Path(LocalSocket), []string{"seq: 1\n"})
			lines++
			waitCount(t, s.QueueDir(), lines)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", keeper))
		must(t, err)
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		kib, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil || kib > tt.limit {
			t.Errorf("%d KiB of anonymous memory, want at most %d", kib, tt.limit)
		}
		t.Logf("%d KiB of anonymous memory after %d workers", kib, tt.workers)
	}
}
