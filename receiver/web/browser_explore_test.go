package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// What stands around a line is of its host and program; back leads to the open line
// where it was, without another search.
func TestBrowser_ShowsWhatStandsAroundALine(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	start := scene(t, s)
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL+"/?q=item*"))
	until(t, ctx, entries(120))
	do(t, ctx, js(`{
		const row = [...document.querySelectorAll('.row')].find(r => r.textContent.includes('item-30'))
		row.scrollIntoView({block: 'center'})
		row.click()
		window.searched = 0
		const real = fetch
		window.fetch = (url, o) => { if (url.startsWith('/api/search')) searched++; return real(url, o) }
	}`))
	until(t, ctx, `document.querySelector('.detail .around') !== null`)
	y := value[float64](t, ctx, `scrollY`)
	do(t, ctx, js(`document.querySelector('.detail .around').click()`))
	until(t, ctx, `document.querySelectorAll('#near .entry').length === 41 && document.querySelector('#near .hit .text').textContent === 'GET /item-30'`)
	if got := value[string](t, ctx, `[...document.querySelectorAll('#near .text')].map(e => e.textContent.replace('GET /item-', '')).join()`); !strings.HasPrefix(got, "50,49,48,") || !strings.HasSuffix(got, ",11,10") {
		t.Errorf("got %s", got)
	}
	if got := value[string](t, ctx, `document.querySelector('#near .hit').getAttribute('aria-current') + ' ' + document.getElementById('lines').checkVisibility()`); got != "true false" {
		t.Errorf("got %s", got)
	}
	do(t, ctx, click("#nearmore"))
	until(t, ctx, `document.querySelectorAll('#near .entry').length === 120`) // 30 before it, 89 after
	address := value[string](t, ctx, "location.href")
	do(t, ctx, js(`history.back()`))
	until(t, ctx, fmt.Sprintf(`document.querySelector('.detail pre')?.checkVisibility() && Math.abs(scrollY - %f) < 2`, y))
	if n := value[int](t, ctx, "searched"); n != 0 {
		t.Errorf("it searched %d times", n)
	}

	// The address alone leads there, by the keys, and the button back to the search.
	do(t, ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(address))
	until(t, ctx, `document.querySelectorAll('#near .entry').length === 120 && document.activeElement.closest('.hit') !== null`)
	do(t, ctx, chromedp.KeyEvent("j"+kb.Enter))
	until(t, ctx, `document.querySelector('#near .detail .around') !== null`)
	do(t, ctx, key("a"))
	until(t, ctx, `document.querySelectorAll('#near .entry').length === 41 && document.querySelector('#near .hit .text').textContent === 'GET /item-29'`)
	do(t, ctx, click("#nearback"))
	until(t, ctx, `document.querySelectorAll('#near .entry').length === 120 && document.querySelector('#near .hit .text').textContent === 'GET /item-30'`)
	do(t, ctx, click("#nearback"))
	until(t, ctx, `document.querySelectorAll('#lines .entry').length === 120 && location.search === '?q=item*'`)
	do(t, ctx, chromedp.Navigate(fmt.Sprintf("%s/?around=%s0000000009999&at=%d", s.URL, sidA, start.UnixMilli())))
	until(t, ctx, `document.getElementById('nearsum').textContent.includes('not here')`)
}

// The values of a field are those of the whole time, not of what is loaded; lines
// can be counted by fields, and fields become columns.
func TestBrowser_CountsByFieldsAndShowsColumns(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	scene(t, s)
	hostileName := `<b onclick=1>"a` + "\u202e"
	lines := make([]string, 3000)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"host":"old1","program":"batch","user":"u%d","message":"run","fields":{"status":%d}}`,
			i%3, 500)
	}
	s.add(t, sidB, "old1", time.Now().Add(-48*time.Hour), lines...)
	s.add(t, sidB, "old1", time.Now().Add(-49*time.Hour), fmt.Sprintf(`{"host":"old1","program":"odd",%q:"<i>x</i>"}`,
		hostileName))
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL+"/?live=0"))
	until(t, ctx, entries(200)+` && document.querySelector('#facets .name') !== null`)
	values := `[...document.querySelectorAll('#field tr')].map(r => [...r.cells].slice(0, 3).map(c => c.textContent).join(' ')).join()`
	do(t, ctx, js(`[...document.querySelectorAll('#facets .name')].find(b => b.textContent === 'Program').click()`))
	until(t, ctx, values+` === 'batch 3,000 96 %,nginx 120 3.8 %,postgres 12 0.4 %,odd 1 0.0 %'`)
	do(t, ctx, click("#allfields"))
	until(t, ctx, `[...document.querySelectorAll('#field .pick b')].some(b => b.textContent === 'user')`)
	if names := value[string](t, ctx, `document.getElementById('field').innerHTML`); strings.Contains(names,
		"<b onclick") || strings.Contains(names, "\u202e") || !strings.Contains(names, "&lt;b onclick=1&gt;") {
		t.Errorf("got %s", names)
	}
	act := func(text string) chromedp.Action[chromedp.Void] {
		return js(fmt.Sprintf(`[...document.querySelectorAll('#field button')].find(b => b.textContent.startsWith(%q)).click()`, text))
	}
	do(t, ctx, act("user"))
	until(t, ctx, `document.getElementById('fieldsum').textContent === '3,000 lines of 3,133 have this field.' && document.querySelectorAll('#field tr').length === 4`)
	do(t, ctx, act("Count all values"))
	until(t, ctx, `[...document.querySelectorAll('#groups tbody tr')].map(r => [...r.cells].slice(0, 3).map(c => c.textContent).join(' ')).join() ===
		'u0 1,000 32 %,u1 1,000 32 %,u2 1,000 32 %,none 133 4.2 %' && location.search === '?by=user&live=0'`)
	do(t, ctx, js(`document.querySelector('#groups tbody tr:nth-child(2) button').click()`))
	until(t, ctx, `location.search === '?q=user%3A%3D%22u1%22&live=0' && document.getElementById('status').textContent === '1,000 lines'`)
	do(t, ctx, js(`history.back()`))
	until(t, ctx, `document.querySelectorAll('#groups tbody tr').length === 4 && document.getElementById('grouped').checkVisibility()`)
	do(t, ctx, js(`history.back()`))
	until(t, ctx, entries(200)+` && document.getElementById('list').checkVisibility() && document.querySelector('.text').textContent === 'GET /item-119'`)

	// Columns, of a field with a hostile name, too; the oldest first, and compact.
	do(t, ctx, click("#fields"))
	until(t, ctx, `document.querySelectorAll('#field .pick').length > 5`)
	do(t, ctx, act("<b onclick"))
	until(t, ctx, `document.querySelectorAll('#field tr').length === 2`)
	do(t, ctx, act("Show as a column"))
	until(t, ctx, `document.querySelector('#heads .name')?.textContent.startsWith('<b onclick=1>"a')`)
	do(t, ctx, click("#order"))
	until(t, ctx, entries(200)+` && document.querySelector('.row .chosen')?.textContent === '<i>x</i>' && document.getElementById('live').disabled`)
	do(t, ctx, click("#compact"))
	until(t, ctx, `document.querySelector('#lines .row').clientHeight < 24 && location.search.includes('compact=1') && location.search.includes('order=oldest')`)
	address := value[string](t, ctx, "location.href")
	do(t, ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(address))
	until(t, ctx, entries(200)+` && document.querySelector('.row .chosen')?.textContent === '<i>x</i>' && document.body.classList.contains('compact')`)
	do(t, ctx, click("#heads .off"))
	until(t, ctx, entries(200)+` && document.querySelector('.chosen') === null && document.getElementById('heads').hidden`)
	checkHarmless(t, ctx)

	// The links have all of it.
	do(t, ctx, js(`(async () => {
		const n = []
		for (const id of ['ndjson', 'csv']) n.push((await (await fetch(document.getElementById(id).href)).text()).split('\n').length)
		window.downloaded = n.join()
	})()`))
	until(t, ctx, `window.downloaded === '3134,3135'`)
}

// A time can be typed as people say it, in the reader's zone, which is named, or UTC.
func TestBrowser_TakesTypedTimes(t *testing.T) {
	ctx := chromium(t, chromedp.Env("TZ=Asia/Tokyo"))
	s := newSite(t)
	tokyo := time.FixedZone("", 9*3600)
	y, m, d := time.Now().In(tokyo).Date()
	s.add(t, sidA, "web1", time.Date(y, m, d-1, 20, 30, 0, 0, tokyo), "of yesterday") // also where UTC is a day behind
	s.add(t, sidA, "web1", time.Date(y, m, d-2, 23, 30, 0, 0, tokyo), "of the day before")
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(2)+` && document.getElementById('zone').textContent === 'GMT+9'`)
	do(t, ctx, js(`document.getElementById('range').value = 'choose'; document.getElementById('range').dispatchEvent(new Event('change'))`))
	until(t, ctx, `document.getElementById('timebox').open`)
	do(t, ctx, js(`document.getElementById('from').focus()`), chromedp.KeyEvent("yesterday"+kb.Enter))
	until(t, ctx, entries(1)+` && document.querySelector('.text')?.textContent === 'of yesterday' && location.search === '?from=yesterday'`)
	until(t, ctx, `document.querySelector('#range option:checked').textContent === 'yesterday – now' && document.querySelector('.row time').textContent.startsWith('20:30:00')`)
	do(t, ctx, click("#zone"))
	until(t, ctx, `document.getElementById('zone').textContent === 'UTC' && document.querySelector('.row time')?.textContent.startsWith('11:30:00')`)
	do(t, ctx, chromedp.Navigate(s.URL+"/?from=gestern"))
	until(t, ctx, `document.getElementById('problem').textContent.includes('"gestern" is not a time such as')`)
}

// What failed, or was cut short, is never called nothing.
func TestBrowser_SaysWhatWasCutShort(t *testing.T) {
	ctx := chromium(t)
	t.Run("a query that fails", func(t *testing.T) {
		s := &site{Server: serve(t, New(faulty{func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too many queries", http.StatusServiceUnavailable)
		}}, NewLive(stdout.New(nil)), Options{}))}
		do(t, ctx, chromedp.Navigate(s.URL+"/?q=a"))
		until(t, ctx, `document.getElementById('problem').textContent.includes('too many queries')`)
		if value[bool](t, ctx, `document.body.innerText.includes('No line matches')`) {
			t.Error("what failed is called nothing")
		}
	})
	t.Run("only the newest lines", func(t *testing.T) {
		s := newWatchedSite(t, Options{})
		s.add(t, sidA, "web1", time.Now(), "here")
		do(t, ctx, chromedp.Navigate(s.URL+"/?q=elsewhere"))
		until(t, ctx, `document.getElementById('empty').innerText.startsWith('Of the newest lines, which wsreceive keeps in memory, none matches')`)
		do(t, ctx, chromedp.Navigate(s.URL+"/?by=program"))
		until(t, ctx, `document.getElementById('groupsum').innerText.startsWith('Here are only the newest lines')`)
	})
	t.Run("no answer", func(t *testing.T) { // what stands there is called old, until there is one
		s := newSite(t)
		s.add(t, sidA, "web1", time.Now(), "keep one")
		s.searchable(t)
		do(t, ctx, chromedp.Navigate(s.URL+"/?live=0"))
		until(t, ctx, entries(1))
		do(t, ctx, js(`{ const real = fetch; window.fetch = (url, o) => window.gone ? Promise.reject(new TypeError('x')) : real(url, o); window.gone = true }`),
			key("/"), chromedp.KeyEvent("nowhere"+kb.Enter))
		until(t, ctx, `document.getElementById('problem').innerText.includes('does not answer. What stands here is from before') && `+entries(1))
		until(t, ctx, `document.getElementById('health').innerText.includes('does not answer')`)
		do(t, ctx, js(`window.gone = false`))
		until(t, ctx, `document.getElementById('problem').hidden && document.getElementById('empty').innerText === 'No line matches.' && `+entries(0))
	})
	t.Run("very long lines", func(t *testing.T) {
		s := newSite(t)
		for i := range 40 {
			s.add(t, sidA, "web1", time.Now().Add(time.Duration(i)*time.Millisecond),
				fmt.Sprintf(`{"body":%q}`, strings.Repeat("x", 1<<20)))
		}
		s.searchable(t)
		do(t, ctx, chromedp.Navigate(s.URL))
		until(t, ctx, `document.getElementById('limits').innerText.startsWith('These lines are very long')`)
	})
}

// New lines of several senders stand in the order of their times.
func TestBrowser_PutsLiveLinesInOrder(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour) // with all of these on one day
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.getElementById('live').dataset.state === 'open' && document.getElementById('empty').checkVisibility()`)
	s.add(t, sidA, "web1", now.Add(-2*time.Second), "two")
	until(t, ctx, entries(1))
	s.add(t, sidA, "web1", now, "four")
	until(t, ctx, entries(2))
	s.add(t, sidB, "web2", now.Add(-time.Second), "three")
	s.add(t, sidB, "web2", now.Add(-3*time.Second), "one")
	until(t, ctx, texts+`.join() === 'four,three,two,one'`)
	s.add(t, sidB, "web2", now.Add(-48*time.Hour), "kept while it was away") // is seen at the top
	until(t, ctx, texts+`.join() === 'kept while it was away,four,three,two,one'`)
	s.add(t, sidA, "web1", now.Add(time.Second), "five")
	until(t, ctx, `[...document.querySelectorAll('#lines > li')].map(e => e.line ? e.querySelector('.text').textContent : 'day').join() === 'day,five,day,kept while it was away,day,four,three,two,one'`)
}
