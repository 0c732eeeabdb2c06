package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// input is numbered lines, each with its newline, mapped into memory.
type input struct {
	path string
	data []byte
	ends []int // offset behind each line
}

// newInput writes n lines to path. They are the same at each call.
func newInput(path string, n int) (*input, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // Flush says what went wrong
	w, r, in := bufio.NewWriterSize(f, 1<<20), rand.New(rand.NewPCG(1, 2)), &input{path: path}
	var line []byte
	size := 0
	for k := range n {
		line = appendLine(line[:0], r, k)
		size += len(line)
		in.ends = append(in.ends, size)
		_, _ = w.Write(line)
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	in.data, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	return in, err
}

func (in *input) close() error { return unix.Munmap(in.data) }

// lines is the lines from, from+1, … up to and without to.
func (in *input) lines(from, to int) []byte { return in.data[in.offset(from):in.offset(to)] }

func (in *input) offset(line int) int {
	if line == 0 {
		return 0
	}
	return in.ends[line-1]
}

// mean is how long a line is, in bytes.
func (in *input) mean() float64 { return float64(len(in.data)) / float64(len(in.ends)) }

// appendLine is line k of an nginx access log in JSON, as a shop may have it:
// some 277 bytes; clients, pages and browsers of different popularity; numbers
// that do not compress. One browser has quotes, doubled blanks and a star in
// its name.
func appendLine(b []byte, r *rand.Rand, k int) []byte {
	client, ms := uint32(popular(r, 50_000))*2654435761, k*3
	b = fmt.Appendf(b, `{"n":%08d,"time":"2026-03-14T%02d:%02d:%02d.%03dZ","id":"%016x","ip":"%d.%d.%d.%d","path":"`, k,
		ms/3_600_000%24, ms/60_000%60, ms/1000%60, ms%1000, r.Uint64(), 11+client>>24%180, client>>16&255,
		client>>8&255, client&255)
	b = append(b, pages[popular(r, len(pages))]...)
	b = strconv.AppendInt(b, r.Int64N(1_000_000), 10)
	b = fmt.Appendf(b, `","status":%d,"referrer":"%s","agent":"`, statuses[popular(r, len(statuses))],
		referrers[popular(r, len(referrers))])
	b = fmt.Appendf(b, browsers[popular(r, len(browsers))], 90+popular(r, 40))
	b = fmt.Appendf(b, `","bytes":%d,"rt":0.%03d}`, 400+r.IntN(60_000), 1+popular(r, 900))
	return append(b, '\n')
}

// popular is a number below n, small ones more often.
func popular(r *rand.Rand, n int) int {
	x := r.Float64()
	return int(x * x * float64(n))
}

var (
	statuses  = []int{200, 200, 304, 200, 404, 301, 500}
	referrers = strings.Fields(`- https://shop.example/ https://shop.example/items/ https://search.example/ https://shop.example/cart/
		https://shop.example/search?q=shoes https://news.example/style/2026/spring/`)
	pages = strings.Fields(`/ /orders/ /items/ /search?q=shoes&page= /cart/ /api/v1/items/ /img/thumbs/ /account/ /help/returns/
		/items/new?sort=price&from= /checkout/step/ /api/v1/stock/ /brands/ /sizes/ /api/v1/reviews/ /wishlist/`)
	browsers = []string{ // each with a version to fill in
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Version/%d.4",
		"Mozilla/5.0 (X11; Linux x86_64; rv:%[1]d.0) Gecko/20100101 Firefox/%[1]d.0",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d Mobile",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)/%d",
		`Mozilla/5.0 (compatible;  \"Probe\" 2.%d; +https://probe.example/about?lang=*)`,
		"curl/8.%d.0",
	}
)

// verdict is what is wrong with what arrived.
type verdict struct{ lost, doubled, altered, unordered int }

func (v verdict) ok() bool { return v == verdict{} }

func (v verdict) String() string {
	if v.ok() {
		return "complete, in order"
	}
	var words []string
	for _, w := range []struct {
		n    int
		word string
	}{{v.lost, "lost"}, {v.doubled, "doubled"}, {v.altered, "altered"}, {v.unordered, "out of order"}} {
		if w.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", w.n, w.word))
		}
	}
	return "WRONG: " + strings.Join(words, ", ")
}

// check compares what arrived with the first n lines. A line that arrived
// altered is not lost as well.
func (in *input) check(got []byte, n int) (v verdict) {
	if bytes.Equal(got, in.lines(0, n)) {
		return v
	}
	seen, last := make([]bool, n), -1
	for line := range bytes.Lines(got) {
		k := number(line)
		switch {
		case k < 0 || k >= n:
			v.altered++
			continue
		case seen[k]:
			v.doubled++
			continue
		case k < last:
			v.unordered++
		}
		seen[k], last = true, max(last, k)
		if !bytes.Equal(line, in.lines(k, k+1)) {
			v.altered++
		}
	}
	for _, there := range seen {
		if !there {
			v.lost++
		}
	}
	return v
}

// number is the number in a line, -1 if there is none.
func number(line []byte) int {
	const before, digits = `{"n":`, 8
	if len(line) < len(before)+digits || string(line[:len(before)]) != before {
		return -1
	}
	k, err := strconv.Atoi(string(line[len(before) : len(before)+digits]))
	if err != nil {
		return -1
	}
	return k
}
