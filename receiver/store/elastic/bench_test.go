package elastic

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// SpeedLine is a request of nginx as the websocket() block of syslog-ng sends
// it.
func SpeedLine(n uint64) string {
	request := fmt.Sprintf(`{"ip":"203.0.113.%d","host":"shop.example","path":"/orders/%d?q=%d","status":%d,"referrer":"https://shop.example/cart",`+
		`"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0","length":%d,"generation_time_milli":%d,"date":"2026-11-22T23:00:00+00:00"}`,
		n%250+1, n%5000, n%31, 200+n%3*100, 100+n*7919%50000, n*31%1000)
	return fmt.Sprintf(`{"timestamp":"2026-11-22T23:00:00.%06d+00:00","host":"web1","program":"nginx","facility":"local7","severity":"info","priority":190,"message":%q,"fields":%s}`,
		n%1e6, request, request)
}

// BenchmarkBatch takes a batch of a thousand lines from the decoded message to
// the outcome of each document. The engine's side of the connection is left out:
// it answers as an engine does that has stored everything.
func BenchmarkBatch(b *testing.B) {
	for _, gzip := range []string{"off", "on"} {
		b.Run("gzip="+gzip, func(b *testing.B) { benchmarkBatch(b, gzip) })
	}
}

func benchmarkBatch(b *testing.B, gzip string) {
	const lines = 1000
	batch := receiver.Batch{SID: "0123456789abcdef", Host: "web1", Seq: 1, At: testDay}
	size := 0
	for n := range uint64(lines) {
		batch.Lines = append(batch.Lines, []byte(SpeedLine(n)))
		size += len(batch.Lines[n])
	}
	answer := storedAnswer(batch)
	c := clientOf(b, gzip, func(r *http.Request) string {
		_, _ = io.Copy(io.Discard, r.Body)
		return answer
	})
	names := new(names)
	k, _ := names.index(testIndex)
	maps.Copy(k.names, ours)
	k.names["fields.date"] = true

	b.SetBytes(int64(size))
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		ops := newOps("logs", []receiver.Batch{batch})
		names.write(ops)
		c.bulk(b.Context(), ops)
		for _, o := range ops {
			if o.outcome != stored {
				b.Fatalf("%s: %d, %v", o.id, o.outcome, o.err)
			}
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*lines), "cpu-ns/line")
}

// storedAnswer is what OpenSearch says of a bulk that it has stored.
func storedAnswer(batch receiver.Batch) string {
	var items []string
	for i := range batch.Lines {
		items = append(items, fmt.Sprintf(`{"create":{"_id":%q,"status":201}}`,
			handshake.UID(batch.SID, batch.Seq+uint64(i))))
	}
	return `{"items":[` + strings.Join(items, ",") + `]}`
}

// clientOf is a client whose requests never leave the process.
func clientOf(t testing.TB, gzip string, engine func(*http.Request) (answer string)) *Client {
	t.Helper()
	const address = "http://127.0.0.1:9200"
	c, err := Dial(address, Access{Gzip: gzip})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c.transport, err = elastictransport.NewClient(elastictransport.WithURLs(u), elastictransport.WithDisableRetry(),
		elastictransport.WithTransport(roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(engine(r)))}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cpuTime also has what the garbage collector does beside the benchmark.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
