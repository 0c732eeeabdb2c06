// Package metrics writes figures in the text format that Prometheus scrapes
// (exposition formats, version 0.0.4).
//
// It is a formatter and nothing else: what there is to count, wsrelay's queue
// and wsreceive's sessions count anyway, and a scrape takes a picture of that.
// The usual client library would add 2.7 MB to a program that is to have no
// more than 8; VictoriaMetrics/metrics adds 0.4, and leaves help texts, the
// escaping of labels and Prometheus' kind of histogram to its caller.
package metrics

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Text is figures in the making. All of one name belong together, one behind
// the other.
type Text struct {
	b    bytes.Buffer
	name string // of the newest
}

// Counter adds a figure that only grows, until the program, or what it counts,
// starts again. Labels are names and values in turn.
func (t *Text) Counter(name, help string, v float64, labels ...string) {
	t.head(name, help, "counter")
	t.sample(name, v, labels)
}

// Gauge adds a figure that goes up and down.
func (t *Text) Gauge(name, help string, v float64, labels ...string) {
	t.head(name, help, "gauge")
	t.sample(name, v, labels)
}

// Flag is a Gauge that is 1 or 0.
func (t *Text) Flag(name, help string, v bool, labels ...string) {
	t.Gauge(name, help, map[bool]float64{true: 1}[v], labels...)
}

// Time is a Gauge of a moment, in Unix seconds; the zero time is left out.
func (t *Text) Time(name, help string, at time.Time, labels ...string) {
	if !at.IsZero() {
		t.Gauge(name, help, float64(at.UnixMilli())/1000, labels...)
	}
}

// Histogram adds what h has observed.
func (t *Text) Histogram(name, help string, h *Histogram, labels ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.head(name, help, "histogram")
	var n uint64
	for k, c := range h.counts {
		n += c
		le := "+Inf"
		if k < len(h.bounds) {
			le = number(h.bounds[k])
		}
		t.sample(name+"_bucket", float64(n), append(slices.Clip(labels), "le", le))
	}
	t.sample(name+"_sum", h.sum, labels)
	t.sample(name+"_count", float64(n), labels)
}

// Bytes is the text so far.
func (t *Text) Bytes() []byte { return t.b.Bytes() }

func (t *Text) head(name, help, kind string) {
	if name != t.name {
		t.name = name
		fmt.Fprintf(&t.b, "# HELP %s %s\n# TYPE %s %s\n", name, escapeHelp.Replace(help), name, kind)
	}
}

func (t *Text) sample(name string, v float64, labels []string) {
	t.b.WriteString(name)
	for k := 0; k+1 < len(labels); k += 2 {
		t.b.WriteByte("{,"[min(k, 1)])
		fmt.Fprintf(&t.b, `%s="%s"`, labels[k], escapeLabel.Replace(strings.ToValidUTF8(labels[k+1], "\ufffd")))
	}
	if len(labels) > 1 {
		t.b.WriteByte('}')
	}
	t.b.WriteString(" " + number(v) + "\n")
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Histogram counts observations by size; its methods may be called concurrently.
type Histogram struct {
	bounds []float64

	mu     sync.Mutex // guards the fields below
	counts []uint64   // by the first bound that is not below; the last: none is
	sum    float64
}

// NewHistogram makes one with these upper bounds, ascending.
func NewHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	k, _ := slices.BinarySearch(h.bounds, v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[k]++
	h.sum += v
}
