// Package web is the web page of wsreceive. Over a store with a query API it
// searches; over any other it shows the newest lines; everywhere it shows lines as
// they are stored.
//
//	/               the page; its modules, style and icon beside it
//	/api/search     the newest lines that match, and which hosts and programs wrote
//	                them; or a table, if pipes of the query made one
//	/api/histogram  how many there are over time; only with a query API
//	/api/tail       lines as they are stored (server-sent events)
//	/api/line       one line in full, with its fields: uid, and, which makes it
//	                faster, its time in Unix milliseconds
//	/api/raw        one line, its bytes; asked for in the same way
//	/api/around     n lines before and after one, of the same host and program; asked
//	                for in the same way
//	/api/groups     how many lines have which values of the fields by=; /api/fields
//	                which fields there are; both of the whole time, both only with a
//	                query API
//	/api/download   all lines that match, format=ndjson or csv; only with a query API
//	/api/health     how the receiver does
//	/api/senders    how its senders do, those in most trouble first
//	/select/        the store's query API itself, under its own paths
//
// q is what a person types; [logsql.ParseTyped] makes LogsQL of it. from and to are
// times for [logsql.ParseTime] in the zone tz, minutes east of UTC; order=oldest has
// the oldest lines first; column= names fields that stand beside each line. Answers
// are JSON. The page's own address holds the same
// parameters, so that what it shows can be kept and passed on.
//
// Searches are requests to the store's query API, made within the process: the
// page adds bounds and leaves out what a browser need not have. New lines come from
// [Live], not from that API: the API finds them a second later, and only if their
// own time is not long ago.
//
// # What holds
//
//  1. A line is hostile. The page never makes markup of one, its policy lets no
//     script run but its own, nothing is loaded from elsewhere, and characters
//     that control a terminal or turn the direction of writing are shown as what
//     they are.
//  2. No other page may ask what this one asks.
//  3. An answer is bounded in size and in time, and says so when it lacks
//     something for that.
//  4. A user who asks much, or does not read answers, keeps no other from getting
//     his: the places for queries and live views, and what answers take of memory,
//     are shared fairly between users; a query of the page gives its place back
//     before it is answered; and an answer that is not read ends.
//
// The page does not authenticate: package login does.
package web

import (
	"bytes"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"wsrelay/receiver"
	"wsrelay/receiver/fair"
	"wsrelay/receiver/store/logs/logsql"
)

//go:embed static
var files embed.FS

// policy lets the page load what stands beside it, and nothing else; no string
// becomes markup or script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Options of the page; the zero value is the default.
type Options struct {
	State   func() receiver.State      // for health; nil: there is none
	Where   string                     // a sentence: where the lines are
	Senders func() []receiver.Sender   // nil: there are none
	Trouble receiver.Thresholds        // from when on one counts as silent, or late
	Ready   func() error               // why no line would be stored now; nil: nobody knows
	Who     func(*http.Request) string // the user that asks; nil: all are one
	Link    string                     // a URL: where they can be searched; empty: nowhere
}

// Store is a store that can be searched.
type Store interface {
	// Handler answers the query API of VictoriaLogs, /select/logsql/….
	Handler() http.Handler
	// Text gives a line byte for byte, of all fields of its row.
	Text(fields []logsql.Field) ([]byte, error)
}

// Limits on what is asked at the same time, of which one user gets at most half. A
// query above them waits; a live view is refused.
const (
	maxQueries = 4
	maxTails   = 64
	pageMemory = 128 << 20        // bytes of answers
	rawMemory  = 2 * (17 << 20)   // of the longest line, as the store gives it
	hitMemory  = 2*cutList + 1024 // of a line in a list, and of what it becomes
)

// How long an answer may take. One that is large has longer.
const usualAnswerTime = time.Minute

var answerTime = usualAnswerTime // but for tests

type page struct {
	source  source
	api     *queryAPI // nil: the store cannot be searched
	live    *Live
	opts    Options
	queries *fair.Budget // places
	memory  *fair.Budget
	tails   *fair.Budget // places
}

// New gives the handler of a page over a store that can be searched; live hands
// lines on to this store. Requests must end, their contexts with them, before the
// store is closed.
func New(store Store, live *Live, o Options) http.Handler {
	api := &queryAPI{store.Handler(), store.Text}
	return (&page{source: api, api: api, live: live, opts: o}).handler()
}

// NewWatch gives the handler of a page over a store that can only be watched.
func NewWatch(live *Live, o Options) http.Handler {
	return (&page{source: live, live: live, opts: o}).handler()
}

func (p *page) handler() http.Handler {
	p.memory, p.queries, p.tails = fair.New(pageMemory), fair.New(maxQueries), fair.New(maxTails)
	mux := http.NewServeMux()
	static, _ := fs.Sub(files, "static")
	all, err := fs.ReadDir(static, ".")
	if err != nil {
		panic(err) // they are embedded
	}
	var modules bytes.Buffer
	for _, f := range all {
		mux.Handle("GET /"+f.Name(), file(static, f.Name()))
		if path.Ext(f.Name()) == ".js" { // the browser need not read one to find the next
			modules.WriteString(`<link rel="modulepreload" href="/` + f.Name() + `">` + "\n")
		}
	}
	index, _ := fs.ReadFile(static, "index.html")
	index = bytes.Replace(index, []byte("<!-- modules -->\n"), modules.Bytes(), 1)
	if p.api != nil {
		mux.HandleFunc("GET /api/histogram", p.histogram)
		mux.HandleFunc("GET /api/groups", p.groups)
		mux.HandleFunc("GET /api/fields", p.fields)
		mux.HandleFunc("GET /api/download", p.download)
		mux.HandleFunc("GET /select/", p.selects)
		mux.HandleFunc("POST /select/", p.selects)
	} else {
		index = bytes.Replace(index, []byte(`data-searches="yes"`), []byte(`data-searches="no"`), 1)
	}
	mux.Handle("GET /{$}", content("text/html; charset=utf-8", index))
	mux.HandleFunc("GET /api/search", p.search)
	mux.HandleFunc("GET /api/line", p.line)
	mux.HandleFunc("GET /api/raw", p.raw)
	mux.HandleFunc("GET /api/around", p.around)
	mux.HandleFunc("GET /api/tail", p.tail)
	mux.HandleFunc("GET /api/health", p.health)
	mux.HandleFunc("GET /api/senders", p.senders)
	return guard(mux)
}

// guard lets no other page ask, and forbids browsers what is not needed.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address holds the query
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		site := r.Header.Get("Sec-Fetch-Site")
		if strings.HasPrefix(r.URL.Path, "/api/") && site != "" && site != "same-origin" && site != "none" {
			http.Error(w, "only the page itself may ask this", http.StatusForbidden)
			return
		}
		extend(w, answerTime)
		next.ServeHTTP(w, r)
	})
}

// extend gives an answer so much time from now on to be read.
func extend(w http.ResponseWriter, d time.Duration) {
	// An error means that there is no connection, and so no client that reads slowly.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

// who gives the name of the user that asks.
func (p *page) who(r *http.Request) string {
	if p.opts.Who == nil {
		return ""
	}
	return p.opts.Who(r)
}

// borrow waits until an answer may take n bytes in the name of the user that asks;
// ok is false if the client has gone meanwhile.
func (p *page) borrow(r *http.Request, n int64) (l *loan, ok bool) {
	who := p.who(r)
	if p.memory.Acquire(r.Context(), who, n) != nil {
		return nil, false
	}
	return &loan{p.memory, who, n}, true
}

// loan is what an answer has of the memory of all.
type loan struct {
	from *fair.Budget
	who  string
	n    int64
}

// shrink returns what exceeds n bytes.
func (l *loan) shrink(n int64) {
	if n < l.n {
		l.from.Release(l.who, l.n-n)
		l.n = n
	}
}

func (l *loan) release() { l.shrink(0) }

func file(static fs.FS, name string) http.Handler {
	body, err := fs.ReadFile(static, name)
	if err != nil {
		panic(err) // it is embedded
	}
	return content(mime.TypeByExtension(path.Ext(name)), body)
}

func content(kind string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	})
}
