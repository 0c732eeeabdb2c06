package intake

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/buffer"
)

// KILLS=20000 continues for so long, in rounds with a queue of their own; it can
// be interrupted at any time and continues there: TORTURE_DIR has the count.
func TestKeeper_LosesAndDoublesNothingWhenWorkersAreKilled(t *testing.T) {
	goal, err := strconv.Atoi(os.Getenv("KILLS"))
	if err != nil {
		lines, kills := 2_000_000, 300
		if testing.Short() {
			lines, kills = 200_000, 30
		}
		killedOften(t, lines, kills)
		t.Logf("%d lines, %d kills met a live worker: 0 lost, 0 doubled, in order", lines, kills)
		return
	}
	const kills, lines = 200, 200_000 // in a round
	count := loadTally(t)
	from, began, told := count.Kills, time.Now(), time.Now()
	for count.Kills < goal {
		killedOften(t, lines, kills)
		count.Kills += kills
		count.Lines += lines
		count.save(t)
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			rate := float64(count.Kills-from) / time.Since(began).Seconds()
			left := time.Duration(float64(goal-count.Kills)/rate) * time.Second
			fmt.Printf("%d of %d kills, %.1f/s, %v left: %d lines, 0 lost, 0 doubled, in order\n", count.Kills, goal,
				rate, left, count.Lines)
		}
	}
	t.Logf("%d lines, %d kills met a live worker: 0 lost, 0 doubled, in order", count.Lines, count.Kills)
}

// tally is what was done and found well.
type tally struct {
	file         string
	Kills, Lines int
}

func loadTally(t *testing.T) *tally {
	t.Helper()
	dir := os.Getenv("TORTURE_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		must(t, err)
		dir = filepath.Join(cache, "wsrelay-torture")
	}
	must(t, os.MkdirAll(dir, 0o700))
	c := &tally{file: filepath.Join(dir, "keeper.json")}
	if b, err := os.ReadFile(c.file); err == nil {
		must(t, json.Unmarshal(b, c))
	}
	return c
}

func (c *tally) save(t *testing.T) {
	t.Helper()
	b, err := json.Marshal(c)
	must(t, err)
	must(t, os.WriteFile(c.file+".new", b, 0o600))
	must(t, os.Rename(c.file+".new", c.file))
}

// killedOften feeds numbered lines to a keeper whose workers are killed so many
// times, while they start and while they work, and finds all lines in the queue.
func killedOften(t *testing.T, lines, kills int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "q")
	defer os.RemoveAll(dir)
	cmd, w := keeper(t, dir)
	var met atomic.Int64
	fed := make(chan error, 1)
	go func() {
		defer w.Close()
		fed <- feed(w, lines, func(n int) {
			for int64(n)*int64(kills+1) > (met.Load()+1)*int64(lines) {
				time.Sleep(100 * time.Microsecond) // a share for each worker, so that each kill meets one
			}
		})
	}()
	spool := spoolOf(t, cmd.Process.Pid)
	was, mark := int64(0), int64(0)
	for k := range kills {
		for !kill(cmd.Process.Pid, func() {
			switch k % 4 {
			case 0: // in its start
				time.Sleep(rand.N(4 * time.Millisecond))
			case 3: // while it releases what is on disk
				for spool.marked() == mark {
					time.Sleep(10 * time.Microsecond)
				}
				time.Sleep(rand.N(100 * time.Microsecond))
			default: // in its work
				for spool.taken() == was {
					time.Sleep(50 * time.Microsecond)
				}
				time.Sleep(rand.N(4 * time.Millisecond))
			}
		}) {
			time.Sleep(50 * time.Microsecond) // the last one's successor is not born yet
		}
		was, mark = spool.taken(), spool.marked()
		met.Add(1)
	}
	must(t, <-fed)
	must(t, cmd.Wait())
	checkNumbers(t, dir, lines)
	if t.Failed() {
		t.FailNow()
	}
}

// feed writes numbered lines, some of which stand in two writes, and waits
// before each write until it may.
func feed(w *os.File, lines int, may func(n int)) error {
	out := bufio.NewWriterSize(w, 4096)
	pad := strings.Repeat("x", 240)
	for k := range lines {
		if out.Available() < 300 {
			may(k)
		}
		if _, err := fmt.Fprintf(out, "%d %s\n", k, pad[:k%240]); err != nil {
			return err
		}
	}
	return out.Flush()
}

// spoolOf opens the spool of a keeper, as its worker inherited it.
func spoolOf(t *testing.T, keeper int) kept {
	t.Helper()
	var k kept
	waitFor(t, "the keeper has a spool", func() bool {
		k.close()
		k = nil
		worker := child(keeper)
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", worker))
		_, told, _ := strings.Cut(string(env), workerEnv+"=")
		told, _, _ = strings.Cut(told, "\x00")
		theirs, _, err := inherited(told)
		for _, fd := range theirs {
			own := 0
			if own, err = unix.Open(fmt.Sprintf("/proc/%d/fd/%d", worker, fd), unix.O_RDWR|unix.O_CLOEXEC,
				0); err != nil {
				return false
			}
			k = append(k, own)
		}
		return err == nil
	})
	t.Cleanup(k.close)
	return k
}

// taken is how many bytes workers have taken from the pipe.
func (k kept) taken() int64 {
	s, _ := k.state()
	return s.taken
}

// marked is how many of them are on disk.
func (k kept) marked() int64 {
	s, _ := k.state()
	return s.mark
}

// Lines longer than the pipe, than a line may be, and one without its end.
func TestKeeper_LosesNothingOfLongLinesWhenWorkersAreKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	cmd, w := keeper(t, dir)
	const most = buffer.MaxLine
	long := strings.Repeat("0123456789abcdef", (2*most+most/2)/16)
	parts := []string{"a\n", long[:3<<20], "\nb\n", long[:most/2], long[most/2:], "\nc\n", "the end", " of it"}
	for _, part := range parts {
		write(t, w, part)
		waitFor(t, "a worker is killed", func() bool { return kill(cmd.Process.Pid, func() {}) })
	}
	_ = w.Close()
	must(t, cmd.Wait())
	want := []string{"a", long[:3<<20], "b", long[:most], long[most : 2*most], long[2*most:], "c", "the end of it"}
	got := strings.Split(strings.TrimSuffix(string(queued(t, dir)), "\n"), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("line %d: %d bytes, want %d", k, len(got[k]), len(want[k]))
		}
	}
	t.Logf("%d kills met a live worker", len(parts))
}

func TestIntake_TellsHowTheWorkerBeforeEnded(t *testing.T) {
	in, w := spooled(t)
	write(t, w, "a\nb\n")
	_ = w.Close()
	_, err := in.spool.spliceIn(2)
	must(t, err)
	k := in.spool.kept
	k.count(1, 0, 0)
	if got, want := in.History(), (History{Workers: 1, Pending: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	k.count(1, unix.WaitStatus(unix.SIGKILL), 0)
	log := ingest(t, in, filepath.Join(t.TempDir(), "q"))
	if !strings.Contains(log, `how="killed by SIGKILL" processes=2`) {
		t.Errorf("it says %q", log)
	}
	k.count(1, 1<<8, 0)
	if got, want := in.History(), (History{Workers: 3, Last: "exit status 1"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A worker that is killed for its need of memory dies at the same line again.
func TestHistory_SaysThatWorkersDieAtTheSameLine(t *testing.T) {
	for _, tt := range []struct {
		stuck int
		want  string
	}{{0, "the process before this one died"}, {stuckFrom, "one process after the other dies at the same line"}} {
		k, err := newSpool()
		must(t, err)
		k.count(9, unix.WaitStatus(unix.SIGKILL), tt.stuck)
		var log bytes.Buffer
		k.history().log(slog.New(slog.NewTextHandler(&log, nil)))
		k.close()
		if !strings.Contains(log.String(), tt.want) {
			t.Errorf("%d deaths at one mark: the log is %q, want %q", tt.stuck, &log, tt.want)
		}
	}
}
