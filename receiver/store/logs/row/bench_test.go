package row

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// web makes lines of a web server's access log, as a shop may have it: clients, pages
// and browsers of different popularity, numbers that do not compress.
type web struct {
	*rand.Rand
	k int
}

func newWeb() *web { return &web{Rand: rand.New(rand.NewPCG(1, 2))} }

func (w *web) popular(n int) int {
	x := w.Float64()
	return int(x * x * float64(n))
}

func (w *web) pick(words []string) string { return words[w.popular(len(words))] }

var (
	pages = strings.Fields(`/ /orders/ /items/ /search?q=shoes&page= /cart/ /api/v1/items/ /img/thumbs/ /account/ /help/returns/
		/items/new?sort=price&from= /checkout/step/ /api/v1/stock/ /brands/ /sizes/ /api/v1/reviews/ /wishlist/`)
	referrers = strings.Fields(`https://shop.example/ https://shop.example/items/ https://search.example/ https://shop.example/cart/
		https://shop.example/search?q=shoes https://news.example/style/2026/spring/`)
	statuses = strings.Fields("200 200 304 200 404 301 500")
	browsers = []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Version/%d.4",
		"Mozilla/5.0 (X11; Linux x86_64; rv:%[1]d.0) Gecko/20100101 Firefox/%[1]d.0",
		"Mozilla/5.0 (compatible;  Probe 2.%d; +https://probe.example/about?lang=*)",
	}
)

// request is the parts of a line that both forms have.
func (w *web) request() (client, path, status, referrer, agent string, size int, at time.Time) {
	c := uint32(w.popular(50_000)) * 2654435761
	client = fmt.Sprintf("%d.%d.%d.%d", 11+c>>24%180, c>>16&255, c>>8&255, c&255)
	path = w.pick(pages) + strconv.FormatInt(w.Int64N(1_000_000), 10)
	agent = fmt.Sprintf(w.pick(browsers), 90+w.popular(40))
	at = testAt.Add(-time.Hour).Add(time.Duration(w.k*3) * time.Millisecond)
	w.k++
	return client, path, w.pick(statuses), w.pick(referrers), agent, 400 + w.IntN(60_000), at
}

func (w *web) json() string {
	client, path, status, referrer, agent, size, at := w.request()
	escaped := strings.ReplaceAll(strings.ReplaceAll(agent, "Probe", `\"Probe\"`), "/about", `\/about`)
	return fmt.Sprintf(`{"time":"%s","host":"shop.example","server":"web1","ip":"%s","user":"","method":"GET","path":"%s","protocol":"HTTP/1.1","status":%s,`+
		`"bytes":%d,"referrer":"%s","agent":"%s","rt":0.%03d,"upstream":"127.0.0.1:8080","request_id":"%016x"}`,
		at.Format("2006-01-02T15:04:05.000Z07:00"), client, path, status, size, referrer, escaped, 1+w.popular(900),
		w.Uint64())
}

func (w *web) combined() string {
	client, path, status, referrer, agent, size, at := w.request()
	return fmt.Sprintf(`%s - - [%s] "GET %s HTTP/1.1" %s %d "%s" "%s"`, client, at.Format("02/Jan/2006:15:04:05 -0700"),
		path, status, size, referrer, agent)
}

func corpus(n int, line func() string) (lines []string, size int) {
	for range n {
		lines = append(lines, line())
		size += len(lines[len(lines)-1])
	}
	return lines, size
}

func forms() map[string]func() string {
	return map[string]func() string{"json": newWeb().json, "combined": newWeb().combined}
}

// BenchmarkRow is the Coder alone.
func BenchmarkRow(b *testing.B) {
	all, n := forms(), 0
	all["syslog"] = func() string { return "<34>Mar 14 02:03:04 web1 su[231]: 'su root' failed for lonvick on /dev/pts/8" }
	all["names that vary"] = func() string {
		n++
		return fmt.Sprintf(`{"time":"2026-03-14T02:03:04.005Z","user%d":{"clicks":%d},"msg":"seen"}`, n, n)
	}
	for name, form := range all {
		b.Run(name, func(b *testing.B) {
			lines, _ := corpus(10_000, form)
			c := newTable(b, Options{}).Coder()
			var r Row
			l := lineOf(0, "")
			b.ReportAllocs()
			before := cpu()
			for i := 0; b.Loop(); i++ {
				l.Seq, l.Text = uint64(i), append(l.Text[:0], lines[i%len(lines)]...)
				c.Row(&r, l)
			}
			b.ReportMetric((cpu()-before)*1e6/float64(b.N), "cpu-us/line")
		})
	}
}

// BenchmarkLibrary stores a million lines: bytes on disk and CPU for each.
func BenchmarkLibrary(b *testing.B) {
	const n = 1_000_000
	for name, form := range forms() {
		b.Run(name, func(b *testing.B) {
			lines, size := corpus(n, form)
			for b.Loop() {
				e, c := openLibrary(b), newTable(b, Options{}).Coder()
				var r Row
				before := cpu()
				for i, text := range lines {
					l := lineOf(uint64(i+1), text)
					l.At = testAt.Add(time.Duration(i/500) * time.Second)
					c.Row(&r, l)
					e.add(&r)
				}
				e.settle()
				b.ReportMetric(cpu()-before, "cpu-s/Mline")
				b.ReportMetric(float64(size)/n, "in-B/line")
				b.ReportMetric(float64(diskUsage(e.dir))/n, "disk-B/line")
			}
		})
	}
}

func cpu() float64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func diskUsage(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, err := os.Stat(path); err == nil && !d.IsDir() {
			n += info.Size()
		}
		return err
	})
	return n
}
