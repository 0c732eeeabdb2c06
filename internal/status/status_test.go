package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wsrelay/buffer"
	"wsrelay/internal/metrics"
	"wsrelay/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reported runs a reporter of a fresh queue in dir, with its socket.
func reported(t *testing.T, dir string, o Options) *buffer.Queue {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.QueueDir = dir
	r := NewReporter(q, o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	wg.Go(func() { Serve(ctx, q.Dir, r.Snapshot, slog.New(slog.DiscardHandler)) })
	answers(t, dir)
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = errors.Join(r.Close(), q.Close(context.Background()))
	})
	return q
}

// answers waits until a relay serves in dir.
func answers(t *testing.T, dir string) {
	t.Helper()
	for range 2000 {
		if _, err := query(dir); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nobody answers")
}

func fill(t *testing.T, q *buffer.Queue, n int) {
	t.Helper()
	for range n {
		r, err := q.Append(t.Context(), []byte("line\n"), 1, buffer.Origin{})
		if err == nil {
			err = q.WaitDurable(t.Context(), r.End)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func still(s relay.Status) func() relay.Status { return func() relay.Status { return s } }

func TestRead_AsksTheRelayThroughItsSocket(t *testing.T) {
	for name, dir := range map[string]string{
		"short path": filepath.Join(t.TempDir(), "q"),
		"long path":  filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "q"),
	} {
		t.Run(name, func(t *testing.T) {
			q := reported(t, dir, Options{Instance: "web", Version: "v1", Relay: still(relay.Status{
				State: relay.StateConnected, URL: "ws://r", LastError: "gone", Effect: "wait", Hint: "look",
			})})
			fill(t, q, 5)
			info, err := os.Stat(filepath.Join(dir, socketName))
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("socket: %v, %v", info.Mode(), err)
			}
			var readers sync.WaitGroup
			for range 8 {
				readers.Go(func() {
					s := Read(dir)
					if s.Instance != "web" || s.PID != os.Getpid() || s.State != relay.StateConnected ||
						s.BacklogLines != 5 ||
						s.LinesIn != 5 || s.OldestAt.IsZero() || s.DiskLimitBytes == 0 || len(s.Lost) != 0 ||
						s.Healthy || len(s.Problems) != 1 || s.Problems[0] != (Problem{"gone", "wait", "look"}) {
						t.Errorf("got %+v", s)
					}
				})
			}
			readers.Wait()
		})
	}
}

func TestListen_ReplacesWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		ln, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close() // the file stays
	}
	if _, err := os.Stat(filepath.Join(dir, socketName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a socket in a directory that is not there")
	}
}

func TestRead_WithoutARelayTellsWhatTheFilesHold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, q, 3)
	if s := Read(dir); s.State != Silent || s.PID != os.Getpid() || s.BacklogLines != 3 || s.Healthy {
		t.Errorf("locked, and nobody answers: %+v", s)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	s := Read(dir)
	if s.State != NotRunning || s.Instance != "web" || s.BacklogLines != 3 || s.LagSeconds <= 0 ||
		!strings.Contains(s.Problems[0].Effect, "nothing is lost") {
		t.Errorf("not running: %+v", s)
	}
	if after := listing(t, dir); !slices.Equal(after, before) {
		t.Errorf("it changed %s to %s", before, after)
	}
	if _, err := buffer.Purge(dir, buffer.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := Read(dir); s.BacklogLines != 0 || len(s.Lost) != 1 || s.Lost[0] != (Lost{"purged", 3, 0}) {
		t.Errorf("purged: %+v", s)
	}
	if s := Read(t.TempDir()); s.State != Unknown || ExitCode([]Snapshot{s}) != 1 {
		t.Errorf("no queue: %+v", s)
	}
}

func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(e.Name(), info.Size(), info.ModTime()))
	}
	return all
}

func TestRead_OfAProgramThatAnswersNonsenseIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := ln.Accept()
		if err == nil {
			_, _ = conn.Write(bytes.Repeat([]byte(`{"x":[[[[`), maxAnswer))
			_ = conn.Close()
		}
	})
	if s := Read(dir); s.State != Unknown {
		t.Errorf("got %+v", s)
	}
	wg.Wait()
}

func TestFind_GivesTheDirectoriesThatAWsrelayHasUsed(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "odd[name]*")
	for _, name := range []string{"b", "a", "no-queue"} {
		if err := os.MkdirAll(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if name != "no-queue" {
			if err := os.WriteFile(filepath.Join(parent, name, "IDENTITY"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := Find(parent, parent, filepath.Join(parent, "nowhere"))
	if want := []string{filepath.Join(parent, "a"), filepath.Join(parent, "b")}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExitCode_IsOfTheWorst(t *testing.T) {
	well, wrong, ended := Snapshot{State: relay.StateIdle, Healthy: true}, Snapshot{State: relay.StateWaiting},
		Snapshot{State: NotRunning}
	for want, all := range map[int][][]Snapshot{
		0: {{well}, {well, well}},
		1: {{wrong}, {well, wrong, ended}, {ended, wrong}},
		3: {{}, {ended}, {well, ended}, {ended, well}},
	} {
		for _, a := range all {
			if got := ExitCode(a); got != want {
				t.Errorf("%v: got %d, want %d", a, got, want)
			}
		}
	}
}

// No loss is in the counter twice, or not at all, whenever it is reported to the receiver.
func TestMetrics_CountALossOnceOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, q, 3)
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := buffer.Purge(dir, buffer.Options{}); err != nil {
		t.Fatal(err)
	}
	for run, told := range []int{0, 0, 3, 3} {
		q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if told > 0 {
			if _, err := q.TryNext(); err != nil {
				t.Fatal(err)
			}
			if err := q.Ack(q.Stats().Head, buffer.Receipt{}); err != nil {
				t.Fatal(err)
			}
		}
		r := NewReporter(q, Options{Instance: "web", QueueDir: dir, Relay: still(relay.Status{})})
		s := r.Snapshot()
		var text metrics.Text
		s.Metrics(&text, true)
		for name, want := range map[string]int{
			"wsrelay_lost_lines_total":  told,
			"wsrelay_lost_lines_untold": 3 - told,
		} {
			if line := fmt.Sprintf("%s{relay=\"web\",why=\"purged\"} %d\n", name,
				want); !strings.Contains(string(text.Bytes()), line) {
				t.Errorf("run %d: no %q in\n%s", run, line, text.Bytes())
			}
		}
		if err := errors.Join(r.Close(), q.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshot_SaysWhenTheDrainRateIsTooLow(t *testing.T) {
	s := Snapshot{DrainRate: 1, LagSeconds: 600, State: relay.StateConnected, InRate: 100, OutRate: 50}
	s.queue(buffer.Stats{Cursor: 1, Durable: 10, Head: 10})
	s.findProblems(&relay.Status{}, buffer.Stats{Cursor: 1, Head: 10})
	if len(s.Problems) != 1 || s.Problems[0].Hint != "raise --drain-rate" {
		t.Errorf("got %v", s.Problems)
	}
}

func TestSnapshot_JSONGoesBothWays(t *testing.T) {
	s := full()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Snapshot
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", s) {
		t.Errorf("got %+v\nwant %+v", back, s)
	}
}

// full has something in every field.
func full() Snapshot {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return Snapshot{
		Instance: "web", QueueDir: "/q", At: at, State: relay.StateConnected, Problems: []Problem{{"e", "l", "h"}},
		PID: 4121, Version: "v1.2.3", StartedAt: at.Add(-50 * time.Hour), Keeper: true, WorkerRestarts: 3,
		LastWorker: "killed by SIGKILL",
		URL:        "wss://logs.example.com/relay", Since: at.Add(-3*time.Hour - 12*time.Minute), FailedAttempts: 1,
		NextAttemptAt: at.Add(4 * time.Second), Sessions: 2, Failures: 3,
		SID: "0123456789abcdef", LinesIn: 1_300_000, LinesDone: 100_000, BacklogLines: 1_200_000,
		BacklogBytes: 84 << 20,
		DiskBytes:    128 << 20, DiskLimitBytes: 8 << 30, OldestAt: at.Add(-12 * time.Minute), LagSeconds: 720,
		InRate: 1000, OutRate: 5000, RateSeconds: 60,
		ReceiptSeq: 100_001, ReceiptUID: "0123456789abcdef0000000100000", ReceiptAt: at.Add(-2 * time.Second),
		SentLines: 4, SentBytes: 5, SentAgainLines: 6, DeadLetterLines: 7,
		Lost: []Lost{{"expired", 1, 1}, {"overflow", 3000, 1000}, {"purged", 2, 0}}, DrainRate: 2 << 20,
	}
}

func TestSnapshot_EveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(full())
	var keys map[string]any
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	if n := reflect.TypeFor[Snapshot]().NumField(); len(keys) != n {
		t.Errorf("%d keys of %d fields: full has one that is empty", len(keys), n)
	}
	for key := range keys {
		if !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("docs/status.md does not have %s", key)
		}
	}
}

func TestWrite_TellsABacklogInWords(t *testing.T) {
	s := full()
	s.Healthy, s.Problems = true, nil
	var got bytes.Buffer
	Write(&got, []Snapshot{s})
	want := `web: delivering a backlog
  receiver  wss://logs.example.com/relay, connected for 3 h 12 min
  backlog   1,200,000 lines, 84 MiB on disk, the oldest for 12 min 0 s; gone in about 5 min 0 s; sent at 2.0 MiB/s at most
  rates     in 1,000, out 5,000 lines/s over the last 1 min 0 s
  receipt   2 s ago, up to line 100,000, UID 0123456789abcdef0000000100000
  lost      1 line older than --queue-max-age, 3,000 lines at the queue's limit (1,000 of them reported to the receiver), 2 lines by wsrelay queue purge (not yet reported to the receiver)
  refused   7 lines by the store, kept in its dead-letter index
  process   4121, wsrelay v1.2.3, for 2 d 2 h; started again 3 times, the one before: killed by SIGKILL
  queue     /q, 128 MiB of at most 8.0 GiB on disk
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestWrite_PutsWhatIsWrongFirst(t *testing.T) {
	for want, s := range map[string]Snapshot{
		"NOT DELIVERING":                   {State: relay.StateWaiting},
		"NOT DELIVERING: invalid configur": {State: Holding},
		"connected, but something is WRON": {State: relay.StateConnected},
		"something is WRONG":               {State: relay.StateIdle},
		"DOES NOT ANSWER":                  {State: Silent},
		"NOT RUNNING":                      {State: NotRunning},
		"CANNOT TELL":                      {State: Unknown},
	} {
		s.Instance, s.Problems = "w\x1b[2Jeb\n", []Problem{{"what\x1b[2J", "effect", "hint"}}
		var got bytes.Buffer
		Write(&got, []Snapshot{s})
		if !strings.HasPrefix(got.String(), "w [2Jeb : "+want) ||
			!strings.Contains(got.String(), "\n  error     what [2J\n  effect    effect\n  hint      hint\n") {
			t.Errorf("%s: got\n%s", s.State, got.String())
		}
	}
}

func TestMetrics_HasEveryReasonFromTheStart(t *testing.T) {
	var before, after metrics.Text
	s := full()
	s.Metrics(&after, true)
	s.Lost = nil
	s.Metrics(&before, false)
	for _, why := range whys {
		for _, name := range []string{"wsrelay_lost_lines_total", "wsrelay_lost_lines_untold"} {
			if !strings.Contains(string(before.Bytes()), name+`{relay="web",why="`+why+`"} 0`) {
				t.Errorf("no %s for %s", name, why)
			}
		}
	}
	for _, want := range []string{
		`wsrelay_lost_lines_total{relay="web",why="overflow"} 1000`,
		`wsrelay_lost_lines_untold{relay="web",why="overflow"} 2000`,
		`wsrelay_lag_seconds{relay="web"} 720`, `wsrelay_up{relay="web"} 1`,
		`wsrelay_lines_in_total{relay="web",sid="0123456789abcdef"} 1300000`,
	} {
		if !strings.Contains(string(after.Bytes()), want+"\n") {
			t.Errorf("no %s in\n%s", want, after.Bytes())
		}
	}
}
