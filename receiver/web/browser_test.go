package web

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"wsrelay/test/harness"
)

// chromium starts a browser for one test; each tab of it is a fresh profile's.
func chromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("drives a browser")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		harness.Lack(t, "chromium is not installed")
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		append(append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
			chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
			chromedp.Env("TZ=UTC", "HOME="+t.TempDir()),
			chromedp.WindowSize(1280, 900),
		), more...)...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	do(t, ctx) // starts it
	return ctx
}

// do runs actions in the browser.
func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// js is an action of the page's own.
func js(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](expression)
}

// click clicks on the first element that the selector finds now: chromedp's own
// looks it up and clicks later, when the page may have drawn another.
func click(selector string) chromedp.Action[chromedp.Void] {
	return js(fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// key presses a key as a keyboard does: without a character if the page has
// taken the key for itself.
func key(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		for _, kind := range []input.DispatchKeyEventType{"keyDown", "keyUp"} {
			params := input.DispatchKeyEventParams{Type: kind, Key: text}
			if kind == "keyDown" {
				params.Text = text
			}
			if _, err := cdp.Call(ctx, target, input.DispatchKeyEvent, params); err != nil {
				return err
			}
		}
		return nil
	})
}

// value gives what an expression of JavaScript is.
func value[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression of JavaScript to become true.
func until(t *testing.T, ctx context.Context, condition string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if value[bool](t, ctx, "Boolean("+condition+")") {
			return
		}
	}
	t.Fatalf("it never was so: %s\n%s", condition, value[string](t, ctx,
		"location.href + '\\n' + document.body.innerText"))
}

const texts = `[...document.querySelectorAll('.entry .text')].map(e => e.textContent)`

func entries(n int) string {
	return fmt.Sprintf(`document.querySelectorAll('.entry').length === %d`, n)
}

// scene stores ten lines a minute of the last two hours.
func scene(t *testing.T, s *site) (start time.Time) {
	t.Helper()
	start = time.Now().Add(-2 * time.Hour).Truncate(time.Minute)
	for i := range 120 {
		at := start.Add(time.Duration(i) * time.Minute)
		s.add(t, sidA, "web1", at, fmt.Sprintf(`{"host":"web1","program":"nginx","severity":"info","message":"GET /item-%d","status":%d}`, i, 200+i%3))
		if i%10 == 0 {
			s.add(t, sidB, "db1", at, fmt.Sprintf(`{"host":"db1","program":"postgres","severity":"err","message":"deadlock %d"}`, i))
		}
	}
	return start
}

func TestBrowser_SearchesFiltersZoomsAndRestores(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	scene(t, s)
	s.searchable(t)
	thrown := make(chan string, 100)
	err := chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*cdpruntime.EventExceptionThrown); ok {
			thrown <- e.ExceptionDetails.Text
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(132))

	// A search by keys.
	do(t, ctx, key("/"), chromedp.KeyEvent("deadlock"+kb.Enter))
	until(t, ctx, entries(12)+` && location.search === '?q=deadlock' && document.querySelectorAll('mark').length === 12`)

	// Another query, out of an open line.
	do(t, ctx, chromedp.KeyEvent("jj"), chromedp.KeyEvent(kb.Enter))
	until(t, ctx, `document.querySelectorAll('.entry')[1].querySelector('.detail table') !== null`)
	do(t, ctx, js(`[...document.querySelectorAll('.detail tr')].find(r => r.textContent.includes('deadlock')).querySelector('[aria-label*=without]').click()`))
	until(t, ctx, entries(11)+` && location.search.includes('-_msg')`)

	// By the sidebar: only this program, then all but it.
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(132))
	until(t, ctx, `document.querySelectorAll('#facets .pick').length > 3`)
	pick := `[...document.querySelectorAll('#facets .pick')].find(b => b.textContent.startsWith('postgres')).click()`
	do(t, ctx, js(pick))
	until(t, ctx, entries(12)+` && document.querySelector('#facets .on').textContent.startsWith('postgres')`)
	do(t, ctx, js(pick))
	until(t, ctx, entries(132))
	do(t, ctx, js(`document.querySelector('[aria-label="Without postgres"]').click()`))
	until(t, ctx, entries(120))

	// Drag over a third of the bars.
	box := value[struct{ X, Y, Width float64 }](t, ctx, `document.getElementById('bars').getBoundingClientRect().toJSON()`)
	do(t, ctx, chromedp.DragAndDropXY(box.X+box.Width*0.3, box.Y+30, box.X+box.Width*0.6, box.Y+30))
	until(t, ctx, `location.search.includes('from=20') && document.querySelectorAll('.entry').length < 60 &&
		document.querySelectorAll('.entry').length > 20`)

	// The address restores it all; the way back leads to where it was.
	address, before := value[string](t, ctx, "location.href"), value[[]string](t, ctx, texts)
	do(t, ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(address))
	until(t, ctx, fmt.Sprintf(`document.querySelectorAll('.entry').length === %d && document.getElementById('range').value === 'custom'`, len(before)))
	if after := value[[]string](t, ctx, texts); !slices.Equal(after, before) {
		t.Errorf("restored %q, want %q", after, before)
	}
	do(t, ctx, click("#reset"))
	until(t, ctx, entries(120))

	// The query that was run is shown, and what is wrong with one.
	do(t, ctx, chromedp.Navigate(s.URL+"/?q="+url.QueryEscape(`(status:>=201 or a`)))
	until(t, ctx, `document.getElementById('problem').textContent === 'The query is not understood: a closing parenthesis is missing' &&
		document.getElementById('ran').textContent === 'LogsQL: (status:>=201 or *:i("a") ▶ '`)
	do(t, ctx, chromedp.Navigate(s.URL+"/?q="+url.QueryEscape(`status:>=201 -program:="postgres"`)))
	until(t, ctx, entries(80)+` && document.getElementById('problem').hidden && document.getElementById('ran').hidden`)

	// What pipes make of lines.
	do(t, ctx, chromedp.Navigate(s.URL+"/?q="+url.QueryEscape(`| stats by (program) count() "<b>n" | sort by (program)`)))
	until(t, ctx, `[...document.querySelectorAll('#table tr')].map(r => r.textContent).join() === 'program<b>n,nginx120,postgres12' &&
		document.getElementById('histogram').hidden && document.querySelectorAll('.entry').length === 0`)
	do(t, ctx, chromedp.Navigate(s.URL+"/?q="+url.QueryEscape(`deadlock | sort by (_time) | limit 3`)))
	until(t, ctx, texts+`.join() === 'deadlock 0,deadlock 10,deadlock 20' && document.querySelectorAll('#table tr').length === 0`)
	if len(thrown) > 0 {
		t.Errorf("the page's script failed: %s", <-thrown)
	}
}

func TestBrowser_ShowsNewLinesLive(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.getElementById('empty').textContent.startsWith('Nothing is stored')`)
	until(t, ctx, `document.getElementById('live').dataset.state === 'open'`)
	s.add(t, sidA, "web1", time.Now(), "the very first")
	until(t, ctx, `document.querySelector('.entry .text')?.textContent === 'the very first'`)

	// With a line open nothing moves; what comes is counted.
	do(t, ctx, click(".entry .row"))
	until(t, ctx, `document.querySelector('.detail pre') !== null`)
	s.add(t, sidA, "web1", time.Now(), "two", "three")
	until(t, ctx, `document.getElementById('new').textContent === '↑ 2 new lines'`)
	do(t, ctx, click("#new"))
	until(t, ctx, texts+`.join() === 'three,two,the very first'`)

	do(t, ctx, chromedp.KeyEvent("l"))
	until(t, ctx, `document.getElementById('live').getAttribute('aria-pressed') === 'false' && location.search === '?live=0'`)
}

// A search may be answered after lines have come live that it does not know of.
func TestBrowser_KeepsWhatComesWhileItSearches(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	s.add(t, sidA, "web1", time.Now(), "keep one", "two")
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(2))
	do(t, ctx, js(`{
		const real = fetch
		window.fetch = (url, o) => !url.startsWith('/api/search') ? real(url, o)
			: real(url, o).then(answer => new Promise(done => { window.release = () => done(answer) }))
		delete document.getElementById('lines').dataset.complete
	}`), key("/"), chromedp.KeyEvent("keep"+kb.Enter))
	until(t, ctx, `window.release && document.getElementById('live').dataset.state === 'open'`)
	s.add(t, sidA, "web1", time.Now(), "keep three")
	until(t, ctx, texts+`[0] === 'keep three'`)
	do(t, ctx, js(`release()`))
	until(t, ctx, `document.getElementById('lines').dataset.complete`)
	if got := value[[]string](t, ctx, texts); !slices.Equal(got, []string{"keep three", "keep one"}) {
		t.Errorf("got %q", got)
	}
}

// hostile is what an attacker may write into a log.
var hostile = []string{
	`<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1"><svg onload="window.pwned = 1">`,
	`{"program":"<script>window.pwned = 1</script>","host":"\"><img src=x onerror=window.pwned=1>","severity":"err","<b onclick=window.pwned=1>":"javascript:window.pwned=1","__proto__":{"x":"y"},"constructor":"z"}`,
	"\x1b[2J\x1b]0;title\x07 red \x1b[31m \x00 nul \x7f \u0085",
	"safe \u202etxt.exe\u202c \u2066isolate\u2069 zero\u200bwidth \ufeff \U000E0041tag",
	"\xff\xfe not UTF-8 \xed\xa0\x80",
	strings.Repeat("<b>1 MB</b>", 100_000),
	"{" + strings.Repeat(`"a":{`, 5000),
	`{"message":"one\ntwo\u2028three\r"}`,
}

// A traceback is one line of the list, and can be read when it is opened.
func TestBrowser_ShowsATracebackAsLines(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	s.add(t, sidA, "web1", time.Now(), `{"program":"app","message":"Traceback:\n  File \"<b>a.py</b>\", line 1\n    boom()\nValueError: no"}`)
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(1)+` && document.querySelector('.row .text').textContent === 'Traceback: +3 lines'`)
	do(t, ctx, click(".entry .row"))
	until(t, ctx, `document.querySelector('.detail pre.message')?.textContent === 'Traceback:\n  File "<b>a.py</b>", line 1\n    boom()\nValueError: no\n'`)
}

func TestBrowser_HostileLinesDoNothing(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	s.add(t, sidA, "<script>window.pwned = 1</script>", time.Now(), hostile...)
	s.searchable(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(len(hostile)))
	do(t, ctx, js(`document.querySelectorAll('.row').forEach(r => r.click())`))
	until(t, ctx, fmt.Sprintf(`document.querySelectorAll('.detail table').length === %d`, len(hostile)))
	s.add(t, sidA, "web1", time.Now(), hostile...)
	until(t, ctx, fmt.Sprintf(`document.getElementById('new').textContent.includes('%d new')`, len(hostile)))
	do(t, ctx, click("#new"))
	until(t, ctx, entries(2*len(hostile)))
	checkHarmless(t, ctx)
	s.searchable(t)
	// A filter of a hostile value asks for just that value.
	do(t, ctx, js(`[...document.querySelectorAll('#facets .pick')].find(b => b.textContent.includes('"><img')).click()`))
	until(t, ctx, entries(2))

	// What was looked for is marked, in all that came by the hostile host.
	do(t, ctx, chromedp.Navigate(s.URL+"/?q=pwned"))
	until(t, ctx, entries(len(hostile)+2)+` && document.querySelectorAll('mark').length > 10`)
	checkHarmless(t, ctx)
}

// checkHarmless holds that nothing of the lines runs, is an element, or is a
// character that does something, and that none breaks the page's bounds.
func checkHarmless(t *testing.T, ctx context.Context) {
	t.Helper()
	found := value[struct {
		Pwned    any
		Elements int
		Odd      []string
		Width    int
		Longest  int
	}](t, ctx, `({
		pwned: window.pwned ?? null,
		elements: document.querySelectorAll('main script, main img, main svg, main [onclick], main [onerror], main .text b').length,
		odd: [...document.body.innerText.matchAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g)].map(m => m[0].codePointAt(0).toString(16)),
		width: document.documentElement.scrollWidth,
		longest: Math.max(...[...document.querySelectorAll('.row .text')].map(e => e.textContent.length)),
	})`)
	if found.Pwned != nil || found.Elements > 0 || len(found.Odd) > 0 || found.Width > 1280 ||
		found.Longest > 2*cutList {
		t.Errorf("got %+v", found)
	}
}
