package web

import (
	"net/http"
	"strings"
)

// acquire waits until a query may run in the name of the user that asks; ok is false
// if the client has gone meanwhile.
func (p *page) acquire(r *http.Request) (release func(), ok bool) {
	who := p.who(r)
	if p.queries.Acquire(r.Context(), who, 1) != nil {
		return nil, false
	}
	return func() { p.queries.Release(who, 1) }, true
}

// acquireTail takes a place for a live view. If there is none it says so to the
// client.
func (p *page) acquireTail(w http.ResponseWriter, r *http.Request) (release func(), ok bool) {
	who := p.who(r)
	if !p.tails.TryAcquire(who, 1) {
		http.Error(w, "too many live views are open", http.StatusServiceUnavailable)
		return nil, false
	}
	return func() { p.tails.Release(who, 1) }, true
}

// selects passes a request on to the query API of the store. It counts as a query of its
// user, so Grafana, curl and the library's own page give a user no more than this page
// does. The API bounds each answer itself.
func (p *page) selects(w http.ResponseWriter, r *http.Request) {
	release, ok := func() {}, true
	switch {
	case r.URL.Path == "/select/logsql/tail":
		release, ok = p.acquireTail(w, r)
	case !strings.HasPrefix(r.URL.Path, "/select/vmui"): // which is files
		release, ok = p.acquire(r)
	}
	if !ok {
		return
	}
	defer release()
	extend(w, answerTime)
	p.api.handler.ServeHTTP(w, r)
}
