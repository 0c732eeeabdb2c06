package logs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
)

func init() { children["poisoned"] = poisonedChild }

// poisonedChild reads every row, and ends without the name of a file where it
// meets one of the day in LOGS_TEST_DAY: as the library does, or by a panic in one
// of its goroutines.
func poisonedChild(dir string) int {
	o := testOptions()
	o.block = func(b *logstorage.DataBlock) {
		for _, c := range b.GetColumns(false) {
			if c.Name != "_time" || !slices.ContainsFunc(c.Values,
				func(v string) bool { return strings.HasPrefix(v, os.Getenv("LOGS_TEST_DAY")) }) {
				continue
			}
			if os.Getenv("LOGS_TEST_HOW") == "message" {
				logger.Panicf("FATAL: cannot unmarshal a value")
			}
			panic("index out of range")
		}
	}
	s, err := Open(dir, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if err := readAll(s); err != nil || s.Close() != nil {
		return 3
	}
	return 0
}

// Damage of which no file is named ends the process three times at most: in a
// query, and when each day is read. A kill meanwhile costs no day.
func TestOpen_FindsTheDayWhoseDamageNamesNoFile(t *testing.T) {
	for _, how := range []string{"message", "panic"} {
		t.Run(how, func(t *testing.T) {
			dir, at := t.TempDir(), time.Now()
			s := open(t, dir, testOptions())
			for i := range 3 {
				add(t, s, fmt.Sprintf("e-%d", i), lines(uint64(1+1000*i), 500, at.Add(-time.Duration(i)*oneDay)))
			}
			barrier(t, s)
			shut(t, s)
			bad := at.Add(-oneDay).UTC()
			t.Setenv("LOGS_TEST_DAY", bad.Format("2006-01-02"))
			t.Setenv("LOGS_TEST_HOW", how)
			starts := 0
			for ok := false; !ok; starts++ {
				cmd, said, log := child(t, "poisoned", dir)
				for said.Scan() {
				}
				if ok = cmd.Wait() == nil; !ok && starts == 3 {
					t.Fatalf("a crash loop:\n%s", log)
				}
				if starts == 1 { // it had begun to read each day: a kill there
					cmd, said, _ := child(t, "poisoned", dir)
					time.AfterFunc(20*time.Millisecond, func() { _ = cmd.Process.Kill() })
					for said.Scan() {
					}
					_ = cmd.Wait()
				}
			}
			s = open(t, dir, testOptions())
			damaged, err := s.damage.list()
			if want := []string{bad.Format(dayFormat)}; err != nil || !slices.Equal(damaged, want) {
				t.Errorf("damaged: %v, %v; want %v", damaged, err, want)
			}
			wantCount(t, s, "e-0", 500)
			wantCount(t, s, "e-1", 0)
			wantCount(t, s, "e-2", 500)
		})
	}
}
