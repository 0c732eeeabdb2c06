package logs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver"
)

// beginning is the day on which the test began, the same in each of its processes.
func beginning() time.Time {
	day, err := time.Parse(dayFormat, os.Getenv("LOGS_TEST_BEGINNING"))
	if err != nil {
		panic(err)
	}
	return day
}

// anyLine is the n-th line that a killed store has to keep.
func anyLine(n uint64) []byte {
	switch n % 8 {
	case 0:
		return fmt.Appendf(nil, `{"time":"%s","program":"nginx","status":%d,"path":"/a/%d","took":0.%03d}`,
			beginning().Add(-oneDay).Format("2006-01-02"), 200+n%300, n, n%1000)
	case 1:
		return fmt.Appendf(nil, "<13>1 2026-03-14T15:09:26Z web app %d - - ERROR number %d", n, n)
	case 2:
		return fmt.Appendf(nil, "caf\xe9 \x00 %d", n)
	case 3:
		return fmt.Appendf(nil, `{"n":%d,"n":"twice","nested":{"a":[1,{"b":null}]},"empty":""} `, n)
	case 4:
		if n%4096 == 4 {
			return append(fmt.Appendf(nil, "long %d ", n), strings.Repeat("x", 2<<20)...)
		}
	case 5:
		return fmt.Appendf(nil, "\x1b[31mred\x1b[0m %d 错误", n)
	}
	return fmt.Appendf(nil, "%d plain", n)
}

// commitChild commits lines from LOGS_TEST_SEQ on, and says up to which they are final.
func commitChild(dir string) int {
	s, err := Open(dir, Options{Reserve: 1 << 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	seq, _ := strconv.ParseUint(os.Getenv("LOGS_TEST_SEQ"), 10, 64)
	for {
		b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: beginning()}
		for range 1 + rand.IntN(300) {
			b.Lines = append(b.Lines, anyLine(b.End()))
		}
		if _, err := s.Commit(context.Background(), []receiver.Batch{b}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 3
		}
		seq = b.End()
		fmt.Println(seq)
		if rand.IntN(40) == 0 { // a barrier, a checkpoint, and the segment goes
			if err := s.Wait(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 3
			}
		}
	}
}

func init() { children["commit"] = commitChild }

// TestStore_KilledKeepsEachAcknowledgedLineOnce kills the process that stores, KILLS
// times, also while it opens the store, recovers, makes a barrier or a checkpoint.
func TestStore_KilledKeepsEachAcknowledgedLineOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	kills, _ := strconv.Atoi(os.Getenv("KILLS"))
	kills = max(kills, 8)
	dir, acked := t.TempDir(), uint64(1)
	for n := range kills {
		t.Setenv("LOGS_TEST_SEQ", strconv.FormatUint(acked, 10))
		cmd, said, log := child(t, "commit", dir)
		if n%3 == 0 { // while it opens
			time.AfterFunc(rand.N(400*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
		for first := true; said.Scan(); first = false {
			if first {
				time.AfterFunc(rand.N(1500*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
			acked, _ = strconv.ParseUint(said.Text(), 10, 64)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child exited: %v\n%s", err, log)
		}
		if n%100 == 99 {
			t.Logf("%d kills, %d lines are final", n+1, acked-1)
		}
	}
	s := open(t, dir, Options{Reserve: 1 << 20})
	r, err := s.Verify(t.Context())
	if err != nil || len(r.Streams) != 1 || r.Streams[0].Missing+r.Streams[0].Excess > 0 || len(r.Damaged) > 0 {
		t.Errorf("Verify = %+v, %v", r, err)
	}
	there := map[string]bool{}
	var altered, doubled int
	err = s.Lines(t.Context(), "*", 1<<40, func(l *Found) error {
		if there[l.UID] {
			doubled++
		}
		there[l.UID] = true
		seq, err := strconv.ParseUint(l.UID[16:], 32, 64)
		if err != nil || string(l.Text) != string(anyLine(seq)) {
			altered++
		}
		return err
	})
	lost := 0
	for seq := uint64(1); seq < acked; seq++ {
		if !there[fmt.Sprintf("%s%013s", sid, strconv.FormatUint(seq, 32))] {
			lost++
		}
	}
	t.Logf("%d kills, %d lines acknowledged, %d stored: lost %d, doubled %d, altered %d", kills, acked-1, len(there),
		lost, doubled, altered)
	if err != nil || lost+doubled+altered > 0 {
		t.Error(err)
	}
}
