package logs

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	browserlog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"wsrelay/receiver"
)

func TestVmui_ShowsHostileLinesUnderAPolicyThatLetsNothingElseRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no chromium: the page is not tried in a browser")
	}
	s, address := served(t, testOptions())
	add(t, s, "e-9", []receiver.Batch{{SID: sid, Host: "web1", Seq: 9000, At: time.Now(), Lines: [][]byte{
		[]byte(`<img src=x onerror="document.title='owned'"><script>document.title='owned'</script> marker4711`),
	}}})
	barrier(t, s)
	browser, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TZ=UTC", "HOME="+t.TempDir()), chromedp.WindowSize(1280, 900))...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	var mu sync.Mutex
	var refused []string
	ctx, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*browserlog.EventEntryAdded); ok &&
			strings.Contains(e.Entry.Text, "Content Security Policy") {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, e.Entry.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, browserlog.Enable, cdp.Empty{})
		return err
	}), chromedp.Navigate(address+"/select/vmui/#/?query=marker4711&g0.range_input=1h&g0.relative_time=last_1_hour")); err != nil {
		t.Fatal(err)
	}
	text := ""
	for !strings.Contains(text, "<script>document.title='owned'</script> marker4711") {
		if text, err = chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText")); err != nil {
			t.Fatalf("%v: the page shows %.500q; refused: %q", err, text, refused)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if title, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.title")); err != nil || title == "owned" {
		t.Errorf("a line became markup: title %q, %v", title, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(refused) > 0 {
		t.Errorf("the page's own parts are refused: %q", refused)
	}
}
