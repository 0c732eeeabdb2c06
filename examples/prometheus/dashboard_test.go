package prometheus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wsrelay/internal/metrics"
	"wsrelay/receiver/store/logs"
)

// The dashboard for Grafana asks only for metrics that there are, in expressions
// that Prometheus understands.
func TestDashboard_AsksForMetricsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../grafana/wsrelay.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	store, err := logs.Open(t.TempDir(), logs.Options{Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var more metrics.Text
	store.Metrics(&more)
	metrics.Process(&more)
	all := append(written(), more.Bytes()...)

	names := regexp.MustCompile(`\b(?:ws(?:relay|receive)|process)_[a-z_]+`)
	suffix := regexp.MustCompile(`_bucket$`)
	ids, asked := map[int]bool{}, 0
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$job", ".+")
			fmt.Fprintf(&rules, "      - {record: a:b%d, expr: %q}\n", asked, expr)
			for _, name := range names.FindAllString(expr, -1) {
				if asked++; !bytes.Contains(all, []byte("# TYPE "+suffix.ReplaceAllString(name, "")+" ")) {
					t.Errorf("panel %q: no program has %s", p.Title, name)
				}
			}
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard asks for %d metrics", asked)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", path)
}
