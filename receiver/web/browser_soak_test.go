package web

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// What a tab costs that shows new lines for long: the CPU time and the memory of its
// process. SOAK_LIVE says how long, SOAK_RATE how many lines a second (500).
func TestBrowser_SoakLive(t *testing.T) {
	total, err := time.ParseDuration(os.Getenv("SOAK_LIVE"))
	if err != nil {
		t.Skip("SOAK_LIVE=30m measures what the live view costs")
	}
	rate := 500
	if n, err := strconv.Atoi(os.Getenv("SOAK_RATE")); err == nil {
		rate = n
	}
	ctx := chromium(t)
	s := newSite(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.getElementById('live').dataset.state === 'open'`)
	var tab process
	tabs := renderers(t)
	sent, shown := 0, 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	start, first := time.Now(), usage{}
	marks := []time.Duration{
		10 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute,
		30 * time.Minute, total,
	}
	var early, last usage
	for now := range tick.C {
		s.add(t, sidA, "web1", now, soakLines(&sent, int(now.Sub(start).Seconds()*float64(rate))-sent)...)
		if now.Sub(start) < marks[0] {
			continue
		}
		if tab == "" {
			tab = busiest(t, tabs)
			first = tabs[tab]
		}
		last = tab.usage(t)
		if marks[0] == time.Minute {
			early = last
		}
		shown = value[int](t, ctx, `document.querySelectorAll('#lines .entry').length`)
		t.Logf("%v: %d lines sent, %.1f s of CPU (%.1f %% of a core), %d MiB resident, %d lines listed, %d notes of lines that were left out",
			marks[0], sent, (last.cpu - first.cpu).Seconds(),
			100*(last.cpu-first.cpu).Seconds()/now.Sub(start).Seconds(), last.rss>>20, shown,
			value[int](t, ctx, `document.querySelectorAll('#lines .skipped').length`))
		if marks[0] >= total {
			break
		}
		for marks = marks[1:]; len(marks) > 1 && marks[0] > total; {
			marks = marks[1:]
		}
	}
	until(t, ctx, fmt.Sprintf(`document.querySelector('.entry .text').textContent.includes('order %d ')`, sent-1))
	if share := (last.cpu - first.cpu).Seconds() / time.Since(start).Seconds(); share > 0.2 {
		t.Errorf("it took %.0f %% of a core", 100*share)
	}
	if early.rss > 0 && last.rss > early.rss*3/2 {
		t.Errorf("memory grew from %d to %d MiB", early.rss>>20, last.rss>>20)
	}
}

// soakLines are so many lines like real ones.
func soakLines(sent *int, n int) (lines []string) {
	for range n {
		lines = append(lines, fmt.Sprintf(`{"host":"web%d","program":"shop","severity":%q,"message":"order %d of customer %d: paid by card in %d ms"}`,
			*sent%9, []string{"info", "info", "warning", "err"}[*sent%4], *sent, *sent*7919%100_000, *sent%900))
		*sent++
	}
	return lines
}

// process is one of the browser's.
type process string

type usage struct {
	cpu time.Duration
	rss int64
}

// renderers finds the processes that draw pages for this one, and what each has used.
func renderers(t *testing.T) map[process]usage {
	t.Helper()
	parents := map[string]string{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if stat := statOf(dir); len(stat) > 1 {
			parents[filepath.Base(dir)] = stat[1]
		}
	}
	found := map[process]usage{}
	for _, dir := range all {
		text, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if !strings.Contains(string(text), "--type=renderer") {
			continue
		}
		pid := filepath.Base(dir)
		for pid != "" && pid != strconv.Itoa(os.Getpid()) {
			pid = parents[pid]
		}
		if pid != "" {
			found[process(dir)] = process(dir).usage(t)
		}
	}
	return found
}

// busiest gives the process that has done most since then: the others wait for tabs.
func busiest(t *testing.T, since map[process]usage) (tab process) {
	t.Helper()
	most := time.Duration(-1)
	for p, u := range renderers(t) {
		if did := u.cpu - since[p].cpu; did > most {
			tab, most = p, did
		}
	}
	if tab == "" {
		t.Fatal("the tab has no process")
	}
	return tab
}

// statOf gives what stands behind the name in the stat of a process.
func statOf(dir string) []string {
	text, _ := os.ReadFile(filepath.Join(dir, "stat"))
	return strings.Fields(string(text[strings.LastIndex(string(text), ")")+1:]))
}

func (p process) usage(t *testing.T) usage {
	t.Helper()
	stat := statOf(string(p))
	if len(stat) < 22 {
		t.Fatalf("%s has ended", p)
	}
	user, _ := strconv.Atoi(stat[11])
	system, _ := strconv.Atoi(stat[12])
	pages, _ := strconv.ParseInt(stat[21], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return usage{time.Duration(user+system) * tick, pages * int64(os.Getpagesize())}
}
