package metrics

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func figures(t *Text) {
	t.Gauge("a", "What a\nis.", 1.5)
	t.Counter("b_total", "B.", 3, "x", `q"\`+"\n", "y", "bad \xff")
	t.Counter("b_total", "B.", 1<<40, "x", "", "y", "z")
	t.Flag("on", "On.", true)
	t.Flag("off", "Off.", false)
	t.Time("at", "At.", time.UnixMilli(1_700_000_000_123))
	t.Time("never", "Never.", time.Time{})
	h := NewHistogram(0.1, 1)
	for _, v := range []float64{0.05, 0.1, 0.5, 7} {
		h.Observe(v)
	}
	t.Histogram("h", "H.", h, "k", "v")
}

const text = `# HELP a What a\nis.
# TYPE a gauge
a 1.5
# HELP b_total B.
# TYPE b_total counter
b_total{x="q\"\\\n",y="bad �"} 3
b_total{x="",y="z"} 1099511627776
# HELP on On.
# TYPE on gauge
on 1
# HELP off Off.
# TYPE off gauge
off 0
# HELP at At.
# TYPE at gauge
at 1.700000000123e+09
# HELP h H.
# TYPE h histogram
h_bucket{k="v",le="0.1"} 2
h_bucket{k="v",le="1"} 3
h_bucket{k="v",le="+Inf"} 4
h_sum{k="v"} 7.65
h_count{k="v"} 4
`

func TestText_IsPrometheusFormat(t *testing.T) {
	var got Text
	figures(&got)
	if string(got.Bytes()) != text {
		t.Errorf("got\n%s\nwant\n%s", got.Bytes(), text)
	}
}

func TestHandler_AnswersOnlyForThisMachine(t *testing.T) {
	h := Local(Handler(figures))
	for host, want := range map[string]int{
		"127.0.0.1:9": 200, "[::1]:9": 200, "::1": 200, "localhost": 200, "localhost:9": 200,
		"evil.example": 421, "127.0.0.1.evil.example:9": 421, "": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || w.Code == 200 && w.Body.String() != text {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestWriteFile_ReplacesTheFileAtOnceAndForAllToRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "wsrelay.prom")
	for range 2 {
		if err := WriteFile(name, figures); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if got, _ := os.ReadFile(name); string(got) != text {
		t.Errorf("got %s", got)
	}
	if left, _ := os.ReadDir(filepath.Dir(name)); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestWriteFile_FollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	name, precious := filepath.Join(dir, "wsrelay.prom"), filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, ".wsrelay.prom.next")); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(name, figures); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(precious)
	if got, _ := os.ReadFile(precious); err != nil || string(got) != "precious" || info.Mode().Perm() != 0o600 {
		t.Errorf("the file that a link led to holds %q, mode %v", got, info.Mode())
	}
	if got, _ := os.ReadFile(name); string(got) != text {
		t.Errorf("got %s", got)
	}
}
