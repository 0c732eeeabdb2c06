package web

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"

	"wsrelay/receiver"
	"wsrelay/receiver/web/login"
)

// answering has the browser give these passwords of ann's when it is asked for
// one, and none when they are used up. It tells how often it was asked.
func answering(t *testing.T, ctx context.Context, passwords ...string) (asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	events := make(chan any, 1000)
	err := chromedp.Listen(ctx, func(ev any) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	})
	answer := func(ev any) (err error) {
		switch e := ev.(type) {
		case *fetch.EventRequestPaused:
			_, err = chromedp.Call(ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
		case *fetch.EventAuthRequired:
			answer := &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
			if n := int(asked.Add(1)); n <= len(passwords) {
				answer = &fetch.AuthChallengeResponse{
					Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: "ann",
					Password: passwords[n-1],
				}
			}
			_, err = chromedp.Call(ctx, fetch.ContinueWithAuth,
				fetch.ContinueWithAuthParams{RequestID: e.RequestID, AuthChallengeResponse: answer})
		}
		return err
	}
	go func() {
		for {
			select {
			case ev := <-events:
				_ = answer(ev) // the page may have gone on to something else
			case <-ctx.Done():
				return
			}
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	handle := true
	if _, err := chromedp.Call(ctx, fetch.Enable, fetch.EnableParams{HandleAuthRequests: &handle}); err != nil {
		t.Fatal(err)
	}
	return asked
}

// The page, what it asks, and the live view come with the password that the
// browser was given once.
func TestBrowser_LogsIn(t *testing.T) {
	// What htpasswd -nbBC 5 ann 'correct horse' has printed.
	users, err := login.ParseUsers([]byte("ann:$2y$05$WU.R/1Cb0Olm2q9lw4lm7ONp5V.8RGK7H6DWZ7B0cyx0JtFgvw9d."))
	if err != nil {
		t.Fatal(err)
	}
	s := newWatchedSite(t, Options{})
	inner := s.Config.Handler
	secure := httptest.NewTLSServer(login.New(login.Policy{Users: users}).Before(inner))
	t.Cleanup(secure.Close)
	t.Cleanup(secure.CloseClientConnections)

	ctx := chromium(t)
	asked := answering(t, ctx, "wrong", "correct horse")
	do(t, ctx, chromedp.Navigate(secure.URL))
	until(t, ctx, `document.getElementById('live')?.dataset.state === 'open'`)
	s.add(t, sidA, "web1", time.Now(), "hello")
	until(t, ctx, texts+`.join() === 'hello'`)
	do(t, ctx, click(".entry .row"))
	until(t, ctx, `document.querySelector('.detail pre')?.textContent === 'hello'`)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times for a password, want 2", n)
	}

	ctx = chromium(t)
	answering(t, ctx)
	do(t, ctx, chromedp.Navigate(secure.URL))
	until(t, ctx, `document.body.innerText === 'A user name and a password are required.\n'`)
}

// engine is what there is to see over an engine.
func engine(t *testing.T) (s *site, set func(func(*receiver.State))) {
	t.Helper()
	var mu sync.Mutex
	now := receiver.State{Since: time.Now().Add(-time.Hour), Stored: 120_000, Dead: 2}
	fleet := []receiver.Sender{
		{Host: "web1", SID: sidA, First: time.Now(), Seen: time.Now(), Line: time.Now(), Online: true, Lines: 119_000},
		{Host: "db<b>1", SID: sidB, Name: "db", First: time.Now(), Seen: time.Now(), Line: time.Now(), Refused: time.Now(), Why: "<b>no key</b>"},
	}
	s = newWatchedSite(t, Options{
		State:   func() receiver.State { mu.Lock(); defer mu.Unlock(); return now },
		Senders: func() []receiver.Sender { return fleet },
		Where:   "The newest lines, as they come. All are in OpenSearch 2.19.3, indices wsrelay-logs-*.",
		Link:    "https://kibana.example.com/app/discover",
	})
	return s, func(f func(*receiver.State)) { mu.Lock(); defer mu.Unlock(); f(&now) }
}

func TestBrowser_WatchesAnEngine(t *testing.T) {
	ctx := chromium(t)
	s, set := engine(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.querySelector('#health a')?.href === 'https://kibana.example.com/app/discover'`)
	until(t, ctx, `document.getElementById('health').innerText.includes('120,000 lines stored')`)
	until(t, ctx, `document.getElementById('fleetsum').innerText.startsWith('1 of 2 senders is in trouble')`)
	until(t, ctx, `[...document.querySelectorAll('#senders tbody tr')].map(e => e.cells[0].innerText.slice(0, 9) + ' ' + e.cells[1].innerText.replace('\n', ' ') + ' ' + e.cells[2].innerText).join('|') ===
		'✖ refused db<b>1 <b>no key</b> db'`)
	do(t, ctx, click("#allsenders"))
	until(t, ctx, `document.querySelectorAll('#senders tbody tr').length === 2 && document.querySelector('#senders tbody tr:last-child').innerText.includes('● delivering')`)
	if value[bool](t, ctx, `[...document.querySelectorAll('#histogram, #range')].some(e => e.checkVisibility())`) {
		t.Error("it offers what only a search can")
	}

	until(t, ctx, `document.getElementById('empty').textContent.startsWith('No line has come since')`)
	// Lines come, can be filtered, opened, and are there again after a reload.
	until(t, ctx, `document.getElementById('live').dataset.state === 'open'`)
	s.add(t, sidA, "web1", time.Now(), `{"program":"nginx","severity":"err","message":"upstream timed out"}`, "plain")
	until(t, ctx, texts+`.join() === 'plain,upstream timed out'`)
	do(t, ctx, key("/"), chromedp.KeyEvent("level:error\r"))
	until(t, ctx, entries(1)+` && location.search === '?q=level%3Aerror'`)
	until(t, ctx, `document.getElementById('live').dataset.state === 'open'`)
	s.add(t, sidB, "db1", time.Now(), `{"severity":"err","message":"deadlock"}`, "of no interest")
	until(t, ctx, texts+`.join() === 'deadlock,upstream timed out'`)
	do(t, ctx, chromedp.KeyEvent("j\r"))
	until(t, ctx, `document.querySelector('.detail pre')?.textContent.includes('deadlock')`)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, entries(4))
	s.add(t, sidA, "web1", time.Now(), strings.Repeat("x", 2*keepLine))
	until(t, ctx, entries(5))
	do(t, ctx, chromedp.KeyEvent("g\r"))
	until(t, ctx, `document.querySelector('.detail')?.innerText.includes('all of it is in the store') &&
		document.querySelector('.acts').innerText.includes('Download (64.0 KiB)')`)

	// What is wrong is said.
	set(func(now *receiver.State) {
		now.StoreErr, now.StoreDown = errors.New("<b>all shards failed</b>"), time.Now()
	})
	until(t, ctx, `document.querySelector('#health .bad code')?.textContent === '<b>all shards failed</b>'`)
	s.Listener.Close()
	s.CloseClientConnections()
	until(t, ctx, `document.getElementById('health').innerText.includes('does not answer')`)
	until(t, ctx, `document.getElementById('lost').checkVisibility()`)
}

// What comes too fast is counted, and the list stays bounded.
func TestBrowser_KeepsUpWithAFlood(t *testing.T) {
	ctx := chromium(t)
	s, _ := engine(t)
	do(t, ctx, chromedp.Navigate(s.URL))
	until(t, ctx, `document.getElementById('live').dataset.state === 'open'`)
	until(t, ctx, `document.getElementById('empty').checkVisibility()`)
	lines := make([]string, 5*tailLines)
	s.add(t, sidA, "web1", time.Now(), lines...)
	until(t, ctx, `document.querySelector('.skipped')?.textContent === '4,000 lines came too fast to be shown here' && `+entries(tailLines))
}
