package web

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"wsrelay/receiver"
)

func TestBrowser_Pictures(t *testing.T) {
	dir := os.Getenv("PICTURES")
	if dir == "" {
		t.Skip("PICTURES=DIR keeps pictures of the page there")
	}
	ctx := chromium(t)
	s := newSite(t, Options{Senders: twoHundred})
	studio(t, s)
	s.searchable(t)
	watched, set := engine(t)
	studio(t, watched)
	for _, look := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 1920, 390} {
			shot := func(name, url string, actions ...chromedp.Action[chromedp.Void]) {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look}},
				})
				if err != nil {
					t.Fatal(err)
				}
				do(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(url))
				until(t, ctx, `document.querySelectorAll('.entry, #table tr, #groups tr, #problem:not([hidden])').length > 0 && !(document.body.dataset.view === 'lines' && document.getElementById('status').textContent.includes('Searching')) && document.querySelectorAll('#bars i, #health b, #table tr, #problem:not([hidden])').length > 0`)
				do(t, ctx, actions...)
				png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, look)), png,
					0o600); err != nil {
					t.Fatal(err)
				}
			}
			shot("all", s.URL)
			shot("senders", s.URL, click("#allsenders"), chromedp.WaitVisible("#senders tr:nth-child(50)"))
			shot("engine", watched.URL)
			set(func(now *receiver.State) { now.StoreErr, now.StoreDown = errors.New("all shards failed"), time.Now() })
			shot("down", watched.URL)
			set(func(now *receiver.State) { now.StoreErr = nil })
			shot("query", s.URL+"/?q="+url.QueryEscape("fields.status:>=500 -host:db1"), chromedp.KeyEvent("jj"),
				chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(".detail table"))
			shot("wrong", s.URL+"/?q="+url.QueryEscape("(fields.status:>=500"))
			shot("table", s.URL+"/?q="+url.QueryEscape("| stats by (host, program) count() lines | sort by (lines desc)"))
			shot("help", s.URL, chromedp.KeyEvent("?"))
			open := []chromedp.Action[chromedp.Void]{
				js("[...document.querySelectorAll('#lines .row')].find(r => r.textContent.includes('Traceback')).click()"),
				chromedp.WaitVisible(".detail table"), js("document.querySelector('.entry.current').scrollIntoView({block: 'center'})"),
			}
			shot("traceback", s.URL+"/?q=Traceback&live=0", open...)
			shot("around", s.URL+"/?q=Traceback&live=0", append(open,
				js("document.querySelector('.detail .around').click()"), chromedp.WaitVisible("#near .hit"))...)
			shot("group", s.URL+"/?by=program&by=host&live=0", chromedp.WaitVisible("#groups tbody tr"))
			shot("field", s.URL+"/?live=0", chromedp.WaitVisible("#lines .row"),
				js("document.querySelectorAll('#facets .name')[1].click()"), chromedp.WaitVisible("#field tr"))
			shot("columns", s.URL+"/?q=nginx&column=fields.status&column=fields.path&compact=1&live=0",
				chromedp.WaitVisible(".chosen"))
			shot("time", s.URL+"/?live=0", js("document.getElementById('range').value = 'choose'; document.getElementById('range').dispatchEvent(new Event('change'))"), chromedp.WaitVisible("#timeform"))
			shot("live", watched.URL, chromedp.WaitVisible("#live[data-state=open]"))
		}
	}
}

// twoHundred are senders of which five are in trouble.
func twoHundred() (all []receiver.Sender) {
	now := time.Now()
	for i := range 200 {
		s := receiver.Sender{
			Host: fmt.Sprintf("web-%d.example.com", i+1), Name: fmt.Sprintf("web-%d", i+1),
			SID: fmt.Sprintf("%016x", i+1), Agent: "wsrelay/0.1.0",
			First: now.Add(-72 * time.Hour), Seen: now, Line: now.Add(-time.Duration(i%40) * time.Second),
			Lag: time.Duration(20+i) * time.Millisecond, Online: true, Rate: float64(i%17) * 3.3, Lines: 1e6,
		}
		switch i {
		case 17, 130:
			s.Line, s.Online = now.Add(-time.Duration(i)*time.Hour/10), false
		case 44:
			s.Waits, s.Behind, s.Rate = now.Add(-47*time.Minute), 183_402, 912
		case 77:
			s.Refused, s.Why, s.Online = now.Add(-9*time.Minute), "unknown key, or it does not match", false
		case 101:
			s.Diverged = now.Add(-3 * time.Minute)
		}
		all = append(all, s)
	}
	return all
}

// studio is a scene like real life.
func studio(t *testing.T, s *site) {
	t.Helper()
	now := time.Now()
	for i := range 360 {
		at := now.Add(time.Duration(i-360) * 37 * time.Second)
		load := 3 + i%7 + (i/40%3)*4
		var web, db []string
		for j := range load {
			n := i*31 + j*17
			status := []int{200, 200, 200, 304, 200, 404, 200, 200, 502}[n%9]
			path := []string{
				"/", "/shop/item-41?ref=mail", "/api/v1/orders", "/assets/app.css", "/login",
				"/wp-login.php",
			}[n%6]
			web = append(web, fmt.Sprintf(`{"timestamp":"%s","host":"web%d","program":"nginx","pid":"812","facility":"local7","severity":"info","message":"{\"ip\":\"203.0.113.%d\",\"host\":\"shop.example\",\"path\":\"%s\",\"status\":%d,\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\",\"length\":%d,\"generation_time_milli\":%d}","fields":{"ip":"203.0.113.%d","host":"shop.example","path":"%s","status":"%d","length":"%d"}}`,
				at.Format(time.RFC3339), 1+n%2, n%250, path, status, n*97%40000, n%180, n%250, path, status,
				n*97%40000))
		}
		switch i % 6 {
		case 0:
			db = append(db, `{"host":"db1","program":"postgres","pid":"2210","severity":"warning","message":"checkpoints are occurring too frequently (14 seconds apart)"}`)
		case 2:
			db = append(db, `{"host":"db1","program":"sshd","pid":"31337","severity":"info","message":"Failed password for invalid user admin from 198.51.100.23 port 52144 ssh2"}`)
		case 3:
			db = append(db, fmt.Sprintf(`{"host":"app1","program":"worker","severity":"err","message":"order %d: payment gateway timeout after 30000 ms, retry 2 of 5","fields":{"order":"%d","queue":"payments"}}`, 48000+i, 48000+i))
		case 5:
			db = append(db, fmt.Sprintf(`{"host":"app1","program":"worker","severity":"err","message":"Traceback (most recent call last):\n  File \"/srv/shop/worker.py\", line 88, in run\n    self.charge(order)\n  File \"/srv/shop/payments.py\", line 41, in charge\n    raise Timeout(order)\npayments.Timeout: order %d","fields":{"order":"%d"}}`, 48000+i, 48000+i))
		case 4:
			db = append(db, `{"host":"app1","program":"cron","severity":"notice","message":"(root) CMD (run-parts /etc/cron.hourly)"}`)
		case 1:
			db = append(db, `{"host":"web2","program":"kernel","severity":"crit","message":"Out of memory: Killed process 4711 (node) total-vm:4194304kB, anon-rss:2097152kB"}`)
		}
		s.add(t, sidA, "web1", at, web...)
		s.add(t, sidB, "db1", at, db...)
	}
}
