package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/app/vlselect"
	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Limits on what is requested.
const (
	maxTails    = 64      // at the same time
	maxLimit    = 100_000 // rows that limit may ask for: they are sorted in memory
	maxForm     = 1 << 20 // bytes of a request
	maxQuery    = 16 << 10
	maxAnswer   = 4 << 30 // bytes
	maxLookBack = oneDay  // from which a tail begins
	minRefresh  = 100 * time.Millisecond
	readTime    = 30 * time.Second // in which a client must take what it is sent
)

// linesPath is ours alone: the query API gives rows, and no line as it came.
const linesPath = "/select/lines"

// vmuiPolicy lets the library's page load what stands beside it, and nothing else.
const vmuiPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler answers the query API of VictoriaLogs under its own paths, /select/logsql/...,
// its page, /select/vmui/, and with lines as they came, /select/lines. It does not
// authenticate the user. No request changes the store, and no other site may send one or
// read an answer.
func (s *Store) Handler() http.Handler { return s.whileOpen(http.HandlerFunc(s.selects)) }

// whileOpen ends requests when the store closes.
func (s *Store) whileOpen(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.using.TryRLock() {
			http.Error(w, "the store is closing", http.StatusServiceUnavailable)
			return
		}
		defer s.using.RUnlock()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		running := &request{began: time.Now(), cancel: cancel, w: http.NewResponseController(w)}
		s.requests.Store(running, nil)
		defer running.ended()
		defer s.requests.Delete(running)
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// request is one that runs.
type request struct {
	began  time.Time
	cancel context.CancelFunc

	mu sync.Mutex
	w  *http.ResponseController // nil: the request has ended
}

func (r *request) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.w = nil
}

// end ends the request, also where its client takes nothing.
func (r *request) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w != nil {
		r.cancel()
		_ = r.w.SetWriteDeadline(time.Now()) // a test's recorder has none
	}
}

// endRequests ends those that began before a time.
func (s *Store) endRequests(before time.Time) {
	s.requests.Range(func(r, _ any) bool {
		if r := r.(*request); r.began.Before(before) {
			r.end()
		}
		return true
	})
}

func (s *Store) selects(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	requested := path.Clean(r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") {
		requested += "/"
	}
	page := requested == "/select/vmui" || strings.HasPrefix(requested, "/select/vmui/")
	if page {
		h.Set("Content-Security-Policy", vmuiPolicy)
	} else if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		http.Error(w, "another site may not ask this", http.StatusForbidden)
		return
	}
	if !page && !strings.HasPrefix(requested, "/select/logsql/") && requested != linesPath && requested != "/select/buildinfo" &&
		requested != "/select/tenant_ids" {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.Clone(ctx) // the library changes the address
	r.URL.Path = requested
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if reason := unbounded(r, requested); reason != "" {
		http.Error(w, reason, http.StatusBadRequest)
		return
	}
	if requested == "/select/logsql/tail" {
		select {
		case s.tails <- struct{}{}:
			defer func() { <-s.tails }()
		default:
			http.Error(w, "too many users watch new lines at the same time; try again later",
				http.StatusServiceUnavailable)
			return
		}
	}
	b := &boundedAnswer{
		ResponseWriter: w, left: maxAnswer, stop: cancel, control: http.NewResponseController(w),
		limit: s.opts.QueryTime,
	}
	if requested == linesPath {
		s.newest(b, r)
	} else if !vlselect.RequestHandler(b, r) && !b.begun {
		http.NotFound(w, r)
		return
	}
	b.finish()
}

// unbounded gives the reason why what a request asks for has no bound.
func unbounded(r *http.Request, requested string) string {
	_ = r.ParseForm()
	for _, name := range []string{"query", "extra_filters", "extra_stream_filters"} {
		for _, q := range r.Form[name] {
			if len(q) > maxQuery { // nested deeper, it would take the stack of the process
				return "the query is too long"
			}
		}
	}
	if n, err := strconv.ParseInt(r.FormValue("limit"), 10, 64); err == nil && n > maxLimit && requested != linesPath {
		return fmt.Sprintf("limit may be at most %d; leave it out to get all lines, not sorted", maxLimit)
	}
	if requested != "/select/logsql/tail" {
		return ""
	}
	if d, ok := logstorage.TryParseDuration(r.FormValue("refresh_interval")); ok && d < int64(minRefresh) {
		return "refresh_interval must be at least " + minRefresh.String()
	}
	if d, ok := logstorage.TryParseDuration(r.FormValue("start_offset")); ok && d > int64(maxLookBack) {
		return "start_offset may be at most " + maxLookBack.String()
	}
	return ""
}

// boundedAnswer passes an answer of the library on. It says what went wrong in our
// words where the library names its command line flags, and breaks the connection if
// an answer ends early, so that the client does not take it for complete.
type boundedAnswer struct {
	http.ResponseWriter
	control *http.ResponseController
	stop    context.CancelFunc
	limit   time.Duration
	left    int64
	begun   bool // the header is sent
	status  int  // of an error, 0: none
	text    bytes.Buffer
}

func (b *boundedAnswer) WriteHeader(status int) {
	if status >= 400 {
		b.status = status
		return
	}
	b.begin(status)
}

func (b *boundedAnswer) begin(status int) {
	if b.begun {
		return
	}
	b.begun = true
	for name := range b.Header() {
		if strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Vl-") {
			b.Header().Del(name)
		}
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *boundedAnswer) Write(p []byte) (int, error) {
	if b.status != 0 {
		if b.text.Len() < 64<<10 {
			b.text.Write(p)
		}
		return len(p), nil
	}
	b.begin(http.StatusOK)
	if b.left -= int64(len(p)); b.left < 0 {
		b.status = http.StatusRequestEntityTooLarge
		b.text.WriteString("the answer is too large")
		b.stop()
		return 0, errors.New("the answer is too large")
	}
	_ = b.control.SetWriteDeadline(time.Now().Add(readTime)) // not every connection has one
	n, err := b.ResponseWriter.Write(p)
	if err != nil {
		b.stop()
	}
	return n, err
}

// Flush sends what was written; the library insists on the method.
func (b *boundedAnswer) Flush() {
	b.begin(http.StatusOK)
	_ = b.control.Flush()
}

func (b *boundedAnswer) finish() {
	if b.status == 0 {
		b.begin(http.StatusOK) // of an empty answer, too, the headers are looked at
		return
	}
	text := strings.TrimSpace(b.text.String())
	switch {
	case strings.Contains(text, "-search.maxConcurrentRequests"):
		text = "too many queries at the same time; try again later"
	case strings.Contains(text, "-search.maxQueryDuration"):
		text = fmt.Sprintf("the query took longer than %s; narrow its time range or add a filter", b.limit)
	case strings.Contains(text, "-search.maxQueryLen"):
		text = "the query is too long"
	}
	if b.begun {
		fmt.Fprintf(b.ResponseWriter, "\n%s\n", text)
		_ = b.control.Flush()
		panic(http.ErrAbortHandler)
	}
	b.Header().Del("Content-Length")
	b.Header().Set("Content-Type", "text/plain; charset=utf-8")
	b.begin(b.status)
	_, _ = io.WriteString(b.ResponseWriter, text+"\n")
}

// serveOn answers the command line until ctx ends.
func (s *Store) serveOn(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("/select/", func(w http.ResponseWriter, r *http.Request) {
		s.applied(r.Context())
		if err := s.db.see(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.selects(w, r)
	})
	mux.HandleFunc("POST /lines", s.lines)
	mux.HandleFunc("POST /store/owners", s.owners)
	mux.HandleFunc("POST /store/verify", func(w http.ResponseWriter, r *http.Request) {
		report, err := s.Verify(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(report) // the client sees that it is cut short
	})
	mux.HandleFunc("POST /store/backup", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Backup(r.Context(), r.FormValue("to")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Handler: s.whileOpen(mux), ReadHeaderTimeout: readTime, ErrorLog: nil}
	s.tasks.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Warn("query.sock failed", "err", err, "effect", "wsreceive search and backup cannot reach this process", "hint", "restart wsreceive")
		}
	})
	s.tasks.Go(func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
	})
}
