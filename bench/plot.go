package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of the plot, in pixels.
const (
	plotWidth = 900
	labels    = 390 // to the left of the bars
	numbers   = 130 // to the right
	step      = 22
	bars      = plotWidth - labels - numbers
)

// plot is a picture of the end to end rates, and of how far each goal is
// reached: an SVG that needs nothing else.
func (r *record) plot() []byte {
	p := &picture{y: 30}
	p.heading("End to end, lines a second")
	for _, w := range rowsOf("End to end") {
		if s, ok := r.score(w); ok && s.measured && !strings.HasPrefix(w.text, "—") {
			p.rate(s, r)
		}
	}
	p.y += step
	p.heading("Goals: right of the line they are met")
	top := p.y
	for _, g := range table {
		heading := g.heading
		for _, w := range g.named() {
			s, _ := r.score(w)
			if times, ok := s.times(); ok {
				p.subheading(&heading)
				p.goal(s, times)
			}
		}
	}
	if p.y > top {
		p.line(labels+bars/2, top-step+6, p.y-step+10)
	}
	p.y += step / 2
	p.text(10, p.y, "start", "#888", r.Machine+", "+r.Software)
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+
		"\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n%s</svg>\n", plotWidth, p.y+step, p.b.String())
}

func rowsOf(heading string) []row {
	for _, g := range table {
		if strings.HasPrefix(g.heading, heading) {
			return g.rows
		}
	}
	return nil
}

// named is the rows with the names of those that they belong to.
func (g group) named() (rows []row) {
	owner := ""
	for _, w := range g.rows {
		if rest, ok := strings.CutPrefix(w.text, "—"); ok {
			w.text = owner + "," + rest
		} else {
			owner = w.text
		}
		rows = append(rows, w)
	}
	return rows
}

// picture is what was drawn, and how far down.
type picture struct {
	b strings.Builder
	y int
}

func (p *picture) heading(text string) {
	fmt.Fprintf(&p.b, `<text x="10" y="%d" font-weight="bold">%s</text>`+"\n", p.y, html.EscapeString(text))
	p.y += step
}

// subheading names a group of goals, once.
func (p *picture) subheading(text *string) {
	if *text != "" {
		short, _, _ := strings.Cut(*text, ":")
		p.text(10, p.y, "start", "#666", short)
		p.y += step
	}
	*text = ""
}

func (p *picture) text(x, y int, anchor, colour, text string) {
	text = strings.NewReplacer("`", "", `\|`, "|").Replace(text)
	fmt.Fprintf(&p.b, `<text x="%d" y="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(text))
}

func (p *picture) bar(x, width int, colour string) {
	fmt.Fprintf(&p.b, `<rect x="%d" y="%d" width="%d" height="14" rx="2" fill="%s"/>`+"\n", x, p.y-11, max(width, 1), colour)
}

func (p *picture) line(x, from, to int) {
	fmt.Fprintf(&p.b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#222"/>`+"\n", x, x, from, to)
}

// rate draws a bar as long as the fastest is times faster.
func (p *picture) rate(s score, r *record) {
	most := 0.0
	for _, w := range rowsOf("End to end") {
		x, _ := r.median(w.value)
		most = max(most, x)
	}
	width := int(bars * s.median / most)
	colour, words := "#b0b7c0", s.unit.format(s.median)
	if strings.HasPrefix(s.text, "wsrelay") {
		colour = "#2f6fb5"
	}
	if best, ok := r.median(bestRate); ok {
		words += fmt.Sprintf("  (%.2g × the best peer)", s.median/best)
	}
	if s.found != "" {
		colour, words = "#e3c9c9", words+", wrong"
	}
	p.text(labels-8, p.y, "end", "#222", s.text)
	p.bar(labels, width, colour)
	p.outside(width, words)
	p.y += step
}

// outside writes beside a bar, or into its end where there is no space.
func (p *picture) outside(width int, words string) {
	if labels+width+7*len(words) < plotWidth {
		p.text(labels+width+6, p.y, "start", "#222", words)
		return
	}
	p.text(labels+width-6, p.y, "end", "#fff", words)
}

// goal draws how many times a goal is reached, from a tenth to ten times.
func (p *picture) goal(s score, times float64) {
	const middle = labels + bars/2
	colour := "#3c8d5a"
	if times < 1 || s.found != "" {
		colour = "#c0504d"
	}
	width := int(math.Log10(min(max(times, 0.1), 10)) * bars / 2)
	p.text(labels-8, p.y, "end", "#222", clip(s.text, 60))
	p.bar(middle+min(width, 0), max(width, -width), colour)
	p.text(labels+bars+8, p.y, "start", "#222", fmt.Sprintf("%.2f × the goal", min(times, 99)))
	p.y += step
}

func clip(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}
