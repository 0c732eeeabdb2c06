package prometheus_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
	"wsrelay/internal/status"
	"wsrelay/receiver"
	"wsrelay/test/harness"
)

// promtool runs it, or skips the test where there is none.
func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	harness.Need(t, "promtool")
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRules_FireWhenTheyShould(t *testing.T) {
	promtool(t, nil, "check", "rules", "wsrelay.rules.yml")
	promtool(t, nil, "test", "rules", "tests.yml")
}

// Of 5,000 senders of which 50 fall silent, these 50 alarm, and no other.
func TestRules_FindFiftyOfFiveThousandSenders(t *testing.T) {
	if testing.Short() {
		t.Skip("promtool takes seconds for so many")
	}
	rules, err := filepath.Abs("wsrelay.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var test strings.Builder
	fmt.Fprintf(&test, "rule_files: [%s]\nevaluation_interval: 1m\ntests:\n", rules)
	for group := range 4 { // promtool holds 10,000 samples at most
		var series, alerts strings.Builder
		for i := group * 1250; i < (group+1)*1250; i++ {
			values := "0+60x90"
			if i%100 == 7 {
				values = "0+60x10 600x80"
				fmt.Fprintf(&alerts, "          - exp_labels: {severity: warning, host: web%d, sid: s%d}\n            exp_annotations: {summary: 'No line has come from web%d for 1h 10m 0s.',"+
					" effect: 'Unknown from here: the host may have nothing to say, or it is down, or its lines wait there.',"+
					" hint: 'wsrelay status, on web%d, says which. A host that was taken out is forgotten after 30 days.'}\n", i, i, i, i)
			}
			fmt.Fprintf(&series, "      - {series: 'wsreceive_sender_last_line_timestamp_seconds{host=\"web%d\", sid=\"s%d\"}', values: '%s'}\n", i, i, values)
		}
		test.WriteString("  - interval: 1m\n    input_series:\n" + series.String() +
			"    alert_rule_test:\n      - {eval_time: 60m, alertname: WsreceiveSenderSilent}\n" +
			"      - eval_time: 80m\n        alertname: WsreceiveSenderSilent\n        exp_alerts:\n" + alerts.String())
	}
	path := filepath.Join(t.TempDir(), "fleet.yml")
	if err := os.WriteFile(path, []byte(test.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "test", "rules", path)
}

// written is what both programs have for a scrape.
func written() []byte {
	var t metrics.Text
	now := time.Now()
	s := status.Snapshot{
		Instance: "web", Version: "v1", SID: "0123456789abcdef", Keeper: true, StartedAt: now,
		ReceiptAt: now,
	}
	s.Metrics(&t, true)
	r := receiver.New(nowhere{}, receiver.Options{})
	ctx, stop := context.WithCancel(context.Background())
	stop()
	r.KeepSenders(ctx)
	r.Metrics(&t)
	return t.Bytes()
}

type nowhere struct{}

func (nowhere) Commit(context.Context, []receiver.Batch) ([]receiver.Result, error) { return nil, nil }

func (nowhere) Describe() (name, guarantee string) { return "nowhere", "" }

// Senders gives one of each metric.
func (nowhere) Senders(context.Context) ([]receiver.Sender, error) {
	now := time.Now()
	return []receiver.Sender{{SID: "0123456789abcdef", Host: "web1", First: now, Seen: now, Line: now, Refused: now}}, nil
}

func (nowhere) KeepSenders(context.Context, []receiver.Sender, []receiver.Sender, []string) error {
	return nil
}

func (nowhere) Begin(*handshake.Hello) {}

func (nowhere) Close() error { return nil }

func TestMetrics_ArePrometheusFormatAndWellNamed(t *testing.T) {
	promtool(t, written(), "check", "metrics")
}

func TestRules_AskForMetricsThatThereAre(t *testing.T) {
	rules, err := os.ReadFile("wsrelay.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bws(relay|receive)_[a-z_]+`)
	for _, line := range regexp.MustCompile(`expr: .*`).FindAll(rules, -1) {
		for _, name := range names.FindAll(line, -1) {
			if !bytes.Contains(written(), append([]byte("# TYPE "), append(name, ' ')...)) {
				t.Errorf("no program has %s", name)
			}
		}
	}
}

func TestReadme_NamesEveryMetric(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`# TYPE (\S+)`).FindAllSubmatch(written(), -1) {
		if !bytes.Contains(readme, append(append([]byte("`"), m[1]...), '`')) {
			t.Errorf("README.md does not name %s", m[1])
		}
	}
}
