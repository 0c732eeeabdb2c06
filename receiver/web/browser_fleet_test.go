package web

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"wsrelay/receiver"
)

// Of 5,000 senders of which 50 are silent the page opens with those, and can show
// all; it says how long that took.
func TestBrowser_OpensWithThousandsOfSenders(t *testing.T) {
	ctx := chromium(t)
	now := time.Now()
	var all []receiver.Sender
	for i := range 5000 {
		line := now
		if i%100 == 17 {
			line = now.Add(-time.Hour)
		}
		all = append(all, receiver.Sender{
			Host: fmt.Sprintf("web-%d.example.com", i), Name: fmt.Sprintf("web-%d", i), SID: fmt.Sprintf("%016x", i+1),
			Agent: "wsrelay/0.1.0",
			First: now.Add(-72 * time.Hour), Seen: line, Line: line, Online: i%100 != 17, Lines: 1e6,
		})
	}
	s := newSite(t, Options{Senders: func() []receiver.Sender { return all }})
	studio(t, s)
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL+"/icon.svg"), js(`performance.clearResourceTimings()`)) // the browser is warm
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.getElementById('fleetsum').innerText.startsWith('50 of 5,000 senders are in trouble')`)
	until(t, ctx, `document.querySelectorAll('#senders tbody tr').length === 12 && document.querySelectorAll('.entry').length >= 200`)
	t.Logf("first view, in ms since the navigation began: %s", value[string](t, ctx, `(() => {
		const r = performance.getEntriesByType('resource'), at = part => Math.round(Math.max(...r.filter(e => e.name.includes(part)).map(e => e.responseEnd)))
		const paint = performance.getEntriesByName('first-contentful-paint')[0]
		return 'painted ' + Math.round(paint?.startTime) + ', senders answered ' + at('/api/senders') + ', lines ' + at('/api/search')
	})()`))
	t.Logf("the page weighs %s", value[string](t, ctx, `(() => {
		const r = [...performance.getEntriesByType('resource').filter(e => !e.name.includes('/api/')), performance.getEntriesByType('navigation')[0]]
		return r.reduce((n, e) => n + e.decodedBodySize, 0) + ' bytes in ' + r.length + ' files'
	})()`))
	do(t, ctx, js(`{ window.began = performance.now(); document.getElementById('allsenders').click()
		new MutationObserver(() => { if (document.querySelectorAll('#senders tbody tr').length === 5000) requestAnimationFrame(() => { window.took = Math.round(performance.now() - began) }) }).observe(document.getElementById('senders'), { childList: true, subtree: true }) }`))
	until(t, ctx, `window.took`)
	t.Logf("all 5,000 are shown after %d ms", value[int](t, ctx, `window.took`))
}
