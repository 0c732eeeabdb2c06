package logs

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// web is a coder that makes rows like those of a web server's lines in JSON.
type web struct {
	plain
	rand *rand.Rand
}

func (w web) Row(dst *row.Row, l *row.Line) {
	n := l.Seq
	path := "/api/v1/item/" + strconv.FormatUint(w.rand.Uint64N(5000), 10)
	status := []string{"200", "200", "200", "200", "304", "404", "500", "502"}[w.rand.IntN(8)]
	dst.Time, dst.Stream, dst.Whole = l.At.Add(time.Duration(n)*10*time.Microsecond), 2, false
	dst.Fields = dst.Fields[:0]
	for _, f := range [][2]string{
		{"host", l.Host},
		{"program", "nginx"},
		{"_msg", "GET " + path + " " + status},
		{"remote_addr", fmt.Sprintf("10.%d.%d.%d", w.rand.IntN(4), w.rand.IntN(256), w.rand.IntN(256))},
		{"method", "GET"},
		{"path", path},
		{"status", status},
		{"bytes", strconv.Itoa(w.rand.IntN(50000))},
		{"request_time", strconv.FormatFloat(w.rand.Float64(), 'f', 3, 64)},
		{"user_agent", "Mozilla/5.0 (X11; Linux x86_64) " + strconv.Itoa(w.rand.IntN(40))},
		{"referer", "https://example.com/" + strconv.Itoa(w.rand.IntN(300))},
		{"request_id", fmt.Sprintf("%016x", w.rand.Uint64())},
		{"level", "info"},
		{"wsrelay.skeleton", "1"},
		{fieldSID, l.SID},
		{fieldSeq, row.SeqValue(n)},
		{fieldCRC, strconv.FormatUint(uint64(w.rand.Uint32()), 10)},
		{fieldSegment, l.Segment},
	} {
		dst.Fields = append(dst.Fields, logstorage.Field{Name: f[0], Value: f[1]})
	}
}

// TestScale says what many rows cost. It is run by hand: LOGS_TEST_ROWS=10000000.
func TestScale_Rows(t *testing.T) {
	rows, _ := strconv.Atoi(os.Getenv("LOGS_TEST_ROWS"))
	if rows == 0 {
		t.Skip("set LOGS_TEST_ROWS to how many")
	}
	dir := os.Getenv("LOGS_TEST_KEEP")
	if dir == "" {
		dir = t.TempDir()
	}
	o := testOptions()
	o.coder = func(s row.Skeletons) (func() coder, error) {
		return func() coder { return web{plain{s}, rand.New(rand.NewPCG(1, 2))} }, nil
	}
	s := open(t, dir, o)
	batch := receiver.Batch{SID: sid, Host: "web1", At: time.Now().Add(-time.Hour)}
	batch.Lines = slices.Repeat([][]byte{nil}, 1000)
	const segment = 100_000
	began, cpu := time.Now(), cpuSeconds(t)
	var barriers, counts []time.Duration
	for n := 0; n < rows; n += len(batch.Lines) {
		name := fmt.Sprintf("7f3a9c-%d", n/segment)
		batch.Seq = uint64(n)
		add(t, s, name, []receiver.Batch{batch})
		if (n+len(batch.Lines))%segment == 0 {
			at := time.Now()
			barrier(t, s)
			barriers = append(barriers, time.Since(at))
			at = time.Now()
			wantCount(t, s, name, segment)
			counts = append(counts, time.Since(at))
		}
		if (n+len(batch.Lines))%1_000_000 == 0 {
			t.Logf("%d rows: %.1f s CPU, %.0f s; RSS %s, peak %s", n+len(batch.Lines), cpuSeconds(t)-cpu, time.Since(began).Seconds(), status(t, "VmRSS"), status(t, "VmHWM"))
		}
	}
	report := func(what string, list []time.Duration) {
		slices.Sort(list)
		t.Logf("%s: median %s, p99 %s, longest %s", what, list[len(list)/2], list[len(list)*99/100], list[len(list)-1])
	}
	report("barrier", barriers)
	report("count right after it", counts)
	counts = nil
	for range 100 {
		at := time.Now()
		wantCount(t, s, fmt.Sprintf("7f3a9c-%d", rand.IntN(rows/segment)), segment)
		counts = append(counts, time.Since(at))
	}
	report("count of any segment", counts)
	at := time.Now()
	n := 0
	if err := s.db.Each(t.Context(), "7f3a9c-0", func(journal.ID) { n++ }); err != nil || n != segment {
		t.Errorf("Each: %d, %v", n, err)
	}
	t.Logf("each of a segment: %s", time.Since(at))
	at = time.Now()
	n = 0
	if err := s.db.Sums(t.Context(), sid, 500_000, 500_100, func(uint64, uint32) { n++ }); err != nil || n != 100 {
		t.Errorf("Sums: %d, %v", n, err)
	}
	t.Logf("sums of 100 lines: %s", time.Since(at))
	for _, q := range []string{`"item/4711"`, `request_id:="0123456789abcdef"`, `status:>=500 | stats count() n`, `* | stats by (path) count() n | sort by (n desc) | limit 10`} {
		at = time.Now()
		r := httptest.NewRequest(http.MethodGet, "/select/logsql/query?limit=50&query="+url.QueryEscape(q), nil)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		t.Logf("%s: %s, %d bytes, status %d; RSS %s", q, time.Since(at), w.Body.Len(), w.Code, status(t, "VmRSS"))
	}
	var wg sync.WaitGroup
	for _, q := range []string{
		`* | stats by (request_id) count() n`, `* | sort by (request_id)`, `* | uniq by (request_id)`, `* | facets 100`,
		`_msg:~"item/.*7.*9" | sort by (bytes desc) | limit 100000`, `* | stats by (path, remote_addr) count() n, quantile(0.99, request_time)`,
		`request_id:in(status:200 | fields request_id)`, `* | top 1000 by (referer, user_agent, status)`,
	} {
		wg.Go(func() {
			at := time.Now()
			w := httptest.NewRecorder()
			w.Body = nil
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/select/logsql/query?query="+url.QueryEscape(q), nil))
			t.Logf("at the same time: %s: %s, status %d", q, time.Since(at), w.Code)
		})
	}
	wg.Wait()
	t.Logf("after these: RSS %s, peak %s", status(t, "VmRSS"), status(t, "VmHWM"))
	time.Sleep(3 * time.Second)
	size := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if info, infoErr := e.Info(); err == nil && infoErr == nil && e.Type().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	t.Logf("%.1f bytes a row on disk; %.1f s CPU in all; RSS %s, peak %s; %d snapshots more than one a barrier",
		float64(size)/float64(rows), cpuSeconds(t)-cpu, status(t, "VmRSS"), status(t, "VmHWM"), s.repeated.Load())
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
