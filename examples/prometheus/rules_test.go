package prometheus_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/metrics"
	"wsrelay/receiver"
	"wsrelay/status"
)

// promtool runs it, or skips the test where there is none; in CI nothing is
// skipped.
func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed, and CI skips nothing")
		}
		t.Skip("promtool is not installed")
	}
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

// written is what both programs have for a scrape.
func written() []byte {
	var t metrics.Text
	now := time.Now()
	s := status.Snapshot{Instance: "web", Version: "v1", SID: "0123456789abcdef", Keeper: true, StartedAt: now, ReceiptAt: now}
	s.Metrics(&t, true)
	receiver.New(nowhere{}, receiver.Options{}).Metrics(&t)
	return t.Bytes()
}

type nowhere struct{}

func (nowhere) Commit(context.Context, []receiver.Batch) ([]receiver.Result, error) { return nil, nil }

func (nowhere) Describe() (name, guarantee string) { return "nowhere", "" }

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
