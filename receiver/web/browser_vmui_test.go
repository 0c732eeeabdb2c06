package web

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"wsrelay/receiver/web/login"
)

// The engine's own page, behind the login as wsreceive has it, with places that
// its user shares, and a line that would like to be markup.
func TestBrowser_TheEnginesPageWorksBehindTheLogin(t *testing.T) {
	ctx := chromium(t)
	s := newSite(t)
	// What htpasswd -nbBC 5 ann 'correct horse' has printed.
	users, err := login.ParseUsers([]byte("ann:$2y$05$WU.R/1Cb0Olm2q9lw4lm7ONp5V.8RGK7H6DWZ7B0cyx0JtFgvw9d."))
	if err != nil {
		t.Fatal(err)
	}
	s.Server = serve(t, login.New(login.Policy{Users: users}).Before(New(s.logs, NewLive(s.logs),
		Options{Who: login.User})))
	hostile := `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script> marker4711`
	s.add(t, sidA, "web1", time.Now(), hostile, "another line")
	s.searchable(t)
	if status, body, _ := s.get(t, "/select/vmui/"); status != 401 || strings.Contains(body, "<script") {
		t.Errorf("without a password: got %d", status)
	}
	at, err := url.Parse(s.URL + "/select/vmui/")
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("ann", "correct horse")
	do(t, ctx, chromedp.Navigate(at.String()), chromedp.Navigate(s.URL+"/select/vmui/#/?query=marker4711&g0.range_input=1h&g0.relative_time=last_1_hour"))
	until(t, ctx, `document.body.innerText.includes("<script>document.title='owned'</script> marker4711")`)
	if title := value[string](t, ctx, "document.title"); title == "owned" {
		t.Errorf("a line became markup: title %q", title)
	}
	if bad := value[[]string](t, ctx, `performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith(location.origin) && !n.startsWith('data:'))`); len(bad) > 0 {
		t.Errorf("it loads from elsewhere: %q", bad)
	}
}
