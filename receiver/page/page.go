// Package page is the search page of wsreceive over an SQLite store: a search
// box, a histogram over time, the lines, and those that come live.
//
//	/               the page; page.js, page.css and icon.svg beside it
//	/api/search     the newest lines that match, and who wrote them
//	/api/histogram  how many there are over time
//	/api/tail       lines as they are stored (server-sent events)
//	/api/line       one line in full, with its fields
//	/api/raw        one line, its bytes
//
// q is a query in the language of [sqlite.ParseQuery], from and to are times for
// [sqlite.ParseTime]; answers are JSON. The page's own address holds the same
// parameters, so that what it shows can be kept and passed on.
//
// # What holds
//
//  1. A line is hostile. The page never makes markup of one, its policy lets no
//     script run but page.js, nothing is loaded from elsewhere, and characters
//     that control a terminal or turn the direction of writing are shown as what
//     they are.
//  2. Only who names the host as expected is answered: a foreign page cannot get
//     here by a name of its own that leads to this address (DNS rebinding).
//  3. An answer is bounded in size and in time, and says so when it lacks
//     something for that.
//
// It does not ask who is there: a handler around it has to, unless only this
// machine can reach it.
package page

import (
	"embed"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"wsrelay/receiver/sqlite"
)

//go:embed page.html page.js page.css icon.svg
var files embed.FS

// policy lets the page load what stands beside it, and nothing else; no string
// becomes markup or script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Options of the page; the zero value is the default.
type Options struct {
	Hosts []string // names, without port, under which it may be asked for, besides those of loopback
}

// Limits on what is asked at the same time; who comes late waits, or is sent
// away from a tail.
const (
	maxQueries = 4
	maxTails   = 64
)

type page struct {
	store   *sqlite.Reader
	hosts   []string
	queries chan struct{}
	tails   chan struct{}
}

// New gives the page's handler. Requests must end, their contexts with them,
// before the store is closed.
func New(store *sqlite.Reader, o Options) http.Handler {
	p := &page{
		store: store, hosts: o.Hosts,
		queries: make(chan struct{}, maxQueries), tails: make(chan struct{}, maxTails),
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", file("page.html"))
	for _, name := range []string{"page.js", "page.css", "icon.svg"} {
		mux.Handle("GET /"+name, file(name))
	}
	mux.HandleFunc("GET /api/search", p.search)
	mux.HandleFunc("GET /api/histogram", p.histogram)
	mux.HandleFunc("GET /api/line", p.line)
	mux.HandleFunc("GET /api/raw", p.raw)
	mux.HandleFunc("GET /api/tail", p.tail)
	return p.guard(mux)
}

// guard answers only who may ask, and forbids browsers what is not needed.
func (p *page) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address holds the query
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !p.knows(r.Host):
			http.Error(w, "this name is not one of wsreceive's: use localhost or 127.0.0.1", http.StatusMisdirectedRequest)
		case strings.HasPrefix(r.URL.Path, "/api/") && site != "" && site != "same-origin" && site != "none":
			http.Error(w, "only the page itself may ask this", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// knows reports whether a Host header names this page.
func (p *page) knows(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.ContainsFunc(p.hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func file(name string) http.Handler {
	body, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	kind := mime.TypeByExtension(path.Ext(name))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	})
}
