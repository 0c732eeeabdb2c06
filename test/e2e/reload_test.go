package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// bench is a syslog-ng under load that a case of the matrix does things to.
type bench struct {
	t    *testing.T
	s    *Sandbox
	p    *Process
	sent atomic.Int64
}

// config follows a file: what syslog-ng has read and not written when it ends,
// it reads again. Its own losses and repeats are not of interest here.
func (b *bench) config(keepAlive, options string) string {
	return fmt.Sprintf(`%soptions { stats-freq(0); };
		source s { file(%q flags(no-parse) follow-freq(0.1) log-iw-size(1000)); };
		source alive { unix-dgram(%q); };
		destination d { websocket(url(%q) template("$MSG\n") keep-alive(%s) options(%q)); };
		log { source(s); destination(d); flags(flow-control); };
		log { source(alive); };`, header, b.input(), b.s.Path(LocalSocket), nobody, keepAlive, options)
}

func (b *bench) input() string { return b.s.Path("input.log") }

func (b *bench) start(keepAlive, options string) {
	b.t.Helper()
	conf, err := b.s.WriteConfig(b.config(keepAlive, options))
	must(b.t, err)
	b.p, err = b.s.StartSyslogNG(b.t.Context(), conf, LocalSocket)
	must(b.t, err)
	waitWorker(b.t, b.s.QueueDir())
}

// What a reload does to wsrelay.
const (
	same    = iota // it stays
	another        // another takes its place
	either         // syslog-ng 4.8 starts another, 4.12 keeps it
)

// reload gives syslog-ng another configuration. Where that starts another
// wsrelay, it waits for that to have the queue: one that gets a signal to exit before
// its first instruction leaves its pipe to nobody.
func (b *bench) reload(body string, want int) {
	b.t.Helper()
	before := waitWorker(b.t, b.s.QueueDir())
	_, err := b.s.WriteConfig(body)
	must(b.t, err)
	must(b.t, b.p.Signal(syscall.SIGHUP))
	patience := map[int]time.Duration{another: time.Minute, either: 5 * time.Second}[want]
	for end := time.Now().Add(patience); waitWorker(b.t, b.s.QueueDir()) == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if want == another && waitWorker(b.t, b.s.QueueDir()) == before {
		b.t.Fatalf("syslog-ng has started no other wsrelay\n%s", b.p.output())
	}
	b.wait(2000)
}

// wait lets so many lines pass.
func (b *bench) wait(lines int64) {
	for goal := b.sent.Load() + lines; b.sent.Load() < goal; {
		time.Sleep(time.Millisecond)
	}
}

// feed appends 20,000 numbered lines a second to the input until ctx ends.
func (b *bench) feed(ctx context.Context) error {
	f, err := os.OpenFile(b.input(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		for range 100 {
			fmt.Fprintf(w, "seq: %d %s\n", b.sent.Load(), strings.Repeat("x", 200))
			b.sent.Add(1)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// group is syslog-ng, the block's shell, keeper and worker, as systemd signals
// them.
func (b *bench) group() []int {
	worker := waitWorker(b.t, b.s.QueueDir())
	keeper := keeperOf(worker)
	return []int{b.p.cmd.Process.Pid, parentOf(keeper), keeper, worker}
}

// stopped ends syslog-ng and gives the seconds until wsrelay has ended too.
func (b *bench) stopped(how func()) float64 {
	b.t.Helper()
	began := time.Now()
	how()
	<-b.p.done
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	must(b.t, b.s.WaitChildren(ctx))
	return time.Since(began).Seconds()
}

func (b *bench) term() { _ = b.p.Signal(syscall.SIGTERM) }

// unusable parses, and fails when syslog-ng has ended what it had.
const unusable = "log { source { unix-stream(\"/proc/none/socket\"); }; };\n"

// Nobody receives: each of these happens with the network down.
func TestReload_LosesAndDoublesNothingThatReachedThePipe(t *testing.T) {
	need(t, "syslog-ng")
	var table strings.Builder
	fmt.Fprintf(&table, "%-54s %9s %8s %6s %8s %10s %8s", "case", "instances", "lines", "lost", "doubled", "unordered", "seconds")
	for _, tt := range []struct {
		name      string
		keepAlive string
		instances int                    // that there must have been, one after the other
		do        func(b *bench) float64 // the seconds of what is of interest, if that is not the stop
	}{
		{"reload, keep-alive(yes), three times", "yes", 1, func(b *bench) float64 {
			keeper := keeperOf(waitWorker(b.t, b.s.QueueDir()))
			for range 3 {
				b.reload(b.config("yes", ""), same)
			}
			if now := keeperOf(waitWorker(b.t, b.s.QueueDir())); now != keeper {
				b.t.Errorf("the keeper changed from %d to %d", keeper, now)
			}
			return 0
		}},
		{"reload, keep-alive(no), three times", "no", 4, func(b *bench) float64 {
			for range 3 {
				b.reload(b.config("no", ""), another)
			}
			return 0
		}},
		{"reload with changed options, keep-alive(yes)", "yes", 4, func(b *bench) float64 {
			for _, options := range []string{"drain=1s", "drain=2s", "sync=1s"} {
				b.reload(b.config("yes", options), another)
			}
			return 0
		}},
		{"reload with a failing source: syslog-ng reverts", "yes", 1, func(b *bench) float64 {
			b.reload(b.config("yes", "")+unusable, either)
			b.reload(b.config("yes", ""), same)
			return 0
		}},
		{"reload, keep-alive(no), failing source: syslog-ng reverts", "no", 3, func(b *bench) float64 {
			b.reload(b.config("no", "")+unusable, another)
			b.reload(b.config("no", ""), another)
			return 0
		}},
		{"SIGTERM to keeper and worker, three times, no EOF", "yes", 1, func(b *bench) float64 {
			group, err := syscall.Getpgid(waitWorker(b.t, b.s.QueueDir()))
			must(b.t, err)
			for range 3 {
				_ = syscall.Kill(-group, syscall.SIGTERM)
				b.wait(1000)
			}
			return 0
		}},
		{"keeper killed: its worker hands the queue over", "yes", 2, func(b *bench) float64 {
			worker := waitWorker(b.t, b.s.QueueDir())
			must(b.t, syscall.Kill(keeperOf(worker), syscall.SIGKILL))
			b.wait(4000)
			return 0
		}},
		{"restart, keep-alive(yes), three times", "yes", 4, func(b *bench) (took float64) {
			for range 3 {
				took = max(took, b.stopped(b.term))
				b.start("yes", "")
				b.wait(2000)
			}
			return took
		}},
		{"systemd: SIGTERM to all, to all again, restart", "yes", 4, func(b *bench) (took float64) {
			for range 3 {
				group := b.group()
				took = max(took, b.stopped(func() {
					for range 2 {
						for _, pid := range group {
							_ = syscall.Kill(pid, syscall.SIGTERM)
						}
						time.Sleep(100 * time.Millisecond)
					}
				}))
				b.start("yes", "")
				b.wait(2000)
			}
			return took
		}},
		{"a mistake in the options, fixed by a reload", "yes", 3, func(b *bench) float64 {
			b.reload(b.config("yes", "no-such-option=1"), another)
			b.reload(b.config("yes", ""), another)
			return 0
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSandbox(t, built(t))
			b := &bench{t: t, s: s}
			must(t, os.WriteFile(b.input(), nil, 0o600))
			b.start(tt.keepAlive, "")
			t.Cleanup(func() { b.p.Kill() })
			ctx, cancel := context.WithCancel(t.Context())
			fed := make(chan error, 1)
			go func() { fed <- b.feed(ctx) }()
			b.wait(3000)
			took := tt.do(b)
			b.wait(3000)
			cancel()
			must(t, <-fed)
			n := int(b.sent.Load())
			waitCount(t, s.QueueDir(), n)
			if end := b.stopped(b.term); took == 0 {
				took = end
			}
			got := count(t, s.QueueDir(), 0, n)
			log, err := os.ReadFile(filepath.Join(s.QueueDir(), "wsrelay.log"))
			must(t, err)
			instances := strings.Count(string(log), "info: stopped")
			fmt.Fprintf(&table, "\n%-54s %9d %8d %6d %8d %10d %8.2f", tt.name, instances, n, got.lost, got.doubled,
				got.unordered, took)
			if want := (tally{lines: n}); got != want || instances < tt.instances {
				t.Errorf("got %+v, want %+v; %d instances, want at least %d", got, want, instances, tt.instances)
				t.Logf("%s\n%s", log, b.p.output())
			}
		})
	}
	t.Logf("seconds: the longest stop\n%s", &table)
}

// Where the pipe is full, lines wait in syslog-ng's own queue, and at a reload
// two things are its own matter: it keeps the queue and reads the same lines from
// the file again, as many as the source may have under way (log-iw-size); and
// with keep-alive(no) it may forget the one that did not fit.
func TestReload_WithAFullPipe(t *testing.T) {
	need(t, "syslog-ng")
	for _, tt := range []struct {
		keepAlive     string
		lost, doubled int // at most, by syslog-ng
	}{{"yes", 0, 1001}, {"no", 1, 1001}} {
		t.Run("keep-alive("+tt.keepAlive+")", func(t *testing.T) {
			s := newSandbox(t, built(t))
			b := &bench{t: t, s: s}
			must(t, os.WriteFile(b.input(), nil, 0o600))
			other, _, err := buffer.Open(t.Context(), s.QueueDir(), buffer.Options{}) // nothing gets into the queue
			must(t, err)
			b.start(tt.keepAlive, "")
			t.Cleanup(func() { b.p.Kill() })
			ctx, cancel := context.WithCancel(t.Context())
			fed := make(chan error, 1)
			go func() { fed <- b.feed(ctx) }()
			b.waitFullPipe()
			held := b.inPipe()
			must(t, b.p.Signal(syscall.SIGHUP))
			b.wait(10_000)
			must(t, other.Close(context.Background()))
			b.wait(10_000)
			cancel()
			must(t, <-fed)
			n := int(b.sent.Load())
			waitStill(t, s.QueueDir(), n+tt.doubled+1, 3*time.Second) // more than that cannot come
			b.stopped(b.term)
			got := count(t, s.QueueDir(), 0, n)
			t.Logf("%d bytes in the pipe, %d lines: syslog-ng lost %d, wrote %d again; %d out of order", held, n,
				got.lost, got.doubled, got.unordered)
			if got.lost > tt.lost || got.doubled > tt.doubled {
				t.Errorf("want at most %d lost, %d doubled", tt.lost, tt.doubled)
			}
		})
	}
}

// waitFullPipe waits until lines come, and the pipe has taken none of them for a
// while.
func (b *bench) waitFullPipe() {
	b.t.Helper()
	for last, same := 0, 0; same < 10; {
		b.wait(400)
		now := b.inPipe()
		if now == 0 || now != last {
			same = 0
		}
		last = now
		same++
	}
}

// inPipe is how many bytes wait in wsrelay's pipe.
func (b *bench) inPipe() int {
	for _, pid := range b.s.pids() {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(exe) != "wsrelay" {
			continue
		}
		pipe, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", pid), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return 0
		}
		defer pipe.Close()
		n, _ := unix.IoctlGetInt(int(pipe.Fd()), unix.TIOCINQ)
		return n
	}
	return 0
}
