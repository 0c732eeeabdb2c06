package web

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// The rules for pages that all can use, which a script of this package checks in the
// browser. Nothing of it is a part of the page.
const (
	axeVersion = "4.14.1"
	axeSum     = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
)

// axe gives the script, from a cache or fetched by npm into it.
func axe(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no place for a cache: ", err)
	}
	dir := filepath.Join(cache, "wsrelay-tests")
	archive := filepath.Join(dir, "axe-core-"+axeVersion+".tgz")
	packed, err := os.ReadFile(archive)
	if err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Skip("no place for a cache: ", err)
		}
		fetch := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "--pack-destination", dir,
			"axe-core@"+axeVersion)
		fetch.WaitDelay = time.Minute
		if text, err := fetch.CombinedOutput(); err != nil {
			t.Skipf("npm cannot fetch axe-core, so the page is not checked by it: %v\n%s", err, text)
		}
		if packed, err = os.ReadFile(archive); err != nil {
			t.Fatal(err)
		}
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != axeSum {
		t.Fatalf("%s is not what it should be; remove it", archive)
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(plain); ; {
		f, err := files.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == "package/axe.min.js" {
			script, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			return string(script)
		}
	}
}

// Each view of the page, light and dark, wide and narrow, can be used by a keyboard
// and with a screen reader, as far as a program can tell.
func TestBrowser_HasNothingThatAxeFinds(t *testing.T) {
	script := axe(t)
	ctx := chromium(t)
	s := newSite(t, Options{Senders: twoHundred})
	studio(t, s)
	s.searchable(t)
	open := func(id string) string { return "document.getElementById('" + id + "').open" }
	for _, view := range []struct {
		name, address, shown string
		before               chromedp.Action[chromedp.Void]
	}{
		{"senders", "/", "document.querySelectorAll('#senders tbody tr').length > 3 && document.querySelectorAll('.entry').length > 100", nil},
		{"an open line", "/?q=" + url.QueryEscape("level:error") + "&column=fields.order", "document.querySelector('.detail table') !== null", js("document.querySelector('#lines .row').click()")},
		{"around", "", "document.querySelectorAll('#near .entry').length > 5", js("document.querySelector('.detail .around').click()")},
		{"counts", "/?by=program&by=host", "document.querySelectorAll('#groups tr').length > 3", nil},
		{"a table", "/?q=" + url.QueryEscape("| stats by (program) count() n"), "document.querySelectorAll('#table tr').length > 3", nil},
		{"a field", "/?live=0", open("fieldbox") + " && document.querySelectorAll('#field tr').length > 3", js("[...document.querySelectorAll('#facets .name')].at(-1).click()")},
		{"fields", "", "document.querySelectorAll('#field .pick').length > 3", click("#allfields")},
		{"a time", "/", open("timebox"), js("document.getElementById('range').value = 'choose'; document.getElementById('range').dispatchEvent(new Event('change'))")},
		{"help", "/", open("helpbox"), click("#help")},
		{"a mistake", "/?q=" + url.QueryEscape("(a"), "!document.getElementById('problem').hidden", nil},
		{"nothing", "/?q=nowhere&from=yesterday&live=0", "document.getElementById('empty').checkVisibility()", nil},
	} {
		for _, look := range []string{"light", "dark"} {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: look},
					{Name: "prefers-reduced-motion", Value: "reduce"},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			widths := []int64{1280, 390}
			if look == "dark" { // only colours differ
				widths = widths[:1]
			}
			for _, width := range widths {
				do(t, ctx, chromedp.EmulateViewport(width, 900))
				if view.address != "" {
					do(t, ctx, chromedp.Navigate(s.URL+view.address))
					until(t, ctx, "!document.getElementById('status').textContent.includes('Searching') || document.body.dataset.view !== 'lines'")
				}
				if view.before != nil && (view.address != "" || look == "light" && width == 1280) {
					if view.name == "a field" || view.name == "an open line" {
						until(t, ctx, "document.querySelector('#facets .name') !== null && document.querySelector('#lines .row') !== null")
					}
					do(t, ctx, view.before)
				}
				until(t, ctx, view.shown)
				do(t, ctx, js(script), js("window.checked = null; axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => { window.checked = r })"))
				until(t, ctx, "window.checked")
				if bad := value[[]string](t, ctx, "window.checked.violations.flatMap(v => v.nodes.slice(0, 3).map(n => v.id + ': ' + n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? n.none[0]?.message)))"); len(bad) > 0 {
					t.Errorf("%s, %s, %d: %d findings:\n%s", view.name, look, width, len(bad), strings.Join(bad, "\n"))
				}
				t.Logf("%s, %s, %d: %s", view.name, look, width, value[string](t, ctx, "window.checked.passes.length + ' rules hold, ' + window.checked.violations.length + ' do not, undecided: ' + window.checked.incomplete.map(i => i.id + ' ' + i.nodes.length).join(', ')"))
			}
		}
	}
}
